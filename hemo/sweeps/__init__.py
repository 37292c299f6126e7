"""Grids and search spaces to trials, and the results of sweeps."""
