"""Batches in, weights and numbers out. Plain torch, no Ray."""
