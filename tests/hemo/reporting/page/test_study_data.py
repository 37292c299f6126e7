"""What the page of the trials shows, without its HTML."""

import json

import pytest

from hemo.config.load import load_config
from hemo.config.trial import TrialConfig
from hemo.config.tune import TrainConfig, changed
from hemo.reporting.comparison import compare_trials
from hemo.reporting.page.study_data import command, comparison_data, pareto_front, study_data
from hemo.trials.record import read_records


@pytest.fixture
def compared(tmp_path):
    """Return a function that compares the records."""

    def read():
        folder = str(tmp_path / "records")
        return compare_trials(read_records(folder), folder, samples=20, seed=0)

    return read


def test_settings_that_differ_are_the_first_columns(make_record, compared):
    make_record({"name": "one", "model.dense_width": 8})
    make_record({"name": "two", "model.dense_width": 32}, quality=0.3)
    data = comparison_data(compared()[0], {}, seed=0)
    assert data["columns"][0] == {"title": "dense", "kind": "setting", "varies": True}
    first = [column["title"] for column in data["columns"] if column["kind"] == "result"]
    assert first[:4] == ["val loss", "val acc", "val AUROC", "test AUROC (95 %)"]
    assert not any(column["varies"] for column in data["columns"] if column["title"] == "backbone")
    assert [trial["cells"][0] for trial in data["trials"]] == [[8, "8"], [32, "32"]]


def test_an_external_model_has_no_settings_and_no_command(make_record, compared):
    """Its config has defaults, which are not its own: dense width 16 does not differ from that of the trained trial."""
    make_record({"name": "ours", "model.dense_width": 8})
    make_record({"name": "radiomics SVM", "seed": 1}, quality=0.3, external=True)
    data = comparison_data(compared()[0], {}, seed=0)
    assert [column["title"] for column in data["columns"] if column["kind"] == "setting" and column["varies"]] == []
    places = {column["title"]: place for place, column in enumerate(data["columns"])}
    ours, external = data["trials"]
    assert [external["cells"][places[name]] for name in ("backbone", "dense", "seed")] == [[None, "-"]] * 3
    assert ours["cells"][places["dense"]] == [8, "8"]
    assert {"seed", "command"} & dict(external["facts"]).keys() == set()
    assert {"seed", "command"} <= dict(ours["facts"]).keys()


def test_external_models_alone_have_columns_of_results_only(make_record, compared):
    make_record({"name": "vendor model"}, external=True)
    data = comparison_data(compared()[0], {}, seed=0)
    assert {column["kind"] for column in data["columns"]} == {"result"}


def test_trials_of_several_losses_are_in_the_order_of_auroc(make_record, compared):
    """A focal loss is lower than cross-entropy whatever the model has learned."""
    for loss in ("default", "focal"):
        make_record({"name": loss, "training.loss": loss})
        (found,) = compared()
        assert comparison_data(found, {}, seed=0)["order"] == {"default": "val loss", "focal": "val AUROC"}[loss]


def test_images_as_stored_are_no_side_of_0_px(make_record, compared):
    make_record({"name": "stored"})
    make_record({"name": "small", "model.side_px": 64})
    data = comparison_data(compared()[0], {}, seed=0)
    at = [column["title"] for column in data["columns"]].index("side (px)")
    assert {trial["name"]: trial["cells"][at] for trial in data["trials"]} == {
        "stored": ["as stored", "as stored"],
        "small": [64, "64"],
    }


def test_a_trial_has_metrics_curves_and_facts(make_record, compared):
    """Quality 0.9 after eight epochs: progress 0.9 x (1 - 0.75^8) = 0.8099, loss 0.7 - 0.6 x 0.8099 + 0.02."""
    record = make_record({"name": "one"}, versions={"torch": "2.14"}, commit="abc")
    data = comparison_data(compared()[0], {record.digest: {"classes": []}}, seed=0)
    (trial,) = data["trials"]
    assert (data["best"], trial["name"], trial["status"]) == (record.digest, "one", "complete")
    assert trial["metrics"]["val"] == {"accuracy": 0.899689, "auroc": 0.89685, "loss": 0.234061}
    assert len(trial["curves"]["val loss"]) == 10
    assert trial["evidence"] == {"classes": []}
    facts = dict(trial["facts"])
    assert (facts["versions"], facts["commit"], facts["record"]) == ("torch 2.14", "abc", record.digest)
    assert facts["command"] == "hemo train --training_set TRAINING_SET --out RECORDS --trial.name one"


def test_a_failed_trial_has_its_reason_and_sorts_by_nothing(make_record, compared):
    make_record({"seed": 1})
    make_record({"seed": 2}, status="failed", reason="out of memory")
    data = comparison_data(compared()[0], {}, seed=0)
    failed = data["trials"][1]
    assert failed["facts"][0] == ("status", "failed: out of memory")
    loss = next(index for index, column in enumerate(data["columns"]) if column["title"] == "val loss")
    assert failed["cells"][loss] == [None, "-"]
    assert (failed["curves"], failed["seconds"], failed["metrics"]) == ({}, None, {})


def test_all_of_it_is_json(make_record, compared):
    make_record({"name": "</script>", "seed": 1}, many=True)
    make_record({"seed": 2}, quality=0.2, many=True, training_set="ffff")
    data = study_data(compared(), {}, seed=0)
    assert [len(each["trials"]) for each in data["comparisons"]] == [1, 1]
    json.dumps(data, allow_nan=False)


def test_the_front_of_accuracy_latency_and_size(make_record, compared):
    """The third is slower and larger than the second and no better; the last has no latency."""
    for number, (accuracy, latency, size) in enumerate([(0.9, 20, 90), (0.8, 5, 10), (0.8, 6, 11), (0.95, None, 1)]):
        metrics = {"val": {"accuracy": accuracy, "loss": 1.0}}
        make_record(
            {"name": f"t{number}", "seed": number}, metrics=metrics, latency_ms=latency, megabytes=size, test=False
        )
    (found,) = compared()
    names = {row.record.digest: row.record.config.name for row in found.rows}
    assert {names[digest] for digest in pareto_front(found.rows)} == {"t0", "t1"}


def test_equal_trials_are_both_on_the_front(make_record, compared):
    for seed in (1, 2):
        make_record({"seed": seed}, latency_ms=5.0, megabytes=10.0)
    (found,) = compared()
    assert len(pareto_front(found.rows)) == 2


def test_the_command_runs_the_same_trial(tmp_path):
    config = changed(
        TrialConfig(),
        {"name": "it's; one", "training.learning_rate": 3e-5, "augment.horizontal_flip": 0.5},
        origin="test",
    )
    text = command(config)
    assert "--trial.name 'it'\"'\"'s; one'" in text
    assert "--trial.training.learning_rate 3e-05" in text
    import shlex

    flags = shlex.split(text)[2:]
    assert load_config(TrainConfig, flags, job="train", doc="").trial == config


def test_a_search_has_its_order_and_why_importance_is_missing(make_record, compared):
    for number in range(3):
        chosen = {"selected_by": "val_loss", "selected_among": 3} if number == 0 else {}
        make_record(
            {"name": f"t{number}", "training.learning_rate": 10.0 ** -(1 + number)},
            quality=0.9 - 0.2 * number,
            finished=f"2026-11-20T10:0{3 - number}:00+00:00",
            status="pruned" if number == 2 else "complete",
            test=number == 0,
            **chosen,
        )
    (search,) = comparison_data(compared()[0], {}, seed=0)["searches"]
    assert (search["metric"], search["less_is_better"], search["pruned"]) == (
        "validation loss",
        True,
        [True, False, False],
    )
    assert search["values"] == sorted(search["values"], reverse=True)
    assert search["importance"] == []
    assert "is not computed: it needs at least 8 trials" in search["note"]
