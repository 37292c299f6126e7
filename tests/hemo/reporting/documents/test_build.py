"""The documents of a trial as files."""

import pytest

from hemo.config.document import DocumentConfig
from hemo.errors import ConfigError
from hemo.reporting.documents.build import write_documents


def test_it_writes_model_card_and_study_sheet(documented, tmp_path):
    documented()
    config = DocumentConfig(records=str(tmp_path / "records"), out=str(tmp_path / "out"), bootstrap_samples=50)
    assert write_documents(config) == str(tmp_path / "out" / "model-card.md")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model-card.md", "study-sheet.md"]
    assert "# Study sheet: mine" in (tmp_path / "out" / "study-sheet.md").read_text()


def test_the_best_trial_is_documented_or_the_named_one(make_record, read):
    good = make_record({"name": "good", "model.dropout": 0.1}, quality=0.9)
    poor = make_record({"name": "poor", "model.dropout": 0.2}, quality=0.3)
    assert read().record.digest == good.digest
    assert read(trial="poor").record.digest == poor.digest
    assert read(trial=poor.digest).record.digest == poor.digest
    with pytest.raises(ConfigError, match=r"trial: 'other' is the name of 0 trials; give the digest of one: good \("):
        read(trial="other")


def test_several_comparisons_need_a_name_and_failed_trials_are_refused(make_record, read):
    make_record({"name": "here"})
    make_record({"name": "there"}, training_set="ffff")
    with pytest.raises(
        ConfigError, match=r"trial: give one: here \(Binary, target any: training set 00112233aabbccdd\);"
    ):
        read()
    make_record({"name": "failed", "seed": 7}, status="failed", reason="no memory")
    with pytest.raises(ConfigError, match="trial: failed is failed; give one that is complete"):
        read(trial="failed")


def test_another_training_set_is_refused(make_record, make_training_set, read):
    make_record({"name": "mine"})
    with pytest.raises(ConfigError, match=r"is feedfacefeedface, mine was trained on 00112233aabbccdd"):
        read(training_set=make_training_set(), mistakes=3)


def test_mistakes_need_a_training_set():
    with pytest.raises(ValueError, match="give both mistakes and training_set, or neither"):
        DocumentConfig(records="r", out="o", mistakes=3)
