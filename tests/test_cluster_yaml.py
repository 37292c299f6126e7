"""cluster.yaml passes Ray's own check, and what Ray does not check."""

import json
import os
import subprocess
import sys
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

BOOTSTRAP = """
import json, sys, boto3, yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.util import prepare_config
with mock_aws():
    iam = boto3.client("iam")
    for name in ("hemo-head", "hemo-data"):
        iam.create_instance_profile(InstanceProfileName=name)
    made = bootstrap_aws(prepare_config(yaml.safe_load(open(sys.argv[1]))))
print(json.dumps({name: node["node_config"] for name, node in made["available_node_types"].items()}))
"""


ALLOWED = """
import sys, boto3
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

policy = open(sys.argv[1]).read()


def user():
    iam = boto3.client("iam")
    iam.create_user(UserName="head")
    iam.put_user_policy(UserName="head", PolicyName="nodes", PolicyDocument=policy)
    key = iam.create_access_key(UserName="head")["AccessKey"]
    return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}


@set_initial_no_auth_action_count(0)
def autoscale(image, subnet, user):
    provider = {"region": "us-east-1", "cache_stopped_nodes": False, "aws_credentials": user}
    nodes = AWSNodeProvider(provider, "hemo")
    config = {"ImageId": image, "SubnetIds": [subnet], "InstanceType": "m7i.4xlarge"}
    nodes.create_node(config, {"ray-node-type": "worker", "ray-node-name": "w"}, 1)
    (node,) = nodes.non_terminated_nodes({})
    nodes.set_node_tags(node, {"ray-node-status": "up-to-date"})
    nodes.terminate_nodes([node])


with mock_aws():
    ec2 = boto3.client("ec2", region_name="us-east-1")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    autoscale(image, subnet, user())
print("allowed")
"""


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


def test_rays_provider_for_aws_completes_it(cluster: dict[str, Any], tmp_path: Path) -> None:
    """On moto's AWS: subnets, a security group and a key are found or made, and our own settings stay."""
    done = subprocess.run(
        [sys.executable, "-c", BOOTSTRAP, str(ROOT / "cluster.yaml")],
        env={**os.environ, "HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    types = json.loads(done.stdout.splitlines()[-1])
    assert set(types) == set(cluster["available_node_types"])
    for name, node in types.items():
        assert node["SubnetIds"]
        assert len(node["SecurityGroupIds"]) == 1
        assert node["KeyName"] == "ray-autoscaler_us-east-1"
        own = cluster["available_node_types"][name]["node_config"]
        assert {key: node[key] for key in own} == own


@pytest.mark.parametrize(
    ("policy", "refused"), [("head.json", ""), ("data.json", "not authorized to perform: ec2:RunInstances")]
)
def test_the_heads_policy_allows_what_rays_provider_does(policy: str, refused: str, tmp_path: Path) -> None:
    """On moto's AWS, which checks actions, not resources and conditions: start, list, tag and end a node."""
    done = subprocess.run(
        [sys.executable, "-c", ALLOWED, str(ROOT / "deploy/aws" / policy)],
        env={**os.environ, "HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.splitlines()[-1:] == ["allowed"]) is not bool(refused), done.stderr
    assert refused in done.stderr


def test_policies_and_cluster_name_the_same_roles_and_cluster(cluster: dict[str, Any]) -> None:
    profiles = {node["node_config"]["IamInstanceProfile"]["Name"] for node in cluster["available_node_types"].values()}
    assert profiles == {"hemo-head", "hemo-data"}
    policy = json.loads((ROOT / "deploy/aws/head.json").read_text())
    passed, ended = (
        next(each for each in policy["Statement"] if each["Action"] == action)
        for action in ("iam:PassRole", "ec2:TerminateInstances")
    )
    assert passed["Resource"].endswith(":role/hemo-data")
    assert ended["Condition"]["StringEquals"] == {"ec2:ResourceTag/ray-cluster-name": cluster["cluster_name"]}


def test_every_field_has_a_comment_beside_or_above_it() -> None:
    """Of those that choose something; the names of instance types and mounts speak for themselves."""
    lines = (ROOT / "cluster.yaml").read_text().splitlines()
    chosen = (
        "max_workers: 12",
        "upscaling_speed",
        "idle_timeout",
        "region",
        "cache_stopped",
        "InstanceType",
        "setup_commands",
    )
    found = [line for line in lines if any(line.strip().startswith(key) for key in chosen)]
    assert len(found) == 9
    assert [line for line in found if "#" not in line] == []


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
    assert [name for name, node in workers.items() if node["resources"].get("GPU")] == ["train"]
    assert all(node["node_config"]["IamInstanceProfile"] for node in types.values())
    assert types["convert"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    page = (ROOT / "docs/how-to/cluster.md").read_text()
    assert "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com" in page


def test_every_file_it_copies_is_here(cluster: dict[str, Any]) -> None:
    local = [path for path in cluster["file_mounts"].values() if not path.startswith("~")]
    assert len(local) == 6
    assert [path for path in local if not (ROOT / path).exists()] == []


def test_workers_keep_two_heaps_as_a_local_ray_does(cluster: dict[str, Any]) -> None:
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert any("MALLOC_ARENA_MAX=2 ray start" in command for command in commands)
