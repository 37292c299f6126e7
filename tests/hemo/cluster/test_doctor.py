"""Facts of nodes become findings with their cures; on a real cluster every check runs."""

from dataclasses import replace
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError

from hemo.cluster import doctor as doctor_module
from hemo.cluster.doctor import (
    Finding,
    NodeFacts,
    fault_of,
    findings,
    listening_everywhere,
    probe,
    storage_fault,
    token_finding,
)
from hemo.storage import is_temporary, list_files, remove, write_bytes
from ray_jobs import doctor

DRIVER = {"ray": "2.60.0", "torch": "2.14.1"}
WELL = NodeFacts(
    "node-1 (abcdef)",
    versions=tuple(DRIVER.items()),
    store_bytes=2e9,
    shm_bytes=4e9,
    disk_free_bytes=100e9,
)
CHECKS = ["versions", "storage", "GPUs", "memory", "disk", "clocks", "ports"]


def of(node: NodeFacts, check: str) -> list[Finding]:
    return [found for found in findings(DRIVER, [WELL, node], ["s3://bucket/out"]) if found.check == check]


def test_every_check_says_that_it_is_passed():
    found = list(findings(DRIVER, [WELL, replace(WELL, gpus=2.0)], ["s3://bucket/out"]))
    assert [(each.severity, each.check, each.cure) for each in found] == [("ok", check, "") for check in CHECKS]
    assert [each.what for each in found][2:5] == [
        "torch computes on a GPU of each node that has some, 2 in all",
        "the smallest object store has 2.0 GB",
        "100.0 GB free at least, where Ray spills objects",
    ]


@pytest.mark.parametrize(
    ("change", "check", "severity", "what", "cure"),
    [
        (
            {"versions": (("ray", "2.59.0"), ("torch", "2.14.1"))},
            "versions",
            "fatal",
            "ray 2.59.0 and not 2.60.0",
            "-c",
        ),
        ({"versions": ()}, "versions", "fatal", "ray None and not 2.60.0, torch None and not 2.14.1", "one image"),
        ({"storage_faults": (("/data", "full"),)}, "storage", "fatal", "cannot use /data: full", "s3://bucket/folder"),
        ({"storage_faults": (("s3://b/c", "403"),)}, "storage", "fatal", "cannot use s3://b/c: 403", "a role"),
        ({"gpus": 4.0, "gpu_fault": "no driver"}, "GPUs", "fatal", "Ray counts 4, but no driver", "--num-gpus=0"),
        ({"shm_bytes": 64e6}, "memory", "warning", "/dev/shm has 64.0 MB, the object store 2.0 GB", "--shm-size"),
        (
            {"gpus": 4.0, "gpus_busy": True},
            "GPUs",
            "warning",
            "all 4 are in use, so none was examined",
            "when they are",
        ),
        ({"store_bytes": 100e6}, "memory", "warning", "the object store has 100.0 MB", "--object-store-memory"),
        ({"disk_free_bytes": 19e9}, "disk", "warning", "19.0 GB free", "--temp-dir"),
        ({"disk_free_bytes": 1e9}, "disk", "fatal", "1.0 GB free", "larger disk"),
        ({"clock_ahead_s": -6.0}, "clocks", "warning", "by -6 s", "chrony"),
        ({"clock_ahead_s": 400.0, "clock_error_s": 1.0}, "clocks", "fatal", "by +400 s", "chrony"),
        ({"open_ports": (8265,)}, "ports", "warning", "the dashboard listens on all", "--dashboard-host=127.0.0.1"),
        ({"open_ports": (10001,)}, "ports", "warning", "Ray Client listens on all", "firewall"),
    ],
)
def test_a_fault_names_the_node_and_the_cure(change, check, severity, what, cure):
    (found,) = of(replace(WELL, name="node-2 (123456)", **change), check)
    assert found.severity == severity
    assert what in found.what
    assert "node-2 (123456)" in found.what
    assert cure in found.cure


def test_a_difference_within_the_error_of_the_clock_is_none():
    (found,) = of(replace(WELL, clock_ahead_s=6.0, clock_error_s=2.0), "clocks")
    assert found.severity == "ok"


def test_a_node_that_runs_nothing_is_one_finding_and_no_other():
    found = of(NodeFacts("node-3", fault="The actor died"), "nodes")
    assert [str(each) for each in found] == [
        "fatal: nodes: node-3 runs nothing: The actor died; see the logs of its raylet, or terminate it: the "
        "autoscaler starts another"
    ]
    assert of(NodeFacts("node-3", fault="The actor died"), "versions")[0].severity == "ok"


def test_where_no_node_answers_nothing_is_said_to_be_well():
    found = findings(DRIVER, [NodeFacts("node-3", fault="The actor died")], ["/data"])
    assert [(each.severity, each.check) for each in found] == [("fatal", "nodes")]


MISSING = "Failed to import on the worker.\n\nTraceback:\n  File ...\nModuleNotFoundError: No module named 'hemo'\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RayTaskError("facts", "a traceback" * 99, OSError(28, "No space left")), "OSError: [Errno 28] No space left"),
        (
            RayTaskError("facts", "a traceback" * 99, RuntimeError(MISSING)),
            "ModuleNotFoundError: No module named 'hemo'",
        ),
        (
            ActorDiedError(RayTaskError("init", f"{'Traceback ' * 99}\nKeyError: 'x'", KeyError("x"))),
            "KeyError: 'x'",
        ),
        (ActorDiedError(), "The actor died unexpectedly before finishing this task."),
        (GetTimeoutError("Get timed out"), "no answer within 120 s"),
    ],
)
def test_the_cause_of_a_nodes_fault_is_shown(error, line):
    """Of a traceback that is the last line."""
    assert fault_of(error) == line


def test_a_location_is_examined_in_a_folder_of_its_own(monkeypatch):
    """A corpus of a million files beside it is not listed, and nothing of the examination is left."""
    write_bytes("memory://doctor/ID_1.dcm", b"")
    listed = []
    monkeypatch.setattr(doctor_module, "list_files", lambda place: listed.append(place) or list_files(place))
    folder, why = probe("memory://doctor")
    assert (why, storage_fault("memory://doctor", folder)) == ("", "")
    assert listed == [f"memory://doctor/{folder}"]
    assert not is_temporary(folder)  # a job would take it for a file that a killed one left
    remove(f"memory://doctor/{folder}")
    assert list_files("memory://doctor") == ["ID_1.dcm"]
    assert storage_fault("memory://doctor", folder) == "what the driver wrote there is not seen: it is another disk"


@pytest.mark.parametrize(
    ("mode", "nodes", "severity"), [("token", 3, "ok"), ("disabled", 3, "fatal"), ("", 1, "warning")]
)
def test_without_a_token_a_cluster_is_open(mode, nodes, severity):
    assert token_finding(mode, nodes).severity == severity


def test_ports_that_listen_on_all_interfaces_are_read_from_proc():
    sockets = """
      sl  local_address rem_address   st tx_queue
       0: 00000000:2049 00000000:0000 0A 00000000:00000000
       1: 0100007F:2711 00000000:0000 0A 00000000:00000000
       2: 00000000000000000000000000000000:2711 00000000000000000000000000000000:0000 01 00000000:00000000
       3: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000
    """
    assert listening_everywhere(sockets) == {8265, 22}


def test_the_job_examines_a_real_node(ray_cluster, tmp_path, capsys):
    doctor.main(["--storage", f"[{tmp_path}]"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in lines[:-1]] == ["nodes", *CHECKS, "token"]
    assert "1 CPU on one node" in lines[0]
    assert lines[2] == f"ok: storage: {tmp_path}: each node reads, lists, writes and removes"
    assert lines[-1] == "no fatal finding"
    assert list(tmp_path.iterdir()) == []


def test_a_fatal_finding_ends_the_job_with_code_1(ray_cluster, tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        doctor.main(["--storage", f"[{tmp_path}, {tmp_path}/typo]", "--cpus", "999", "--wait_s", "0.5"])
    shown = capsys.readouterr()
    assert leaving.value.code == 1
    assert f"fatal: storage: the driver cannot use {tmp_path}/typo: no such folder" in shown.out
    assert "fatal: nodes: no node had 999 CPU free within 0 s; the cluster has 2 CPU in all" in shown.out
    assert shown.err.splitlines()[-1] == "hemo: 2 of 10 checks failed; the cures stand beside them"
    assert not Path(tmp_path, "typo").exists()
