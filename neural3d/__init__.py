"""neural3d: one engine for neural scene representations."""

__version__ = "0.1.0"
