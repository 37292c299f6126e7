"""Grids and search spaces to trials, and what came of them."""
