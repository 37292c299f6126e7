"""What `auto` takes, and what it refuses to guess."""

import pytest
import ray
from pydantic import ValidationError

from hemo.cluster.capacity import gpus_per_trial_worker, gpus_per_worker, plan_in_words, trials_at_once
from hemo.config.tune import TuneConfig, WorkersConfig
from hemo.errors import ConfigError


@pytest.fixture
def cluster(monkeypatch):
    """Return a function that says what each node of the cluster has; one that was lost is listed with them."""
    lost = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}

    def set_nodes(*nodes):
        alive = [{"Alive": True, "Resources": resources} for resources in nodes]
        monkeypatch.setattr(ray, "nodes", lambda: [lost, *alive])

    return set_nodes


def job(**fields):
    return TuneConfig.model_validate(
        {"training_set": "/set", "out": "/out", "grid": {"axes": {"seed": [0, 1]}}, **fields}
    )


@pytest.mark.parametrize(
    ("workers", "gpus", "count", "expected"),
    [
        ({}, 0.0, 20, 8),  # 8 CPUs, one each
        ({"cpus": 3}, 0.0, 20, 2),
        ({"cpus": 3}, 1.0, 20, 2),
        ({"cpus": 1}, 0.5, 20, 4),  # 2 GPUs, half a GPU each
        ({"cpus": 1}, 0.0, 3, 3),  # no more than there are
        ({"cpus": 2, "count": 2}, 0.0, 20, 2),
    ],
)
def test_trials_at_once(cluster, workers, gpus, count, expected):
    cluster({"CPU": 8.0, "GPU": 2.0})
    assert trials_at_once(job(workers=workers), gpus, count) == expected
    assert trials_at_once(job(workers=workers, concurrent=2), gpus, count) == 2


@pytest.mark.parametrize(
    ("workers", "gpus", "expected"),
    [
        ({"cpus": 4}, 0.0, 4),
        ({"cpus": 3}, 0.0, 4),  # one a node: three CPUs of two nodes hold none
        ({"cpus": 3, "count": 2}, 0.0, 2),
        ({"cpus": 1}, 0.5, 4),  # only two nodes have a GPU
        ({"cpus": 3}, 0.5, 2),  # two halves of a GPU, but CPUs for one
    ],
)
def test_trials_at_once_are_counted_by_node(cluster, workers, gpus, expected):
    """Four nodes of four CPUs, two of them with a GPU, and a head without CPUs."""
    cluster({"memory": 1e9}, *[{"CPU": 4.0, "GPU": 1.0}] * 2, *[{"CPU": 4.0}] * 2)
    assert trials_at_once(job(workers=workers), gpus, 20) == expected


def test_what_no_node_holds_is_said(cluster, monkeypatch):
    """16 CPUs in all are not 8 of one node, and two workers of 3 CPUs need two nodes."""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    cluster({"memory": 1e9}, *[{"CPU": 4.0}] * 4)
    wide = {"gpus": 0, "cpus": 8}
    assert plan_in_words(job(workers=wide, concurrent=2), 20) == (
        "2 at once, each on 8 CPU; the cluster has 16 CPU on 4 nodes now, where 0 fit: the others wait until it grows"
    )
    with pytest.raises(ConfigError, match=r"trial takes 8 CPU, each worker on one node; the cluster has 16 CPU on 4"):
        plan_in_words(job(workers=wide), 20)
    workers = {"gpus": 0, "cpus": 3, "count": 2}
    assert plan_in_words(job(workers=workers, concurrent=2), 20) == "2 at once, each on 6 CPU"
    assert plan_in_words(job(workers=workers, concurrent=3), 20) == (
        "3 at once, each on 6 CPU; the cluster has 16 CPU on 4 nodes now, where 2 fit: the others wait until it grows"
    )


def test_gpus_of_a_worker(cluster):
    cluster({"CPU": 8.0, "GPU": 2.0})
    assert (gpus_per_worker(WorkersConfig()), gpus_per_worker(WorkersConfig(gpus=0.25))) == (1.0, 0.25)
    cluster({"CPU": 8.0})
    assert gpus_per_worker(WorkersConfig()) == 0.0


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"concurrent": 2}, 1.0),  # as many GPUs as trials
        ({"concurrent": 5}, 0.3333),  # three on one GPU, two on the other; rounded down to what Ray counts
        ({"concurrent": 12}, 0.1666),
        ({}, 1.0),
        ({"concurrent": 5, "workers": {"gpus": 1}}, 1.0),  # as configured
        ({"concurrent": 5, "workers": {"count": 2}}, 1.0),  # workers of one trial never share
    ],
)
def test_gpus_are_shared_by_the_configured_number_of_trials(cluster, fields, expected):
    cluster({"CPU": 8.0, "GPU": 2.0})
    assert gpus_per_trial_worker(job(**fields)) == expected


def test_without_gpus_there_is_nothing_to_share(cluster):
    cluster({"CPU": 8.0})
    assert gpus_per_trial_worker(job(concurrent=5)) == 0.0


def test_a_cluster_whose_workers_are_still_to_come_is_not_guessed_at(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    cluster({"memory": 1e9})  # a head without CPUs
    with pytest.raises(ConfigError, match=r"workers\.gpus: `auto` .* no CPU yet; .*gpus 1 .* --concurrent N"):
        gpus_per_worker(WorkersConfig())
    with pytest.raises(ConfigError, match=r"takes 1 CPU, 1 GPU, .* has 0 CPU, 0 GPU\); .* --concurrent N"):
        trials_at_once(job(workers={"gpus": 1}), 1.0, 20)
    assert plan_in_words(job(workers={"gpus": 1}, concurrent=4), 20) == (
        "4 at once, each on 1 CPU, 1 GPU; the cluster has 0 CPU, 0 GPU now, where 0 fit: the others wait until it grows"
    )
    cluster({"CPU": 8.0})
    assert plan_in_words(job(), 2) == "2 at once, each on 1 CPU"


def test_less_than_no_gpu_is_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        WorkersConfig(gpus=-1)


def test_a_machine_that_cannot_grow_does_not_let_trials_wait(cluster, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster({"CPU": 2.0})
    config = job(workers={"gpus": 1}, concurrent=2)
    with pytest.raises(ConfigError, match="this machine has 2 CPU, 0 GPU and cannot grow; give --workers"):
        plan_in_words(config, 2)
