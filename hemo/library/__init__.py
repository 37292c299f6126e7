"""The public Python API, which `import hemo` loads on first use: one function a job, and objects of what jobs wrote."""
