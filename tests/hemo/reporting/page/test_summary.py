"""The answer in words."""

import pytest

from hemo.reporting.comparison import compare_trials
from hemo.reporting.page.summary import answer, cautions, question
from hemo.trials.record import read_records


@pytest.fixture
def compared(tmp_path):
    """Return a function that compares the records."""

    def read():
        folder = str(tmp_path / "records")
        (found,) = compare_trials(read_records(folder), folder, samples=20, seed=0)
        return found

    return read


def test_question_and_answer_of_a_binary_task(make_record, compared):
    """Quality 2 separates twenty positives and twenty negatives of twenty patients."""
    make_record({"name": "good", "seed": 1}, quality=2.0, many=True)
    make_record({"name": "poor", "seed": 2}, quality=0.1, many=True)
    found = compared()
    assert (
        question(found)
        == "One setting was tried in 2 trials: which images show any, and which model recognises that best?"
    )
    ranks, decides = answer(found)
    assert ranks.startswith("good, chosen on validation, gives an image with the finding a higher probability than one")
    assert "in 100 of 100 (" in ranks
    assert "guessing reaches 50." in ranks
    assert decides.startswith("At its threshold it finds 100 of 100 (")


def test_each_external_model_is_a_setting_of_its_own(make_record, compared):
    """Two seeds of one setting and two external models, whose configs differ by the seed alone: three."""
    for seed in (1, 2):
        make_record({"seed": seed})
    for seed in (3, 4):
        make_record({"name": f"external {seed}", "seed": seed}, external=True)
    assert question(compared()).startswith("3 settings were tried in 4 trials: ")


def test_a_multi_label_model_is_right_in_decisions_not_images(of_classes, compared):
    """Forty images of three classes: in two of them all three decisions are wrong, so 114 of 120 are right.

    Never predicting a class, which 14, 13 and 13 images have, is right in 80 of 120.
    """
    of_classes("multi_label", ["epidural", "subdural", "any"])
    decides = answer(compared())[1]
    assert decides.startswith("It is right in 95 of 100 (")
    assert decides.endswith(
        ") decisions, one an image and class; always giving the commonest answer is right in 67 of 100."
    )


def test_a_multi_class_model_is_right_in_images(of_classes, compared):
    of_classes("multi_class", ["a", "b", "c"])
    decides = answer(compared())[1]
    assert decides.startswith("It is right in 95 of 100 (")
    assert decides.endswith(") images; always giving the commonest answer is right in 35 of 100.")


def test_a_useless_model_may_be_no_better_than_guessing(make_record, compared):
    make_record({"name": "poor"}, quality=0.0, many=True)
    assert "so it may be no better than that" in answer(compared())[0]


def test_no_interval_is_said(make_record, compared):
    make_record({})
    assert "(no interval: 8 patients, at least 10 are needed)" in answer(compared())[0]


def test_without_test_there_is_no_answer(make_record, compared):
    make_record({"name": "one"}, test=False)
    assert answer(compared())[1] == "It was not evaluated on test, so nothing is known of new patients."


def test_no_complete_trial(make_record, compared):
    make_record({}, status="failed", reason="why")
    assert answer(compared()) == ("No trial is complete.", "There is no answer yet.")


def test_what_must_not_be_concluded(make_record, compared):
    for width in (8, 16, 32):
        make_record({"model.dense_width": width}, split="by_image")
    texts = cautions(compared())
    assert (
        texts[0]
        == "Images of one patient may be in several splits: the metrics are too good, and no estimate of new patients."
    )
    assert "3 trials were evaluated on test: the highest is too high by chance. Choose by validation." in texts
    assert "Each setting was trained once: another seed may change the order." in texts
    assert "Made smaller than the full study: train limited to 600 of 4,707 images." in texts
