"""A synthetic head-CT corpus, from a seed to the bytes of its files.

`plan` says which files there are; `slice_file` draws one, from `head` by way of `anatomy`, `hemorrhage` and `scanner`,
and turns it into the bytes of a file and its labels.
"""
