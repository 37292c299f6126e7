"""Track running trials in W&B or TensorBoard."""
