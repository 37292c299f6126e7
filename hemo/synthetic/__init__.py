"""A synthetic head-CT corpus, from a seed to the bytes of its files.

`plan` lists the files; `slice_file` renders one with `anatomy`, `hemorrhage` and `scanner`, and returns its bytes and
labels.
"""

MANUFACTURER, MODEL = "hemo", "synthetic phantom"
"""What the files of the corpus name as their scanner, by which its images are known in shards and training sets."""
