"""Worked out by hand: 10,000 files of half a megabyte in 10 units, 2 CPUs measured on one node."""

from dataclasses import replace

import pytest

from hemo.cluster.convert.estimate import (
    Cluster,
    MeasuredSpeeds,
    Workload,
    efficiency,
    estimate_conversion,
    node_bounds,
)

WORK = Workload(files=10_000, size_bytes=5_000_000_000, units=10)
MEASURED = MeasuredSpeeds(
    nodes=1,
    cpus=2,
    read_bytes_per_s=1e9,  # 2,000 files/s
    cpu_s_per_file=0.002,  # 500 files/s a CPU
    write_bytes_per_s=60e6,  # 1,500 files/s
    files_per_s=900.0,  # of 1,000: an efficiency of 0.9
    written_bytes_per_file=40_000,
    list_s=1.0,
    start_s=2.0,
    index_s_per_file=1e-4,  # 1 s in all
)


def test_the_bounds_of_a_node_are_files_a_second():
    assert node_bounds(WORK, MEASURED, 2) == {"read": 2000, "decode": 1000, "write": 1500}
    assert node_bounds(WORK, MEASURED, 8) == {"read": 2000, "decode": 4000, "write": 1500}


def test_what_was_measured_on_two_nodes_is_divided_for_one():
    assert node_bounds(WORK, replace(MEASURED, nodes=2, cpus=4), 2) == {"read": 1000, "decode": 1000, "write": 750}


def test_the_efficiency_is_what_is_left_of_the_narrowest_bound():
    assert efficiency(WORK, MEASURED) == pytest.approx(0.9)
    assert efficiency(WORK, replace(MEASURED, nodes=2, cpus=4, read_bytes_per_s=0.8e9)) == pytest.approx(900 / 1500)


def test_one_node_takes_its_full_rounds_and_what_is_done_once():
    """5 rounds of 2 units of 1,000 files at 900 files/s, and 4 s once."""
    found = estimate_conversion(WORK, MEASURED, Cluster(1, 2, price_per_node_hour=36.0))
    seconds = 10_000 / 900 + 4
    assert found.hours == pytest.approx(seconds / 3600)
    assert found.cost == pytest.approx(36 * seconds / 3600)
    assert (found.bound, found.files_per_s) == ("decode", pytest.approx(900))
    assert found.busy == pytest.approx(10_000 / 900 / seconds)


def test_more_nodes_share_the_units_and_pay_for_idle_cpus():
    """8 CPUs: one round of 8 units at 3,600 files/s, then 2 units of 1,000 files at 2 ms a file, 6 CPUs idle."""
    found = estimate_conversion(WORK, MEASURED, Cluster(4, 2, price_per_node_hour=1.0))
    seconds = 8_000 / 3600 + 2 + 4
    assert found.hours == pytest.approx(seconds / 3600)
    assert found.node_hours == found.cost == pytest.approx(4 * seconds / 3600)


def test_the_last_round_of_many_units_runs_at_the_rate_of_the_cluster():
    """7 units on 8 CPUs bound by writing at 1,350 files/s take longer than one unit on one CPU."""
    work = replace(WORK, files=7000, size_bytes=3_500_000_000, units=7)
    found = estimate_conversion(work, MEASURED, Cluster(1, 8))
    assert found.bound == "write"
    assert found.hours * 3600 == pytest.approx(7000 / 1350 + 3.7)


def test_a_larger_node_is_bound_by_what_does_not_grow_with_its_cpus():
    slow = replace(MEASURED, read_bytes_per_s=0.6e9)
    found = estimate_conversion(WORK, slow, Cluster(2, 16))
    assert (found.bound, found.files_per_s) == ("read", pytest.approx(2 * 1200 * 0.9))


def test_shared_storage_caps_all_nodes_together():
    found = estimate_conversion(WORK, MEASURED, Cluster(4, 2, storage_bytes_per_s=1e9))
    assert (found.bound, found.files_per_s) == ("shared storage", 2000)
    assert estimate_conversion(WORK, MEASURED, Cluster(1, 2, storage_bytes_per_s=1e9)).bound == "decode"


def test_without_a_price_there_is_no_cost():
    assert estimate_conversion(WORK, MEASURED, Cluster(1, 2)).cost is None
