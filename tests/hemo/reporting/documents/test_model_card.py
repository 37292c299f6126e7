"""The model card, and the metadata that Hugging Face reads."""

import pytest
import yaml

from hemo.reporting.documents.model_card import model_card
from hemo.reporting.documents.model_facts import selection
from hemo.reporting.trial_table import heading

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


def test_a_trial_of_a_search_was_selected_among_its_trials(make_record, read):
    """Two of its twelve trials are complete; the other one, which it passed over, is no candidate."""
    make_record({"name": "chosen"}, quality=0.9, many=True, selected_by="val_loss", selected_among=12)
    make_record({"name": "passed over", "model.dense_width": 8}, quality=0.3, many=True, test=False)
    study, among = read(trial="chosen"), "selected by val_loss among 12 trials of a search"
    epoch = "weights of epoch 8 of 10, the lowest validation loss"
    assert f"- Choice: {epoch}; {among}; validation loss " in model_card(study)
    assert dict(heading(study.comparison))["Highlighted row"].startswith(f"chosen: {among}, on 120 images")
    passed_over = selection(read(trial="passed over"))
    assert passed_over == f"{epoch}; one of 2 complete trials, not the one with the best validation"


def test_the_best_of_a_grid_was_chosen_among_its_complete_trials(make_record, read):
    make_record({"name": "good"}, quality=0.9, many=True)
    make_record({"name": "poor", "model.dense_width": 8}, quality=0.3, many=True)
    assert "the lowest validation loss; the lowest validation loss of 2 complete trials; validation" in selection(
        read()
    )


def test_seeds_without_test_are_counted(make_record, read):
    make_record({"name": "one", "seed": 0}, many=True, quality=0.9)
    make_record({"name": "one", "seed": 1}, many=True, quality=0.8, test=False)
    assert "- Seeds: 2 seeds, test evaluated for 1 of them: the spread on test is not known" in model_card(read())


def test_the_card_of_a_sequence_model_has_its_layers_and_its_encoder(make_sequence_record, read):
    make_sequence_record()
    card = model_card(read())
    encoder = "the encoder resnet18 (weights sha256:0123456789ab)"
    assert (
        "- Architecture: BiGRU(128,64) over the slices of a series: each slice projected to 128 units, bidirectional "
        "GRU layers of 128, 64 units in each direction, dropout 0.5, a logit for each of any of each slice from its "
        "projection and the last layer; of a study the mean of the logits of its slices, weighted by attention, with a "
        "scale and a shift a class; 11,177,025 parameters, those of the encoder not counted\n"
    ) in card
    assert f"- Initial weights: random weights, seed 0; {encoder} is not trained\n" in card
    assert (
        f"- Input: {encoder} gives each image its vector; the network receives those of all slices of a study\n" in card
    )
    assert (
        "- Output: a probability (sigmoid) of any for each image, and a class at a threshold; a probability for each "
        "study, not calibrated and without a threshold\n"
    ) in card
    assert "; batches of whole studies, loss of slices and studies; study_weight 1; ran 10 epochs" in card
    assert "0 of 40 images of test are predicted wrongly" in card
    for wrong in ("pooling", "256 x 256", "fingerprint", "embedded"):
        assert wrong not in card


def test_the_card_of_a_trial_of_studies_counts_studies(make_sequence_record, read, tmp_path):
    record = make_sequence_record("study", "Transformer(128,128)", study="noisy_or")
    card = model_card(read())
    assert "- Model: deep learning: Transformer(128,128), a study has the target or not (any)\n" in card
    assert "transformer encoder layers of 128, 128 units, with an encoding of the position in mm, dropout 0.5" in card
    assert "; of a study noisy-or of its slices, 1 - product of (1 - p); 11,177,025 parameters" in card
    assert "- Output: a probability (sigmoid) of any for each study, and a class at a threshold\n" in card
    assert "- Test: 40 studies of the test split" in card
    assert "- Sizes: val 40 studies of 20 patients, any 20; test 40 studies of 20 patients, any 20\n" in card
    assert "; batches of whole studies, loss of studies; ran 10 epochs" in card
    assert "0 of 40 studies of test are predicted wrongly" in card
    (tmp_path / "records" / record.digest / "checkpoint" / "checkpoint.json").unlink()
    assert "an encoder that is not known (the trial has no checkpoint) is not trained" in model_card(read())
