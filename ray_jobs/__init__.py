"""Doors: one job a file, started by `python -m ray_jobs.NAME`, `hemo NAME` or `ray job submit`."""
