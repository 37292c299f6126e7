"""Published tables, one YAML file each, and ours beside them."""
