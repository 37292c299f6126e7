"""Plots of a comparison as SVG: searches, training, evaluation on test."""
