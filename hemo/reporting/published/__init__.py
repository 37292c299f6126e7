"""Tables published elsewhere, one YAML file each, compared with our trials."""
