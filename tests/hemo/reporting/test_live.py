"""A page that follows its records: what is read again, what it shows meanwhile, on a disk and on a bucket."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import hemo.reporting.content
import hemo.trials.status
from hemo.config.report import WatchConfig
from hemo.errors import ConfigError, SourceError
from hemo.reporting.live import MOST_WAITING, LiveStudy, sweep_data
from hemo.storage import filesystem, list_changes, write_bytes
from hemo.trials.progress import PlannedTrial, SweepPlan, TrialProgress, write_plan, write_progress
from hemo.trials.status import SweepStatus, TrialStatus
from tests.s3 import s3_environment  # noqa: F401 (a fixture)

LOSSES = (0.5, 0.25)


def running(folder: str, digest: str, epoch: int = 2) -> None:
    progress = TrialProgress(
        name=f"runs {digest}",
        epochs=8,
        epoch=epoch,
        val={"loss": LOSSES[epoch - 1]},
        best_val_loss=0.25,
        curves={"val loss": LOSSES[:epoch]},
        seconds=20.0 * epoch,
        updated=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_progress(folder, digest, progress)


def study(folder: object, **changes: Any) -> LiveStudy:
    return LiveStudy(WatchConfig(records=str(folder), bootstrap_samples=10, **changes))


def now(live: LiveStudy) -> dict[str, Any]:
    live.look()
    return json.loads(live.shown.now)


def names(live: LiveStudy) -> list[str]:
    """Return the trials that the page compares."""
    text = live.shown.page.decode().split('id="data">')[1].split("</script>")[0]
    return [trial["name"] for comparison in json.loads(text)["comparisons"] for trial in comparison["trials"]]


def test_without_records_it_waits_and_a_trial_that_begins_is_in_the_progress_alone(tmp_path):
    records = tmp_path / "records"
    live = study(records)
    found = now(live)
    assert (found["sweeps"], found["trouble"]) == ([], "")
    assert found["waits"] == f"{records} holds no trials yet; this page waits for them."
    assert not records.exists()
    before = live.shown.page
    running(str(records), "r", epoch=1)
    found = now(live)
    assert found["sweeps"][0]["rows"] == [
        ["runs r", "running", "1 of 8", "0.5000", "0.2500", "0:00:20", "0:02:20", "▁"]
    ]
    assert live.shown.page is before
    running(str(records), "r")
    assert now(live)["sweeps"][0]["curves"] == [{"name": "runs r", "values": [0.5, 0.25]}]


def test_a_trial_that_ends_joins_the_page_and_only_its_files_are_read(make_record, tmp_path, monkeypatch):
    make_record({"name": "first"}, many=True)
    live = study(tmp_path / "records")
    version = now(live)["version"]
    evaluated, states = count_calls(monkeypatch, hemo.reporting.comparison, "read_row"), []
    read = count_calls(monkeypatch, hemo.trials.record, "read_record")
    monkeypatch.setattr(hemo.trials.status, "_recorded", spy(hemo.trials.status._recorded, states))
    assert now(live)["version"] == version
    assert evaluated == []
    assert states == []
    page = live.shown.page
    make_record({"name": "second", "seed": 1}, many=True)
    found = now(live)
    assert found["version"] != version
    assert found["changed"] == ["second complete"]
    assert [record.config.name for record, *_ in evaluated] == ["second"]
    assert [record.config.name for record, *_ in states] == ["second"]
    assert sorted(names(live)) == ["first", "second"]
    assert live.shown.page != page
    second = make_record({"name": "second", "seed": 1}, many=True).digest
    validated = count_calls(monkeypatch, hemo.reporting.selection, "_validation")
    third = make_record({"name": "third", "seed": 2}, many=True).digest
    now(live)
    best = live._content.comparisons[0].best.record.digest
    assert {record.digest for record, _ in validated} == {second, third, best}
    assert third in {digest for _, digest in read}


def count_calls(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(module, name, spy(getattr(module, name), calls))
    return calls


def spy(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return function(*args, **kwargs)

    return called


def test_the_page_after_many_looks_is_the_page_of_one(make_record, tmp_path):
    """Also when a record was written again with other predictions, and another one was removed."""
    make_record({"name": "kept"}, quality=0.9, many=True)
    again = {"name": "again", "seed": 1}
    make_record(again, quality=0.2, many=True)
    gone = make_record({"name": "gone", "seed": 2}, many=True)
    live = study(tmp_path / "records")
    live.look()
    make_record(again, quality=0.8, many=True)
    live.look()
    shutil.rmtree(tmp_path / "records" / gone.digest)
    live.look()
    fresh = study(tmp_path / "records")
    fresh.look()
    assert sorted(names(live)) == ["again", "kept"]
    assert live.shown.page == fresh.shown.page


def test_what_cannot_be_read_is_said_and_the_page_stays(make_record, tmp_path):
    records = tmp_path / "records"
    made = make_record({"name": "only"}, many=True)
    live = study(records)
    live.look()
    page, table = live.shown.page, records / made.digest / "predictions.parquet"
    whole = table.read_bytes()
    table.write_bytes(b"cut")
    found = now(live)
    assert found["trouble"] == f"{table} is missing or damaged; run the trial again"
    assert live.shown.page is page
    table.write_bytes(whole)
    assert now(live)["trouble"] == ""
    assert names(live) == ["only"]


def test_an_unreadable_record_is_a_line_of_the_page_and_of_the_progress(make_record, tmp_path):
    make_record({"name": "done"}, many=True)
    cut = tmp_path / "records" / make_record({"name": "cut", "seed": 1}).digest / "record.json"
    cut.write_text(cut.read_text()[:100])
    live = study(tmp_path / "records")
    (sweep,) = now(live)["sweeps"]
    assert sweep["heading"] == "trials outside sweeps: 1 complete, 1 unreadable"
    assert sweep["reasons"][0].startswith(f"{cut.parent.name} unreadable: {cut} is no JSON")
    assert f"Left out, unreadable: {cut} is no JSON" in live.shown.page.decode()


def test_a_plan_that_selects_changes_the_page(make_record, tmp_path):
    records, made = str(tmp_path / "records"), make_record({"name": "one"}, many=True)
    make_record({"name": "two", "seed": 1}, quality=0.1, many=True)
    plan = SweepPlan(
        name="search",
        kind="search",
        trials=(PlannedTrial(digest=made.digest, name="one", epochs=30),),
        count=3,
        concurrent=1,
        began="2026-11-20T10:00:00+00:00",
    )
    write_plan(records, plan)
    live = study(records)
    version = now(live)["version"]
    write_plan(records, plan.model_copy(update={"count": 4}))
    assert now(live)["version"] == version
    write_plan(records, plan.model_copy(update={"selected": made.digest}))
    assert now(live)["version"] != version


def test_a_page_of_a_bucket_fetches_each_file_once_and_leaves_no_copies(
    s3_environment,  # noqa: F811
    make_record,
    tmp_path,
    monkeypatch,
):
    bucket, records = "s3://watched/records", tmp_path / "records"
    filesystem("s3://watched")[0].mkdir("watched")
    upload(make_record({"name": "first"}, many=True).digest, records, bucket)
    write_bytes(f"{bucket}/first/weights.safetensors", b"never read")
    running(bucket, "r", epoch=1)
    live = study(bucket)
    fetched = count_calls(monkeypatch, hemo.reporting.live, "read_bytes")
    found = now(live)
    assert len(fetched) == 3
    assert found["sweeps"][0]["rows"][0][:3] == ["runs r", "running", "1 of 8"]
    assert names(live) == ["first"]
    second = make_record({"name": "second", "seed": 1}, many=True)
    upload(second.digest, records, bucket)
    filesystem(bucket)[0].rm("watched/records/r/progress.json")
    listed = list_changes(bucket)
    found = now(live)
    assert [location.split("/")[-2] for (location,) in fetched[3:]] == [second.digest] * 2
    assert found["sweeps"][0]["rows"] == []
    assert sorted(names(live)) == ["first", "second"]
    write_bytes(f"{bucket}/{second.digest}/record.json", b"{")
    live.look()
    assert f"Left out, unreadable: {bucket}/{second.digest}/record.json is no JSON" in live.shown.page.decode()
    assert list_changes(bucket).keys() == listed.keys()
    copies = Path(live._copies)
    assert copies.is_dir()
    live.close()
    assert not copies.exists()


def upload(digest: str, records: Path, bucket: str) -> None:
    for file in (records / digest).iterdir():
        write_bytes(f"{bucket}/{digest}/{file.name}", file.read_bytes())


def test_a_wrong_class_or_data_set_is_said(make_record, tmp_path):
    make_record({"name": "one"}, many=True)
    found = now(study(tmp_path / "records", prevalence={"ani": 0.1}))
    assert found["trouble"] == "prevalence: 'ani' is no class of these trials; they have any"
    with pytest.raises(SourceError, match="holds no images"):
        study(tmp_path / "records", data=str(tmp_path))
    with pytest.raises(ConfigError, match="port: "):
        hemo.watch(records="r", port=70000)


def test_of_many_waiting_trials_some_are_listed():
    waiting = tuple(TrialStatus(f"cell {number}", "waiting", 8) for number in range(MOST_WAITING + 3))
    found = sweep_data(SweepStatus(None, (*waiting, TrialStatus("bad", "unreadable", 0, reason="why"))))
    assert [row[0] for row in found["rows"]] == ["bad", *(f"cell {number}" for number in range(MOST_WAITING))]
    assert found["more"] == 3
    assert found["reasons"] == ["bad unreadable: why"]
