"""The validation metric of a chosen trial, corrected for the choice."""

import numpy as np
import pytest

from hemo.reporting.selection import choice_among, describe_choice


@pytest.fixture
def trials(make_record):
    """Return a function that writes trials of these qualities, validated on forty images of twenty patients."""

    def make(*qualities, **fields):
        return [
            make_record(
                {"name": f"t{number}", "model.dense_width": number + 1}, quality=quality, **{"many": True, **fields}
            )
            for number, quality in enumerate(qualities)
        ]

    return make


def choose(records, tmp_path, by="val_loss"):
    return choice_among(records, by, str(tmp_path / "records"), samples=300, seed=0)


def test_the_best_of_many_like_trials_is_corrected_away_from_its_metric(trials, tmp_path):
    """Ten trials of nearly the same quality: the best one's loss is lower than what resampled choices reach."""
    records = trials(*np.linspace(0.2, 0.209, 10))
    losses = [choose([each, *records], tmp_path).value for each in records]
    best = records[int(np.argmin(losses))]
    choice = choose([best, *records], tmp_path)
    assert choice.value == min(losses)
    assert choice.corrected > choice.value + 0.05
    text = describe_choice(choice, 300)
    assert text.startswith(
        f"validation loss {choice.corrected:.2f} instead of {choice.value:.2f}, for {best.config.name} is the best of "
        "10 trials on these 20 patients (bootstrap bias-corrected"
    )


def test_a_clear_winner_stays_as_it_is(trials, tmp_path):
    """It is chosen in every resample: out of the bag it has its own mean loss."""
    choice = choose(trials(2.0, 0.0, 0.05), tmp_path)
    assert choice.corrected == pytest.approx(choice.value, abs=0.001)


def test_the_loss_is_that_of_the_predictions(trials, tmp_path):
    """Logits 8 (quality 2) plus noise of 2: the mean of log(1 + exp(-logit of the label))."""
    records = trials(2.0, 0.0)
    generator = np.random.default_rng(2000)
    labels = np.array([1, 0] * 20)
    logits = np.array([8 * (2 * label - 1) + generator.normal(0, 2) for label in labels], np.float32)
    expected = np.log1p(np.exp(-logits * (2 * labels - 1))).mean()
    assert choose(records, tmp_path).value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("by", "name"), [("val_auroc", "AUROC"), ("val_accuracy", "accuracy at 0.5")])
def test_searches_may_select_by_other_metrics(trials, tmp_path, by, name):
    """Quality 2 is right everywhere, and so it is in every resample."""
    choice = choose(trials(2.0, 0.0), tmp_path, by)
    assert (choice.value, choice.corrected) == (1.0, 1.0)
    assert describe_choice(choice, 300).startswith(f"validation {name} 1.00 instead of 1.00, for t0")


def test_one_trial_is_no_choice(trials, tmp_path):
    assert choose(trials(0.5), tmp_path) is None


def test_failed_and_pruned_trials_cannot_be_chosen(trials, make_record, tmp_path):
    records = [*trials(0.5), make_record({"seed": 8}, status="failed"), make_record({"seed": 9}, status="pruned")]
    assert choose(records, tmp_path) is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"many": False}, "8 patients, at least 10 are needed"),
        ({"loss": "focal"}, "predictions do not give the loss focal"),
    ],
)
def test_what_cannot_be_corrected_has_its_reason(make_record, tmp_path, fields, reason):
    loss = fields.pop("loss", "default")
    records = [
        make_record({"name": "a", "seed": seed, "training.loss": loss}, **{"many": True, **fields}) for seed in (1, 2)
    ]
    choice = choose(records, tmp_path)
    assert (choice.value, choice.corrected) == (None, None)
    assert describe_choice(choice, 300) == f"validation loss of a not corrected: {reason}"


def test_trials_of_different_images_are_not_compared(make_record, tmp_path):
    records = [make_record({"name": "a", "seed": number}, many=number == 1) for number in (1, 2)]
    assert choose(records, tmp_path).reason == "trials were validated on different images"
