"""From a raw medical image corpus to trained models and a statistical comparison of them."""

__version__ = "0.1.0"
