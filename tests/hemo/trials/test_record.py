"""Records: what they are keyed by, and what is refused."""

import json
import re
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from hemo.curation.card import read_card
from hemo.errors import SourceError
from hemo.training.results import SubgroupMetrics
from hemo.trials.record import check_records, commit, now, read_predictions, read_record, read_records, versions


def test_a_record_comes_back_as_it_was(make_record, tmp_path):
    record = make_record({"name": "one"}, status="complete")
    folder = str(tmp_path / "records")
    assert read_record(folder, record.digest) == record
    assert read_predictions(folder, record.digest).num_rows == 20  # ten of validation, ten of test
    (tmp_path / "records" / ".ray" / "deep").mkdir(parents=True)
    (tmp_path / "records" / ".ray" / "deep" / "record.json").write_text("{}")
    assert read_records(folder) == [record]


def test_the_best_epochs_own_figures(make_record):
    """Not those of the end, which are at the threshold chosen on validation."""
    record = make_record({}, metrics={"val": {"loss": 9.0}})
    assert record.best_epoch_val == record.epochs[7].val
    assert make_record({"seed": 1}, status="failed").best_epoch_val == {}


def test_a_record_from_before_a_field_was_added_is_still_read(make_record, tmp_path):
    record = make_record({})
    file = tmp_path / "records" / record.digest / "record.json"
    content = json.loads(file.read_text())
    del content["confusion"], content["by_pixel_format"]
    for epoch in content["epochs"]:
        del epoch["workers"]
    file.write_text(json.dumps(content))
    assert read_record(str(tmp_path / "records"), record.digest) == record


def test_what_is_not_defined_for_a_pixel_format_is_null(make_record, tmp_path):
    u12 = SubgroupMetrics(images=1, metrics={"accuracy": 1.0, "auroc": None}, confusion=(((0, 0), (0, 1)),))
    record = make_record({}, by_pixel_format={"test": {"u12": u12}})
    stored = json.loads((tmp_path / "records" / record.digest / "record.json").read_text())
    assert stored["by_pixel_format"]["test"]["u12"]["metrics"] == {"accuracy": 1.0, "auroc": None}
    assert read_record(str(tmp_path / "records"), record.digest).by_pixel_format == record.by_pixel_format


def test_damage_is_named(make_record, tmp_path):
    record = make_record({})
    place = tmp_path / "records" / record.digest
    content = json.loads((place / "record.json").read_text())
    (place / "record.json").write_text(json.dumps({**content, "status": "odd"}))
    with pytest.raises(
        SourceError, match=r"record\.json is damaged \(status: .*\); move it away, and the same command"
    ):
        read_records(str(tmp_path / "records"))
    (place / "record.json").write_text(json.dumps({**content, "schema_version": 99}))
    with pytest.raises(SourceError, match="is no record of schema version 6; move it away"):
        read_record(str(tmp_path / "records"), record.digest)
    with pytest.raises(SourceError, match=r"nothing/record\.json does not exist; `hemo train` and `hemo tune` write"):
        read_record(str(tmp_path / "records"), "nothing")
    (place / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match=r"predictions\.parquet is missing or damaged"):
        read_predictions(str(tmp_path / "records"), record.digest)


def test_a_record_that_names_another_folder_is_refused(make_record, tmp_path):
    """It would be written there again, with another name or the metrics of test."""
    record = make_record({})
    place = tmp_path / "records" / record.digest / "record.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "digest": "../../elsewhere"}))
    with pytest.raises(SourceError, match=r"says that it is of trial '../../elsewhere'; move it away"):
        read_record(str(tmp_path / "records"), record.digest)


def test_a_card_whose_digest_is_a_path_is_refused(make_training_set):
    """Below records a folder is named by it."""
    folder = Path(make_training_set())
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "digest": "../../elsewhere"}))
    with pytest.raises(SourceError, match=r"card\.json is damaged \(digest: String should match pattern"):
        read_card(str(folder))


def test_versions_of_what_results_depend_on() -> None:
    found = versions()
    assert re.match(r"3\.1[12]\.", found["python"])
    assert found["torch"].startswith("2.14")
    assert found["ray"].startswith("2.60")


def test_a_changed_checkout_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "repo" / "hemo"
    package.mkdir(parents=True)
    monkeypatch.setattr("hemo.trials.record.hemo.__file__", str(package / "__init__.py"))
    assert commit() == ""
    (package / "__init__.py").write_text("one")
    git = ["git", "-C", str(package), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True)
    clean = commit()
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (package / "__init__.py").write_text("two")
    assert commit() == f"{clean}-dirty"


def test_now_is_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", now())
    assert datetime.fromisoformat(now()).tzinfo is not None


def test_a_truncated_record_is_left_out_and_named(make_record, tmp_path):
    folder = str(tmp_path / "records")
    whole, cut = make_record({"seed": 1}), make_record({"seed": 2})
    file = tmp_path / "records" / cut.digest / "record.json"
    check_records(folder)
    file.write_text(file.read_text()[:100])
    errors = []
    assert read_records(folder, errors.append) == [whole]
    cure = "move it away, and the same command runs the trial again"
    with pytest.raises(SourceError, match=rf"^{file} is no JSON: .*; {cure}$"):
        check_records(folder)
    assert [str(error).split(" is no JSON")[0] for error in errors] == [str(file)]
