"""Zip archives read in place: which members they have, and their bytes, on a disk or by range reads."""
