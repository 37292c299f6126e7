"""Make a training set: audit, clean, split, balance and copy rows."""
