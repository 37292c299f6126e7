"""What a user may choose about probabilities, by name; imports nothing, for every config does."""

from dataclasses import dataclass
from math import inf, nan
from typing import Literal

CalibrationChoice = Literal["where_prior_shifted", "none", "temperature", "platt"]
Rule = Literal["balanced_accuracy", "sensitivity", "specificity", "cost_ratio"]

BALANCED_ACCURACY: Rule = "balanced_accuracy"
WANTED = "balanced_accuracy, sensitivity=0.95, specificity=0.95 (below 1) or cost_ratio=10"
STANDARD_POINTS = (
    BALANCED_ACCURACY,
    "sensitivity=0.9",
    "sensitivity=0.95",
    "sensitivity=0.99",
    "specificity=0.9",
    "specificity=0.95",
    "specificity=0.99",
)
"""Operating points that every checkpoint holds beside its own."""


@dataclass(frozen=True)
class OperatingPoint:
    """A rule by which validation chooses a threshold."""

    rule: Rule
    value: float = 0.0  # least sensitivity or specificity, or how many false positives a false negative costs

    @classmethod
    def parse(cls, text: str) -> "OperatingPoint":
        """Return an operating point from its name: `balanced_accuracy`, or `RULE=NUMBER`.

        Raises:
            ValueError: If it is none.
        """
        rule, equals, number = text.partition("=")
        if text == BALANCED_ACCURACY:
            return cls(BALANCED_ACCURACY)
        try:
            value = float(number)
        except ValueError:
            value = nan
        if equals and rule in ("sensitivity", "specificity") and 0 < value < 1:
            return cls("sensitivity" if rule == "sensitivity" else "specificity", value)
        if equals and rule == "cost_ratio" and 0 < value < inf:
            return cls("cost_ratio", value)
        raise ValueError(f"must be {WANTED}")

    @property
    def name(self) -> str:
        """The name that `parse` takes; equal points have equal names."""
        return self.rule if self.rule == BALANCED_ACCURACY else f"{self.rule}={self.value:g}"
