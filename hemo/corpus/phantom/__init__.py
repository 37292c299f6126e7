"""A synthetic head-CT corpus, from a seed to the bytes of its files.

`plan` says which files there are; `rendering` draws one, from `head` by way of `section`, `anatomy`, `hemorrhage` and
`scanner`; `slice_file` turns it into the bytes of a file and its label.
"""
