"""What of a trial its digest covers."""

from typing import Any

import pytest

from hemo.config.trial import LATER, AugmentConfig, ModelConfig, TrainingConfig, TrialConfig
from hemo.study.record import record_digest

LATER_OPTIONS: list[tuple[str, str, Any]] = [
    ("training", "label_smoothing", 0.1),
    ("training", "clip_norm", 1.0),
    ("training", "accumulation", 2),
    ("training", "freeze_epochs", 1),
    ("training", "layer_decay", 0.7),
    ("training", "ema_decay", 0.99),
    ("augment", "mixup_alpha", 0.2),
    ("augment", "erase", 0.5),
    ("augment", "window_level", 0.1),
    ("augment", "window_width", 0.2),
]
"""Section, name and a value other than the default of every option that joined after the first records."""


def test_a_plain_trial_keeps_the_digest_of_the_first_records() -> None:
    assert record_digest(TrialConfig(), "feedfacefeedface") == "cc176093f1b11e8b"


def test_every_later_option_is_in_the_list() -> None:
    sections = {"model": ModelConfig, "training": TrainingConfig, "augment": AugmentConfig}
    later = {
        (section, name)
        for section, config in sections.items()
        for name, field in config.model_fields.items()
        if LATER in field.metadata
    }
    assert later == {(section, name) for section, name, _ in LATER_OPTIONS}


@pytest.mark.parametrize(("section", "name", "value"), LATER_OPTIONS, ids=[option[1] for option in LATER_OPTIONS])
def test_a_later_option_enters_the_digest_once_it_is_used(section: str, name: str, value: Any) -> None:
    used = TrialConfig.model_validate({section: {name: value}})
    assert used.digested() == {
        **TrialConfig().digested(),
        section: {**TrialConfig().digested()[section], name: used.deciding()[section][name]},
    }
    assert record_digest(used, "feedfacefeedface") != "cc176093f1b11e8b"
