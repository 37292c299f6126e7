"""cluster.yaml passes Ray's own check, and what Ray does not check."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


@pytest.fixture
def cluster() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    assert isinstance(content, dict)
    return content


def images(node: Any) -> Iterator[str]:
    """Yield every Docker image that stands anywhere in the file."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if key.endswith("image"):
            yield value
        yield from images(value)


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"idle_timeout_minuts": 5}, "idle_timeout_minuts"),
        ({"head_node_type": "master"}, "head_node_type"),
        ({"max_workers": "many"}, "many"),
    ],
)
def test_rays_check_would_notice(cluster: dict[str, Any], change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Exception, match=complaint):
        validate_config(prepare_config({**cluster, **change}))


def test_every_image_is_of_the_ray_that_is_installed(cluster: dict[str, Any]) -> None:
    assert [image.split("-")[0] for image in images(cluster)] == [f"rayproject/ray:{ray.__version__}"] * 3
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={ray.__version__}" in pinned


def test_no_list_of_commands_is_left_to_rays_defaults(cluster: dict[str, Any]) -> None:
    assert [key for key in COMMANDS if key not in cluster] == []
    prepared = prepare_config(cluster)
    assert prepared["head_setup_commands"] == cluster["setup_commands"]
    assert prepared["head_start_ray_commands"] == cluster["head_start_ray_commands"]
    assert not [command for key in COMMANDS for command in prepared[key] if ".dev0" in command]


def test_nothing_listens_to_the_network_and_a_token_is_asked(cluster: dict[str, Any]) -> None:
    text = (ROOT / "cluster.yaml").read_text()
    start = " ".join(cluster["head_start_ray_commands"])
    assert "0.0.0.0" not in text
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_head_takes_no_work_and_workers_come_and_go(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    head = types[cluster["head_node_type"]]
    workers = {name: node for name, node in types.items() if name != cluster["head_node_type"]}
    assert head["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in " ".join(cluster["head_start_ray_commands"])
    assert all(node["min_workers"] == 0 < node["max_workers"] for node in workers.values())
    assert sum(node["max_workers"] for node in workers.values()) == cluster["max_workers"]
    assert [name for name, node in workers.items() if node["resources"].get("GPU")] == ["gpu"]


def test_every_file_it_copies_is_here(cluster: dict[str, Any]) -> None:
    local = [path for path in cluster["file_mounts"].values() if not path.startswith("~")]
    assert len(local) == 6
    assert [path for path in local if not (ROOT / path).exists()] == []


def test_workers_keep_two_heaps_as_a_local_ray_does(cluster: dict[str, Any]) -> None:
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert any("MALLOC_ARENA_MAX=2 ray start" in command for command in commands)
