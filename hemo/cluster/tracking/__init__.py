"""A running trial shown to W&B or TensorBoard."""
