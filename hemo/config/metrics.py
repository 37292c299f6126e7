"""Names of the figures of a split, in the order in which they are shown."""

BY_CLASS = (
    "accuracy",
    "precision",
    "recall",
    "specificity",
    "f1",
    "false_negative_rate",
    "auroc",
    "average_precision",
    "calibration_error",
)
"""Figures of one class; those of several classes are their means."""

METRICS = ("loss", "log_loss", *BY_CLASS)
