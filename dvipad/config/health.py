"""The section `health` of the node file: what a node does about troubles of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dvipad.config.yamldoc import Mapping


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """Self-care, the autonomics of z/OS (SYSPLEXMONITOR).

    A trouble is reported once it lasts `persist_ms`, that no uplink works after `uplink_ms`, and
    is over once it is gone for `clear_ms`. `rejoin` False: it is over only when the operator says
    joingroup. `enabled` False: this node looks for none.
    """

    enabled: bool = True
    rejoin: bool = True
    persist_ms: int = 1000
    uplink_ms: int = 300
    clear_ms: int = 3000


HEALTH_LIMITS: Final = {
    "persist_ms": (0, 3_600_000),
    "uplink_ms": (0, 3_600_000),
    "clear_ms": (0, 3_600_000),
}
_SWITCHES: Final = ("enabled", "rejoin")
_WORDS: Final = {"true": True, "false": False}


def read_health(top: Mapping) -> HealthConfig:
    """The section `health`; what is wrong with it is noted, and is as by default then."""
    known = (*_SWITCHES, *HEALTH_LIMITS)
    values = Mapping(top.document, top.node("health"), known, "health")
    default = HealthConfig()
    switches = {
        key: values.text(key, lambda text: _WORDS.get(text.lower()), "Write true or false.")
        for key in _SWITCHES
    }
    numbers = {
        key: values.number(key, getattr(default, key), low, high, "ms")
        for key, (low, high) in HEALTH_LIMITS.items()
    }
    given = {key: on for key, on in switches.items() if on is not None}
    return HealthConfig(
        given.get("enabled", default.enabled), given.get("rejoin", default.rejoin), **numbers
    )
