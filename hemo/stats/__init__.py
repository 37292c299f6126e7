"""Intervals, curves and paired tests: arrays in, numbers out."""
