"""How writes find each other and part again."""

import asyncio

import pytest

from ingather.adapters.sql.group_commit import GroupCommit


class Recorder:
    """Remembers the groups; odd numbers above 100 are refused."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []

    async def write(self, group):
        await asyncio.sleep(0.001)
        self.groups.append(list(group))
        return [ValueError(str(item)) if item > 100 and item % 2 else None for item in group]


async def test_writes_at_the_same_time_share_a_group():
    """What is added while the first one lingers is committed with it, in order, a full group at a time."""
    recorder = Recorder()
    commits = GroupCommit(recorder.write, linger_seconds=0.01, most=40)
    await asyncio.gather(*(commits.add(number) for number in range(100)))
    assert recorder.groups == [list(range(40)), list(range(40, 80)), list(range(80, 100))]


async def test_each_caller_hears_of_its_own():
    """A refused item fails for its caller; the others in its group succeed."""
    commits = GroupCommit(Recorder().write, linger_seconds=0, most=10)
    answers = await asyncio.gather(*(commits.add(number) for number in (1, 101, 2)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), ValueError, type(None)]


async def test_a_writer_that_breaks_fails_the_whole_group_and_no_other():
    """An unexpected error reaches every caller of the group; the next group is tried afresh."""
    recorder = Recorder()
    broken = True

    async def write(group):
        if broken:
            raise RuntimeError("disk on fire")
        return await recorder.write(group)

    commits = GroupCommit(write, linger_seconds=0, most=10)
    answers = await asyncio.gather(commits.add(1), commits.add(2), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["disk on fire"] * 2
    broken = False
    await commits.add(3)
    assert recorder.groups == [[3]]


async def test_closing_waits_for_what_was_added():
    """Nothing added before the close is left unwritten."""
    recorder = Recorder()
    commits = GroupCommit(recorder.write, linger_seconds=0.01, most=10)
    adding = asyncio.create_task(commits.add(1))
    await asyncio.sleep(0)
    await commits.close()
    assert recorder.groups == [[1]]
    await adding


async def test_a_cancelled_caller_is_no_trouble():
    """The item is written all the same, and the others hear of theirs."""
    recorder = Recorder()
    commits = GroupCommit(recorder.write, linger_seconds=0.01, most=10)
    first, second = asyncio.create_task(commits.add(1)), asyncio.create_task(commits.add(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert recorder.groups == [[1, 2]]
