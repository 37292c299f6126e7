"""Configs of the jobs: frozen, typed, a module for each group of jobs; a field is a flag and a key of the YAML file."""
