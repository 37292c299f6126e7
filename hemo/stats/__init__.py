"""Metrics, bootstrap intervals and paired tests: arrays in, numbers out."""

CALIBRATION_BINS = 15
"""Bins of equal width behind the expected calibration error, as in Guo et al. 2017, arXiv:1706.04599."""
