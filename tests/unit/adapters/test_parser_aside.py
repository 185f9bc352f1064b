"""Which processes may go on beside those that work, and which one makes room."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from ingather.adapters.parser_aside import Aside, held_bytes
from ingather.adapters.parser_server_link import Child

LIMIT = 1_000


@pytest.fixture
def make_child():
    """Children of no process."""
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair()
    yield lambda number: Child(number, ours, loop.create_future())
    ours.close()
    theirs.close()
    loop.close()


def filled(make_child, *held: int | None, processes: int = 2) -> tuple[Aside, list[Child]]:
    aside = Aside(processes, LIMIT)
    children = [make_child(number) for number in range(len(held))]
    for child, each in zip(children, held, strict=True):
        aside.put(child, each)
    return aside, children


def test_as_many_as_may_work_are_set_aside_whatever_they_hold(make_child):
    """Each has a limit of its own, so that there is nothing to count."""
    aside, _ = filled(make_child, LIMIT)
    assert aside.has_room(LIMIT)
    assert aside.has_room(None)


def test_more_fit_as_long_as_all_hold_little(make_child):
    """Together they hold no more than as many as may work might."""
    aside, _ = filled(make_child, 900, 900)
    assert aside.has_room(200)
    assert not aside.has_room(201)


def test_four_times_as_many_are_the_most(make_child):
    """However little they hold."""
    aside, _ = filled(make_child, *[0] * 7)
    assert aside.has_room(0)
    aside, _ = filled(make_child, *[0] * 8)
    assert not aside.has_room(0)


def test_where_nobody_tells_what_they_hold_it_may_be_much(make_child):
    """A platform that does not say has as many aside as may work, and none of them makes room."""
    aside, _ = filled(make_child, None, None)
    assert not aside.has_room(None)
    assert aside.call_off() is None


def test_the_youngest_makes_room_for_those_that_grow(make_child):
    """One after the other, until the rest fits."""
    aside, (first, second, third, fourth) = filled(make_child, 100, 100, 100, 100)
    assert aside.call_off() is None
    aside.put(first, 1_800)
    assert aside.call_off() is fourth
    assert aside.call_off() is None
    aside.put(second, 150)
    assert aside.call_off() is third
    assert fourth not in aside


def test_one_that_has_just_ended_costs_nobody_its_place(make_child):
    """It tells nothing any more, a moment before it is known to have ended, and no other one grew."""
    aside, (first, *_) = filled(make_child, 100, 100, 100)
    aside.put(first, None)
    assert aside.call_off() is None
    assert aside.has_room(100)


def test_the_eldest_are_let_be(make_child):
    """As many as may work never make room, so that each gets through in its turn."""
    aside, _ = filled(make_child, 1_500, 1_500)
    assert aside.call_off() is None


async def test_who_made_room_waits_until_another_leaves(make_child):
    """Trying again at once would only mean making room again, also where another one had to make room, too."""
    aside, (first, _, third) = filled(make_child, 900, 900, 900)
    waiting = asyncio.create_task(aside.one_leaves())
    await asyncio.sleep(0)
    assert aside.call_off() is third
    await asyncio.sleep(0)
    assert not waiting.done()
    aside.remove(first)
    await waiting
    await aside.one_leaves()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told in /proc")
def test_what_a_process_got_from_its_parent_does_not_count():
    """Only what it has beyond that."""
    assert held_bytes(os.getpid(), besides=os.getpid()) == 0
    assert (held_bytes(os.getpid(), besides=1) or 0) > 0


def test_a_process_that_is_gone_tells_nothing():
    """Its end is told otherwise."""
    assert held_bytes(2**30, besides=os.getpid()) is None
