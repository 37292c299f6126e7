"""Grids and searches on Ray Tune."""
