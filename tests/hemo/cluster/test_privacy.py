"""Under a key nothing that is written tells who is in the corpus: texts are planted in every place, and sought."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from matplotlib import get_cachedir

from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.predict import predict_corpus
from hemo.config.convert import ConvertConfig
from hemo.config.inference import PredictConfig
from hemo.corpus.sources import list_corpus
from hemo.errors import HemoError
from tests.planted import (
    DATE,
    MARK,
    NUMBER,
    TIME,
    Needles,
    finding,
    found_below,
    mark,
    needles,
    odd_files,
    planted_corpus,
    planted_pictures,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the whole line, on a machine that may be busy

PATIENTS = 24
KEY = "VRXQ the secret of the hospital, 41 bytes"
WANDB_KEY = "5f1d9c07be42a8VRXQ630e9d4b7aa21c85ef3b06"  # as long as W&B wants them
PLACE = "PLCZQWJK00001"
"""Names the folder the user gives: it may stand in what Ray logs of the command line, and in no output."""

PLANTED = needles(MARK, NUMBER, DATE, TIME)
SECRET = needles(KEY, KEY[:16], WANDB_KEY, WANDB_KEY[:18])

DICOM = """
convert: {corpus: dicom, pseudonym_key: env:HEMO_TEST_KEY, side_px: 32, unit_files: 16, max_reject_fraction: 1}
"""

PICTURES = """
convert: {corpus: image_folder, pseudonym_key: env:HEMO_TEST_KEY, side_px: 32, unit_files: 16,
  public_classes: [NORMAL], patient_pattern: "(.*)_"}
"""

LINE = """
curate: {val_fraction: 0.25, test_fraction: 0.25}
tune:
  trial: {model: {backbone: test_resnet}, training: {epochs: 1, batch_size: 8}}
  grid: {axes: {seed: [0]}}
  tracking: {backend: wandb}
report: {bootstrap_samples: 20}
cluster: {address: local, cpus: 2}
"""


def in_base64_of(text: str) -> str:
    """Return a text in base64."""
    return base64.b64encode(text.encode()).decode()


def files(folder: Path) -> list[Path]:
    """Return every file below a folder."""
    return [file for file in folder.rglob("*") if file.is_file()]


@dataclass(frozen=True)
class Written:
    """Where a run of the whole line put everything."""

    folder: Path
    source: Path
    planted: Needles
    printed: bytes

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def converted(self) -> Path:
        return self.out / "converted"

    def card(self, stage: str) -> dict[str, Any]:
        """Return the card of a stage."""
        return json.loads((self.out / stage / "card.json").read_text())


def run_line(folder: Path, line: str, source: Path, planted: Needles, *more: str) -> Written:
    """Run the whole line once, with a key, as a command of its own."""
    (folder / "line.yaml").write_text(line + LINE)
    words = ["--config", str(folder / "line.yaml"), "--out", str(folder / "out"), "--convert.source", str(source)]
    words += ["--cluster.temp_dir", str(folder / "ray"), *more]
    places = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}  # libraries write there as well
    keys = {"HEMO_TEST_KEY": KEY, "WANDB_API_KEY": WANDB_KEY}
    for place in places.values():
        Path(place).mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "ray_jobs.pipeline", *words],
        env={**os.environ, **places, **keys, "WANDB_MODE": "offline", "MPLCONFIGDIR": get_cachedir()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()
    return Written(folder, source, planted, done.stdout)


@pytest.fixture(scope="module")
def dicom_line(make_ray_folder: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Run the line on DICOM files with marks in every element."""
    source, labels = planted_corpus(tmp_path_factory.mktemp("corpus") / PLACE, PATIENTS)
    return run_line(make_ray_folder(), DICOM, source, PLANTED, "--curate.labels", str(labels))


@pytest.fixture(scope="module")
def picture_line(make_ray_folder: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Run the line on a zip of pictures, one of whose class folders is named by a mark."""
    source, planted = planted_pictures(tmp_path_factory.mktemp("corpus") / PLACE, PATIENTS)
    more = ("--curate.labels", "source_class", "--tune.trial.target", "NORMAL")
    return run_line(make_ray_folder(), PICTURES, source, planted, *more)


@pytest.fixture(params=["dicom_line", "picture_line"])
def written(request: pytest.FixtureRequest) -> Written:
    """Return what each of the two runs wrote, one after the other."""
    line: Written = request.getfixturevalue(request.param)
    return line


def test_no_planted_text_is_in_any_byte_that_was_written(written: Written) -> None:
    """Shards, cards, training set, weights, records, W&B's offline run, report, all that Ray logged, home and /tmp."""
    parts = ("out/converted/index.parquet", "out/training_set/card.json", "out/report/index.html", "ray", "home/.ray")
    assert all((written.folder / part).exists() for part in parts)
    assert list(written.out.glob("records/*/wandb/**/*.wandb"))
    assert found_below(written.folder, written.planted) == {}


def test_no_planted_text_is_in_the_output(written: Written) -> None:
    assert written.planted.findall(written.printed) == []
    assert b"report: done" in written.printed


def test_neither_key_is_anywhere(written: Written) -> None:
    assert found_below(written.folder, SECRET) == {}
    assert SECRET.findall(written.printed) == []


def test_the_folder_the_user_gave_is_in_no_output(written: Written) -> None:
    assert found_below(written.out, needles(PLACE)) == {}


def test_a_public_class_keeps_its_name_and_equal_pixels_are_found(picture_line: Written) -> None:
    """24 patients: number 23 has the two pictures of number 0."""
    hidden = next(name for name in picture_line.card("training_set")["classes"] if name != "NORMAL")
    assert re.fullmatch("[0-9a-f]{32}", hidden)
    assert b"1 of 2 classes keep their names, the others become pseudonyms" in picture_line.printed
    card = picture_line.card("training_set")
    assert card["audit"]["equal_pixel_groups"] == 2
    assert card["audit"]["linked_patients"] == 2
    assert sum(split["positives"]["NORMAL"] for split in card["splits"].values()) == PATIENTS


def test_predictions_of_the_raw_pictures_name_nobody_either(
    picture_line: Written, ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEMO_TEST_KEY", KEY)
    (record,) = (path.parent for path in picture_line.out.glob("records/*/record.json"))
    config = PredictConfig(
        source=str(picture_line.source), corpus="image_folder", checkpoint=str(record), out=str(tmp_path / "out"),
        pseudonym_key="env:HEMO_TEST_KEY",
    )  # fmt: skip
    out = Path(predict_corpus(config))
    assert pq.read_table(out / "predictions.parquet").num_rows == 2 * PATIENTS
    assert found_below(out, picture_line.planted) == found_below(out, needles(PLACE)) == {}


def test_captures_are_not_kept_and_no_text_is_in_a_number(dicom_line: Written) -> None:
    """Of two captures one has a name in its pixels; `DOE^JANE` in the place of a count would be a long number."""
    rejects = pq.read_table(dicom_line.converted / "rejects.parquet").to_pylist()
    assert [reject["reason"] for reject in rejects].count("secondary_capture") == 2
    assert not [reject["detail"] for reject in rejects if re.search(r"\d{10}", reject["detail"])]
    card = dicom_line.card("converted")
    assert card["rows"] + card["rejects"] == card["files"] == 2 * PATIENTS + len(odd_files())
    assert card["rows"] >= 2 * PATIENTS
    assert "secondary_capture" not in card["flags"]


def test_labels_of_true_names_reached_the_pseudonyms(dicom_line: Written) -> None:
    splits = dicom_line.card("training_set")["splits"]
    assert sum(split["rows"] for split in splits.values()) == 2 * PATIENTS
    assert sum(split["positives"]["any"] for split in splits.values()) == PATIENTS


@pytest.mark.parametrize("plain", [False, True])
def test_a_file_that_cannot_be_read_is_named_only_where_names_are_public(
    plain: bool, ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It vanishes between listing and reading."""
    monkeypatch.setenv("HEMO_TEST_KEY", KEY)
    names = {"public_ids": True} if plain else {"pseudonym_key": "env:HEMO_TEST_KEY"}
    source, _ = planted_corpus(tmp_path / "corpus", 1)
    config = ConvertConfig(
        source=str(source), corpus="dicom", out=str(tmp_path / "out"), side_px=16, max_reject_fraction=1, **names
    )
    listing = list_corpus(config.source, config.corpus)
    monkeypatch.setattr("hemo.cluster.convert.job.list_corpus", lambda *_: listing)
    next(file for file in files(source)).unlink()
    with pytest.raises(HemoError) as refused:
        convert_corpus(config)
    told = f"{refused.value} {capsys.readouterr()}".encode()
    assert bool(PLANTED.search(told)) is plain


def test_the_search_finds_what_is_public_of_pictures(ray_cluster: None, tmp_path: Path) -> None:
    """Sizes and checksums in the manifest, names and pixel digests in index and shard."""
    source, planted = planted_pictures(tmp_path / PLACE, 2)
    config = ConvertConfig(source=str(source), corpus="image_folder", out=str(tmp_path / "out"), side_px=16)
    out = Path(convert_corpus(config))
    assert set(found_below(out, planted)) == {"index.parquet", "manifest.parquet", "shards/unit-000000.parquet"}
    for file, names in (
        ("index.parquet", ["image_id", "source_path", "patient", "source_class"]),
        ("manifest.parquet", ["path"]),
    ):
        nameless = pq.read_table(out / file).drop_columns(names)
        pq.write_table(nameless, tmp_path / file)
        assert not finding(tmp_path / file, needles(MARK))
        assert finding(tmp_path / file, planted)


def test_the_search_finds_what_is_public(ray_cluster: None, tmp_path: Path) -> None:
    """The same files with `public_ids`: else the tests above would pass whatever was written."""
    source, _ = planted_corpus(tmp_path / PLACE, 2)
    planted = {str(file.relative_to(source.parent)) for file in files(source.parent)}
    assert set(found_below(source.parent, PLANTED)) == planted
    out = str(tmp_path / "out")
    config = ConvertConfig(
        source=str(source), corpus="dicom", out=out, side_px=16, public_ids=True, max_reject_fraction=1
    )
    found = found_below(Path(convert_corpus(config)), PLANTED)
    assert set(found) == {"index.parquet", "manifest.parquet", "rejects.parquet", "shards/unit-000000.parquet"}


@pytest.mark.parametrize("form", [str.lower, lambda text: text.encode("utf-16").decode("latin-1"), in_base64_of])
def test_the_search_knows_other_forms(form: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"..." + form(f"of {mark()}: seen").encode("latin-1"))
    assert set(found_below(tmp_path, PLANTED)) == {"log"}
    (tmp_path / "log").write_text(f"2{DATE}4 is no date")
    assert found_below(tmp_path, PLANTED) == {}
