"""From a training set to weights and metrics. Plain torch, no Ray."""
