"""From a raw medical image corpus to models and an honest comparison of them."""

__version__ = "0.1.0"
