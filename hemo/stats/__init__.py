"""Metrics, bootstrap intervals and paired tests: arrays in, numbers out."""
