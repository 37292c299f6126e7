"""Backbones, classifier, pretrained weights, normalisation, checkpoints."""
