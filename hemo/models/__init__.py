"""Networks: backbones, classifier, pretrained weights, normalisation, checkpoints."""
