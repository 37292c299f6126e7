"""The model card, and the metadata that Hugging Face reads."""

import pytest
import yaml

from hemo.reporting.documents.model_card import model_card

SECTIONS = (
    *("Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data"),
    *("Quantitative analyses", "Ethical considerations", "Caveats and recommendations"),
)


def test_it_has_the_sections_of_mitchell_et_al(documented):
    card = model_card(documented())
    assert tuple(line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")) == SECTIONS


def test_hugging_face_reads_its_head(documented):
    hub = pytest.importorskip("huggingface_hub")
    study = documented({"statements": {"model_license": "apache-2.0"}})
    data = hub.ModelCard(model_card(study)).data
    (auroc, accuracy) = data.eval_results
    assert (data.license, data.pipeline_tag, data.model_name) == ("apache-2.0", "image-classification", "mine")
    assert (auroc.metric_type, auroc.metric_value) == ("roc_auc", round(study.record.metrics["test"]["auroc"], 4))
    assert (accuracy.dataset_split, accuracy.dataset_type) == ("test", study.record.training_set)


def test_names_cannot_break_the_head(make_record, read):
    make_record({"name": "a: b\n# <script>"}, many=True)
    head = model_card(read()).split("---\n")[1]
    assert yaml.safe_load(head)["model-index"][0]["name"] == "a: b\n# <script>"


def test_it_says_what_is_not_known(documented):
    card = model_card(documented({"statements": {"intended_use": "triage of head CT"}}))
    assert "- Purpose: triage of head CT" in card
    assert "- Users: Not stated by the authors." in card
    assert "- One corpus: not evaluated on images of another hospital or scanner" in card
    assert "- Reduced: train limited to 600 of 4,707 images" in card


def test_a_leak_is_the_first_caveat(documented):
    card = model_card(documented(split="by_image"))
    assert card.split("## Caveats and recommendations\n\n")[1].startswith("- Leak: images of one patient may be in")


def test_a_trial_without_test_has_no_results(make_record, read):
    make_record({"name": "val only"}, many=True, test=False)
    card = model_card(read())
    assert "model-index" not in card
    assert "validation only (120 images): test was not read" in card
