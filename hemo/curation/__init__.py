"""Which rows are trained on: audit, split, balance, clean."""
