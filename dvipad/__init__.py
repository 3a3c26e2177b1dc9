"""dvipad: one IP address for a whole cluster of Linux servers, that never goes away."""

__version__ = "0.1.0"
