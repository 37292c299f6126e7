"""Configs to trials to tables. Never torch or Ray."""
