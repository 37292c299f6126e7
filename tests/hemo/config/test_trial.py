"""What of a trial its digest covers."""

from typing import Any, get_args

import pytest

from hemo.config.trial import HEADS, IMAGES, STUDIES, ModelConfig, SeriesConfig, TrainingConfig, TrialConfig
from hemo.config.tune import changed, flattened
from hemo.config.validation import validated
from hemo.errors import ConfigError
from tests.records import trial_digest

OTHER_VALUES: dict[str, Any] = {
    "task": "multi_label",
    "target": "subdural",
    "seed": 1,
    "model.backbone": "resnet34",
    "model.weights": "imagenet",
    "model.head": "F-D(8)",
    "model.side_px": 64,
    "model.pooling": "flatten",
    "model.hidden_layers": 1,
    "model.dense_width": 8,
    "model.dropout": 0.2,
    "model.series.embeddings": "/other",
    "model.series.labels": "study",
    "model.series.study": "noisy_or",
    "model.series.study_weight": 2.0,
    "training.epochs": 10,
    "training.batch_size": 16,
    "training.learning_rate": 1e-3,
    "training.optimizer": "sgd",
    "training.weight_decay": 0.01,
    "training.schedule": "cosine",
    "training.warmup_epochs": 1.0,
    "training.loss": "focal",
    "training.balance": "oversample",
    "training.balance_ratio": 2.0,
    "training.label_smoothing": 0.1,
    "training.clip_norm": 1.0,
    "training.accumulation": 2,
    "training.freeze_epochs": 1,
    "training.layer_decay": 0.7,
    "training.ema_decay": 0.99,
    "training.calibration": "platt",
    "training.operating_point": "sensitivity=0.95",
    "training.patience": 3,
    "training.compile": True,
    "training.sync_batch_norm": False,
    "augment.horizontal_flip": 0.5,
    "augment.vertical_flip": 0.5,
    "augment.rotate_degrees": 10.0,
    "augment.shift_fraction": 0.1,
    "augment.scale_fraction": 0.1,
    "augment.erase": 0.5,
    "augment.window_level": 0.1,
    "augment.window_width": 0.2,
    "augment.aspect_fraction": 0.3,
    "augment.mixup_alpha": 0.2,
    "augment.strength": 0.5,
}
"""A value other than the default of every option but the name."""


@pytest.mark.parametrize(
    ("head", "spelled_out"),
    [
        ("F-D(8)", {"pooling": "flatten", "hidden_layers": 1, "dense_width": 8}),
        ("F-D(16)-D", {"pooling": "flatten", "hidden_layers": 1}),
        ("GAP-dropout-sigmoid", {}),
    ],
)
def test_a_head_by_name_is_the_trial_with_the_head_spelled_out(head: str, spelled_out: dict[str, Any]) -> None:
    named = TrialConfig.model_validate({"model": {"head": head, "backbone": "VGG16"}})
    assert named == TrialConfig(model=ModelConfig(backbone="VGG16", **spelled_out))
    assert changed(TrialConfig(), {"model.head": head}, origin="") == TrialConfig(model=ModelConfig(**spelled_out))


def test_the_names_of_heads_are_those_of_the_table() -> None:
    assert set(get_args(ModelConfig.model_fields["head"].annotation)) == {"", *HEADS}


def test_a_head_that_contradicts_the_rest_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"head F-D\(8\) has hidden_layers 1, not 2; leave out one of the two"):
        validated(TrialConfig, {"model": {"head": "F-D(8)", "hidden_layers": 2}})


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.head: .*F-D\(8\)"):
        validated(TrialConfig, {"model": {"head": "F-D(7)"}})


def test_every_option_is_in_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hemo.trials.key.embeddings_fingerprint", lambda location: location)
    of_images = TrialConfig()
    of_series = TrialConfig(model=ModelConfig(backbone="BiGRU(8)", series=SeriesConfig(embeddings="/embedded")))
    assert {"name", *OTHER_VALUES} == {name for name, _ in flattened(of_images.model_dump())}
    for name, value in OTHER_VALUES.items():
        plain = of_series if name.startswith("model.series.") else of_images
        used = changed(plain, {name: value}, origin="")
        assert trial_digest(used, "feedfacefeedface") != trial_digest(plain, "feedfacefeedface"), name


def test_a_negative_side_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.side_px: .*greater than or equal to 0, not -1"):
        validated(TrialConfig, {"model": {"side_px": -1}})


def test_images_at_once_are_a_workers_part_of_a_part_of_the_batch() -> None:
    """32 images by 2 workers in 3 parts: 16 each, in 6, 5 and 5; never none."""
    counts = [TrainingConfig(batch_size=32, accumulation=parts).images_at_once(workers=2) for parts in (1, 3, 32)]
    assert counts == [16, 6, 1]


def test_equal_operating_points_are_one_trial() -> None:
    named = [
        validated(TrialConfig, {"training": {"operating_point": f"sensitivity={text}"}}) for text in ("0.9", "0.90")
    ]
    assert trial_digest(named[0], "feedfacefeedface") == trial_digest(named[1], "feedfacefeedface")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"training": {"operating_point": "sensitivity"}},
            "operating_point: must be balanced_accuracy, .*, not 'sensitivity'",
        ),
        (
            {"task": "multi_class", "training": {"operating_point": "cost_ratio=2"}},
            "cost_ratio=2: multi_class has no thresholds, the most probable class is predicted; leave it out",
        ),
        (
            {"task": "multi_class", "training": {"calibration": "platt"}},
            "platt is for binary and multi_label; give temp",
        ),
        ({"training": {"calibration": "isotonic"}}, "training.calibration: .*'where_prior_shifted'.*'platt'"),
    ],
)
def test_what_suits_no_task_or_is_no_operating_point_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(TrialConfig, given)


def test_a_trial_predicts_images_unless_it_learns_from_labels_of_studies_alone() -> None:
    def model(**series: Any) -> ModelConfig:
        return ModelConfig(backbone="BiGRU(8)", series=SeriesConfig(embeddings="e", **series))

    trials = [TrialConfig(), TrialConfig(model=model()), TrialConfig(model=model(labels="study"))]
    assert [trial.row_noun for trial in trials] == [IMAGES, IMAGES, STUDIES]
    assert STUDIES == ("study", "studies", "a study")
