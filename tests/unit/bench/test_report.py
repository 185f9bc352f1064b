"""What the bench says at the end: ratios by round, so that a machine whose speed drifts does not matter."""

from bench.end_to_end import EndToEndResult
from bench.pool import PoolResult
from bench.run import Round, _summary


def ours(seconds):
    return EndToEndResult(
        documents=100, done=100, submit_seconds=0.1, seconds=seconds, engine_seconds=seconds, cpu_seconds={},
        peak_memory_bytes={}, history_events=400, history_bytes=60_000, activities=104, temporal_calls={},
        redis_calls=10,
    )  # fmt: skip


def test_the_share_is_the_median_of_the_rounds():
    """One round on a busy machine changes the seconds, not the promise."""
    rounds = [
        Round(PoolResult(pool, 100, 100), PoolResult(s3, 100, 100), PoolResult(direct, 100, 100), ours(seconds))
        for pool, s3, direct, seconds in ((1.0, 1.2, 1.5, 2.0), (10.0, 12.0, 15.0, 18.0), (1.0, 1.2, 1.5, 4.0))
    ]

    summary = _summary(rounds)

    assert summary["of_pool_median"] == 0.5
    assert summary["of_pool_into_s3_median"] == 0.6
    assert summary["of_activities_median"] == 0.75
    assert summary["ingather_per_second"] == [50.0, 5.6, 25.0]
    assert summary["last_round"]["history_events"] == 400


def test_a_workload_that_was_not_there_leaves_an_empty_place():
    """Without a corpus the bench still ends."""
    assert _summary([]) == {}
