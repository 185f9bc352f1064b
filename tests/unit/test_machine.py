"""A worker takes its share of the machine, not the machine."""

import psutil

from ingather.machine import usable_cores, usable_memory_bytes


def test_a_container_limits_memory_and_cores(tmp_path):
    """Its limits count where they are below what the machine has."""
    (tmp_path / "memory.max").write_text("1048576\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_memory_bytes(tmp_path) == 1_048_576
    assert usable_cores(tmp_path) == 1


def test_without_limits_the_whole_machine_counts(tmp_path):
    """``max``, and no control group at all, are no limits."""
    everything = psutil.virtual_memory().total
    assert usable_memory_bytes(tmp_path) == everything
    assert usable_cores(tmp_path) >= 1
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_memory_bytes(tmp_path) == everything
    assert usable_cores(tmp_path) >= 1


def test_a_limit_above_the_machine_gives_it_nothing_more(tmp_path):
    """Memory that is not there cannot be used."""
    (tmp_path / "memory.max").write_text(str(2**60))
    assert usable_memory_bytes(tmp_path) == psutil.virtual_memory().total
