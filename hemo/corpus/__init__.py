"""Which inputs exist: sources, labels, the synthetic corpus."""
