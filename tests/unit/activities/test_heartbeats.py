"""Beats in the background: when they start, what they carry, and that they end."""

import asyncio

from activities.heartbeats import StageHeartbeat, beating_plainly
from ingather.models.content import Stage
from tests.support.ingesting import activity_environment
from tests.support.waiting import until


async def test_a_quick_document_does_not_beat():
    """Most documents end before the first beat: none is sent for nothing."""
    environment, beats = activity_environment(), []
    environment.on_heartbeat = beats.append

    async def quick():
        async with StageHeartbeat().beating():
            await asyncio.sleep(0)

    await environment.run(quick)

    assert beats == []


async def test_each_beat_tells_the_stage_of_its_moment():
    """Details are typed, and name file, stage and start."""
    environment, beats = activity_environment(), []
    environment.on_heartbeat = beats.append

    async def slow():
        async with StageHeartbeat().beating() as heartbeat:
            heartbeat.filename = "a.pdf"
            heartbeat.enter(Stage.PARSING)
            await until(lambda: len(beats) == 1)
            heartbeat.enter(Stage.EMBEDDING)
            await until(lambda: len(beats) == 2)

    await environment.run(slow)

    assert [(beat.filename, beat.stage) for beat in beats] == [("a.pdf", Stage.PARSING), ("a.pdf", Stage.EMBEDDING)]
    assert beats[0].started_at == beats[1].started_at


async def test_a_batch_wide_activity_beats_at_once_and_stops_with_its_block():
    """An error in the block ends the beating too."""
    environment, beats = activity_environment(), []
    environment.on_heartbeat = lambda: beats.append(1)

    async def broken():
        async with beating_plainly():
            await until(lambda: bool(beats))
            raise ValueError("broken")

    try:
        await environment.run(broken)
    except ValueError:
        count = len(beats)
    await asyncio.sleep(1.1)

    assert len(beats) == count
