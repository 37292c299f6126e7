"""From a checkpoint to probabilities, heat maps and ONNX."""
