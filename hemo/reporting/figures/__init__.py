"""Figures of a comparison as SVG, one module a kind. None where the records have nothing to draw."""
