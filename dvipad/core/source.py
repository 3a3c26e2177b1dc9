"""Where the weight of a target comes from."""

from __future__ import annotations

from enum import Enum


class Source(Enum):
    """Where the weight of a target comes from."""

    CONFIGURED = "configured"
    """WEIGHT of the profile."""
    BASE = "base"
    """Its node has so much to spare."""
    SERVER = "server"
    """Its server has."""
    ANNOUNCED = "announced"
    """Its operator says so."""
    FIGURES = "figures"
    """A preference compares what its status objects read."""
    DEFAULT = "default"
    """Nothing is known of it."""
