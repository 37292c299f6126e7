"""Entry points, one module a job: `hemo NAME`, `python -m ray_jobs.NAME`, or as a Ray job."""
