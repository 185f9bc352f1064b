"""At most so many activities in flight, each end told once and in order."""

import asyncio

import pytest

from workflows.window import MAX_IN_FLIGHT, Window


async def started(window, *keys, on_end=lambda _key, _task: None):
    handles = {key: asyncio.get_running_loop().create_future() for key in keys}
    for key, handle in handles.items():
        window.add(key, handle, lambda task, key=key: on_end(key, task))
    return handles


async def test_ends_are_told_in_the_order_in_which_they_happened():
    """Not in the order in which activities were started."""
    ended = []
    window = Window(3)
    handles = await started(window, 0, 1, 2, on_end=lambda key, task: ended.append((key, task.result())))

    for key in (2, 0, 1):
        handles[key].set_result(f"end of {key}")
    await asyncio.sleep(0)

    assert ended == [(2, "end of 2"), (0, "end of 0"), (1, "end of 1")]
    assert len(window) == 0


async def test_there_is_room_below_the_limit():
    """A place is free again when its activity ended."""
    window = Window(2)
    handles = await started(window, 5, 6)
    assert (window.has_room, window.keys) == (False, (5, 6))

    handles[5].set_result(None)
    await asyncio.sleep(0)

    assert (window.has_room, window.keys) == (True, (6,))


@pytest.mark.parametrize("wanted", [48, 49, 10_000])
async def test_no_window_is_wider_than_the_server_can_take(wanted):
    """Whatever a batch asks for: each finished activity buffers two events, and past 100 the server fails the task."""
    assert 2 * MAX_IN_FLIGHT < 100
    window = Window(wanted)
    await started(window, *range(MAX_IN_FLIGHT))
    assert not window.has_room


async def test_cancel_asks_all_or_those_named():
    """Their ends are told like any other."""
    ended = []
    window = Window(3)
    await started(window, 0, 1, 2, on_end=lambda key, task: ended.append((key, task.cancelled())))

    window.cancel([1])
    await asyncio.sleep(0)
    assert ended == [(1, True)]
    window.cancel()
    await asyncio.sleep(0)

    assert ended == [(1, True), (0, True), (2, True)]
