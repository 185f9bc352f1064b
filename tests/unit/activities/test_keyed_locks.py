"""Locks by name: one holder a key, no trace of keys nobody wants."""

import asyncio

import pytest

from activities.keyed_locks import KeyedLocks


async def test_one_holder_at_a_time_and_in_order():
    """Those who wait come in the order in which they asked."""
    locks, order = KeyedLocks(), []

    async def work(name):
        async with locks.hold("a"):
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    await asyncio.gather(*(work(n) for n in range(3)))

    assert order == ["0 in", "0 out", "1 in", "1 out", "2 in", "2 out"]


async def test_other_keys_do_not_wait():
    """Different contents have nothing to do with each other."""
    locks = KeyedLocks()
    async with locks.hold("a"), asyncio.timeout(1), locks.hold("b"):
        pass


async def test_whoever_gives_up_or_fails_frees_the_key():
    """A cancelled waiter and a failed holder leave the lock to the next."""
    locks = KeyedLocks()

    async def wait():
        async with locks.hold("a"):
            raise AssertionError("it never had the lock")

    async def fail():
        async with locks.hold("a"):
            await asyncio.sleep(0.01)
            raise ValueError("broken")

    failing, waiting = asyncio.create_task(fail()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(ValueError, match="broken"):
        await failing
    async with asyncio.timeout(1), locks.hold("a"):
        assert waiting.cancelled()


async def test_nothing_is_kept_of_keys_nobody_holds():
    """A worker sees millions of contents in its life."""
    locks = KeyedLocks()
    for number in range(100):
        async with locks.hold(str(number)):
            pass

    assert vars(locks) == {"_locks": {}, "_held_alone": set()}


async def test_several_keys_are_held_together_and_in_one_order():
    """Two who want the same keys in another order come one after the other instead of waiting for ever."""
    locks, order = KeyedLocks(), []

    async def work(*keys):
        async with locks.hold_all(keys, 1) as busy:
            assert not busy
            order.append(f"{keys} in")
            await asyncio.sleep(0)
            order.append(f"{keys} out")

    async with asyncio.timeout(1):
        await asyncio.gather(work("a", "b", "a"), work("b", "a"))

    assert [entry.split()[-1] for entry in order] == ["in", "out", "in", "out"]
    assert vars(locks) == {"_locks": {}, "_held_alone": set()}


async def test_what_somebody_holds_alone_for_long_is_not_waited_for():
    """It is told, all the others are held, and nothing of it stays behind."""
    locks = KeyedLocks()
    async with locks.hold("b"):
        async with locks.hold_all(["c", "a", "b"], 0.05) as busy:
            assert busy == {"b"}
            assert set(locks._locks) == {"a", "b", "c"}
        assert set(locks._locks) == {"b"}
        async with locks.hold_all(["a"], 0) as busy:
            assert not busy

    assert vars(locks) == {"_locks": {}, "_held_alone": set()}


async def test_what_somebody_holds_among_others_is_waited_for():
    """He goes on soon, and lets go of it."""
    locks, order = KeyedLocks(), []

    async def hold_for(seconds, *keys):
        async with locks.hold_all(keys, 0.02) as busy:
            assert not busy
            await asyncio.sleep(seconds)
            order.append(keys)

    await asyncio.gather(hold_for(0.2, "a", "b"), hold_for(0, "b", "c"))

    assert order == [("a", "b"), ("b", "c")]
    assert vars(locks) == {"_locks": {}, "_held_alone": set()}


async def test_nobody_waits_for_what_is_hopeless():
    """Whoever is in line for it when it turns out to be goes on without it; what nobody holds is to be had all the same."""
    locks, hopeless = KeyedLocks(), {"c"}
    async with locks.hold_all(["b"], 60) as nothing:
        asyncio.get_running_loop().call_later(0.05, hopeless.add, "b")
        async with asyncio.timeout(1), locks.hold_all(["a", "b", "c"], 60, hopeless) as busy:
            assert (nothing, busy) == (set(), {"b"})
            assert set(locks._locks) == {"a", "b", "c"}

    assert vars(locks) == {"_locks": {}, "_held_alone": set()}
