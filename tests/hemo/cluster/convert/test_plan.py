import io
import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hemo.cluster.convert.estimate import Cluster, duration_text
from hemo.cluster.convert.plan import Plan, as_json, clusters_of, estimate_table, plan_conversion, summary
from hemo.config.convert import PlanConfig
from hemo.errors import HemoError, SourceError
from tests.dicom_files import dicom_bytes, head_file, head_hu
from tests.hemo.cluster.convert.test_estimate import MEASURED, WORK

PLAN = Plan(WORK, MEASURED, Counter(not_ct=3, truncated=1), (Cluster(1, 2, 36.0), Cluster(4, 2, 36.0)))


def config(**changes) -> PlanConfig:
    return PlanConfig.model_validate({"source": "/in", "corpus": "rsna", "out": "/out", **changes})


def test_a_node_is_as_here_unless_configured():
    here = replace(MEASURED, nodes=3, cpus=24)
    assert clusters_of(config(nodes=[1, 5]), here) == (Cluster(1, 8), Cluster(5, 8))
    configured = config(nodes=[2], cpus_per_node=16, price_per_node_hour=0.5, storage_mb_per_s=800)
    assert clusters_of(configured, here) == (Cluster(2, 16, 0.5, 800e6),)
    assert clusters_of(config(nodes=[1]), here)[0].storage_bytes_per_s == math.inf


def test_the_plan_has_what_was_measured():
    """10,000 files of 40 kB written: 0.4 GB; 1,000 files/s by decoding alone, 900 all three together."""
    lines = summary(PLAN)
    assert lines[0] == "10,000 files in 10 units, 5.0 GB to read, about 400.0 MB to write"
    rates = (
        "a node of 2 CPUs, 1 measured: read 2,000, decode 1,000, write 1,500 files/s each alone, 900 all three together"
    )
    assert lines[1:3] == [rates, "rejects in the sample: not_ct 3, truncated 1"]


def test_the_table_names_hours_cost_and_bound():
    """One node: 15.11 s at 36 an hour are 0.15; four: 8.2 s, 32.9 s of a node; 900 files/s of half a megabyte."""
    console = Console(width=80, file=io.StringIO())
    console.print(estimate_table(PLAN))
    shown = console.file.getvalue().splitlines()
    assert shown[0].strip() == "nodes of 2 CPUs; cost (your currency)"
    rows = [re.split(r"\s{2,}", line.strip()) for line in shown if line.strip()[:1].isdigit()]
    assert rows[0] == ["1", "15.1 s", "15.1 s", "0.15", "900", "450", "74%", "decode"]
    assert rows[1][:3] == ["4", "8.2 s", "32.9 s"]


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.000589, "2.1 s"),
        (59.97 / 3600, "1 min 00 s"),
        (200 / 3600, "3 min 20 s"),
        (0.7, "42 min"),
        (0.9999, "1 h 00 min"),
        (5.12, "5 h 07 min"),
        (12.34, "12.3 h"),
        (1234.56, "1,234.6 h"),
    ],
)
def test_times_are_read_at_a_glance(hours, text):
    assert duration_text(hours) == text


def test_the_file_holds_what_the_table_rests_on():
    content = json.loads(json.dumps(as_json(PLAN), allow_nan=False))
    assert content["workload"] == {
        "files": 10_000,
        "size_bytes": 5_000_000_000,
        "units": 10,
        "write_bytes": 400_000_000,
    }
    assert content["calibration"]["efficiency"] == pytest.approx(0.9)
    assert [found["nodes"] for found in content["estimates"]] == [1, 4]
    assert content["rejects"] == {"not_ct": 3, "truncated": 1}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(40):
        pixels = head_hu() + np.int16(1024)
        pixels[0, 0] = number
        (folder / f"ID_{number:02d}.dcm").write_bytes(dicom_bytes(pixels, PatientID=f"ID_p{number // 2}"))
    (folder / "ID_01_bad.dcm").write_bytes(head_file(PixelData=b"\0"))
    return folder


def test_a_short_run_on_the_corpus_itself(ray_cluster, corpus, tmp_path, capsys):
    out = tmp_path / "out"
    place = plan_conversion(
        config(source=str(corpus), out=str(out), side_px=16, unit_files=10, nodes=[1, 3], price_per_node_hour=2)
    )
    assert [path.name for path in out.iterdir()] == ["plan.json"], "what the calibration wrote must be gone"
    content = json.loads(Path(place).read_text())
    sizes = [file.stat().st_size for file in corpus.iterdir()]
    assert content["workload"]["files"] == 41
    assert (content["workload"]["size_bytes"], content["workload"]["units"]) == (sum(sizes), 5)
    measured = content["calibration"]
    assert (measured["nodes"], measured["cpus"]) == (1, 2)
    assert 0 < measured["cpu_s_per_file"] < 1
    assert 200 < measured["written_bytes_per_file"] < 20_000
    one, three = content["estimates"]
    assert three["hours"] <= one["hours"]
    assert one["cost"] == pytest.approx(2 * one["hours"])
    assert one["bound"] in ("read", "decode", "write")
    assert "rejects in the sample: truncated 1" in capsys.readouterr().err


def test_the_path_after_the_conversion_is_timed_on_this_cluster(ray_cluster, corpus, tmp_path, capsys):
    """41 files: 29 train, 6 validation, 6 test; two epochs train 58 images, and evaluate 35 + 12 + 41."""
    head = "training_set: set\nout: records\n"
    training = "training: {epochs: 2, batch_size: 8}"
    train, series = tmp_path / "train.yaml", tmp_path / "series.yaml"
    train.write_text(f"{head}trial: {{model: {{backbone: CNN(4)}}, {training}}}\n")
    model = "{backbone: BiGRU(4), series: {embeddings: vectors}}"
    series.write_text(f"{head}trial: {{model: {model}, {training}}}\n")
    files = {"source": str(corpus), "out": str(tmp_path / "out"), "train": str(train), "series": str(series)}
    plan = config(**files, side_px=16, nodes=[1, 2], price_per_node_hour=3, timed_s=1e-6, slices_per_study=4)
    content = json.loads(Path(plan_conversion(plan)).read_text())
    of_train, of_embed, of_series = content["measured"]
    assert of_train["work"]["trained"]["examples"] == 58
    assert of_train["work"]["evaluated"]["examples"] == 88
    assert of_embed["work"]["embedded"]["examples"] == 41
    assert of_series["work"]["evaluated"]["examples"] == 100, "the studies of validation and test once more"
    assert re.fullmatch(r"1 x CPU \(2 threads, .*\)", of_train["hardware"])
    rows = content["steps"]
    assert [row["step"] for row in rows] == ["convert", "train", "embed", "series"] * 2
    work = of_series["work"].values()
    assert rows[3]["hours"] == pytest.approx(sum(each["examples"] / each["per_s"] for each in work) / 3600)
    assert rows[7]["hours"] == pytest.approx(rows[3]["hours"] / 2)
    assert rows[7]["cost"] == pytest.approx(3 * rows[3]["hours"])
    shown = capsys.readouterr().err
    assert "made-up studies in steps of 4" in shown
    assert "the whole path" in shown


def test_bad_input_is_refused_as_convert_does(ray_cluster, corpus, tmp_path):
    with pytest.raises(SourceError, match="no/such/folder"):
        plan_conversion(config(source="/no/such/folder", out=str(tmp_path / "out")))
    for file in corpus.iterdir():
        file.write_bytes(b"")
    with pytest.raises(SourceError, match="have no bytes at all"):
        plan_conversion(config(source=str(corpus), out=str(tmp_path / "out")))
    for file in list(corpus.iterdir())[1:]:
        file.unlink()
    with pytest.raises(SourceError, match="too few to measure anything"):
        plan_conversion(config(source=str(corpus), out=str(tmp_path / "out")))


def test_a_file_that_cannot_be_read_ends_it(ray_cluster, corpus, tmp_path, monkeypatch):
    """It vanishes between listing and reading."""
    from hemo.corpus.sources import list_corpus

    listing = list_corpus(str(corpus), "rsna")
    monkeypatch.setattr("hemo.cluster.convert.plan.list_corpus", lambda *_: listing)
    (corpus / "ID_00.dcm").unlink()
    with pytest.raises(HemoError, match=r"plan stopped: .*No such file"):
        plan_conversion(config(source=str(corpus), out=str(tmp_path / "out"), side_px=16))
    assert not (tmp_path / "out").exists()
