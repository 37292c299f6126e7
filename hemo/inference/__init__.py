"""A checkpoint to probabilities, heat maps and ONNX."""
