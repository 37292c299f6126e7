"""One file in, one image out."""
