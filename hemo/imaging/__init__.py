"""Decode one source file to images or rejects."""
