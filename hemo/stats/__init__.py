"""Metrics, intervals, paired differences and resampling of patients: arrays in, numbers out."""

CALIBRATION_BINS = 15
"""Bins of equal width behind the expected calibration error, as in Guo et al. 2017, arXiv:1706.04599."""
SIGNIFICANCE = 0.05
"""p-values below it are significant; intervals cover the rest, 95 %."""
MIN_PATIENTS = 10
"""Patients below which there is no interval: a variance between so few says little."""
MIN_PATIENTS_EACH = 5
"""Patients with images that show a finding, and with images that do not, below which AUROC has no interval."""
