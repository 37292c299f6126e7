"""Entry points, one module for each job: `hemo NAME`, `python -m ray_jobs.NAME`, or as a Ray job."""
