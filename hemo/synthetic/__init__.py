"""A synthetic head-CT corpus, from a seed to the bytes of its files.

`plan` lists the files; `slice_file` renders one with `anatomy`, `hemorrhage` and `scanner`, and returns its bytes and
labels.
"""
