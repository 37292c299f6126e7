"""Configs of the jobs: frozen, typed, one module a group of jobs; a field is a flag and a key of the YAML file."""
