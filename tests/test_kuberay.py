"""The manifests of deploy/kuberay fit KubeRay's own definitions, and each other."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from hemo.config.load import load_config
from tests.test_conf import CONFIGS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kuberay"
MANIFESTS = ("raycluster.yaml", "rayjob-convert.yaml", "rayjob-tune.yaml")
DEFINITIONS = {"RayCluster": "ray.io_rayclusters.yaml", "RayJob": "ray.io_rayjobs.yaml"}


def manifest(name: str) -> dict[str, Any]:
    content = yaml.safe_load((FOLDER / name).read_text())
    assert isinstance(content, dict)
    return content


def cluster_of(content: dict[str, Any]) -> dict[str, Any]:
    spec = content["spec"]
    cluster = spec if content["kind"] == "RayCluster" else spec["rayClusterSpec"]
    assert isinstance(cluster, dict)
    return cluster


def closed(schema: Any) -> Any:
    """Return a schema that allows no key it does not name, as the API server drops or refuses such keys."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def check(content: dict[str, Any], definitions: Path) -> None:
    definition = yaml.safe_load((definitions / DEFINITIONS[content["kind"]]).read_text())
    version = content["apiVersion"].partition("/")[2]
    schemas = {each["name"]: each["schema"]["openAPIV3Schema"] for each in definition["spec"]["versions"]}
    schema = closed(schemas[version]["properties"]["spec"])
    jsonschema.Draft202012Validator(schema).validate(content["spec"])


@pytest.fixture
def definitions(shared_data: Path) -> Path:
    return shared_data / "kuberay-crds"


@pytest.mark.parametrize("name", MANIFESTS)
def test_kuberay_accepts_it(name: str, definitions: Path) -> None:
    check(manifest(name), definitions)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("authOptions", "mode"), "tokens", "tokens"),
        (("authOption",), {}, "authOption"),
        (("autoscalerOptions", "version"), "v3", "v3"),
        (("workerGroupSpecs", 0, "template", "spec", "containers", 0, "img"), "x", "img"),
        (("workerGroupSpecs", 0, "maxReplicas"), "many", "many"),
    ],
)
def test_the_check_would_notice(path: tuple[Any, ...], value: Any, complaint: str, definitions: Path) -> None:
    content = copy.deepcopy(manifest("raycluster.yaml"))
    place: Any = content["spec"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError, match=complaint):
        check(content, definitions)


def pods(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    groups = {"head": cluster["headGroupSpec"], **{each["groupName"]: each for each in cluster["workerGroupSpecs"]}}
    return {name: group["template"]["spec"] for name, group in groups.items()}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_token_is_required_and_the_head_takes_no_work(name: str) -> None:
    cluster = cluster_of(manifest(name))
    assert cluster["authOptions"] == {"mode": "token", "secretName": "hemo-ray-token"}
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert "hemo-ray-token --from-literal=auth_token=" in (FOLDER / name).read_text()


@pytest.mark.parametrize("name", MANIFESTS)
def test_workers_come_and_go_and_ray_counts_what_a_pod_has(name: str) -> None:
    cluster = cluster_of(manifest(name))
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["rayVersion"] == ray.__version__
    assert all(group["minReplicas"] == 0 < group["maxReplicas"] for group in cluster["workerGroupSpecs"])
    for group, pod in pods(cluster).items():
        (container,) = pod["containers"]
        limits = container["resources"]["limits"]
        assert limits == container["resources"]["requests"]
        assert ("nvidia.com/gpu" in limits) == (group == "train") == container["image"].endswith("-gpu")
        assert pod["restartPolicy"] == "Never"
        (volume,) = pod["volumes"]
        assert volume["emptyDir"]["medium"] == "Memory"
        shared_gib, memory_gib = (
            int(size.removesuffix("Gi")) for size in (volume["emptyDir"]["sizeLimit"], limits["memory"])
        )
        assert 0.3 * memory_gib <= shared_gib <= 0.5 * memory_gib  # Ray's object store takes 30 %


def test_the_clusters_of_the_jobs_are_the_cluster() -> None:
    whole = cluster_of(manifest("raycluster.yaml"))
    groups = {each["groupName"]: each for each in whole.pop("workerGroupSpecs")}
    for name, group in (("rayjob-convert.yaml", "convert"), ("rayjob-tune.yaml", "train")):
        own = cluster_of(manifest(name))
        assert own.pop("workerGroupSpecs") == [groups[group]]
        assert own == whole


@pytest.mark.parametrize("name", MANIFESTS[1:])
def test_the_command_of_a_job_is_one_that_hemo_takes(name: str) -> None:
    python, flag, module, *words = manifest(name)["spec"]["entrypoint"].split()
    assert (python, flag) == ("python", "-m")
    job = module.removeprefix("ray_jobs.")
    load_config(CONFIGS[job], words, job=job)


def test_the_image_is_of_the_ray_that_is_pinned_and_holds_what_a_job_reads() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    assert f"ARG RAY=rayproject/ray:{ray.__version__}-py311" in lines
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[2:-1]]
    assert {"pyproject.toml", "constraints.txt", "hemo", "ray_jobs", "conf"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert any("pip install" in line and "-c constraints.txt" in line for line in lines)
