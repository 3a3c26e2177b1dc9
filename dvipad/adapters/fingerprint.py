"""What kind of device a client is, by its first packet alone (as p0f does).

A stack writes the options of a SYN in an order of its own, and starts with a hop limit of its own:
64 (Linux, Android, Apple, the BSDs) or 128 (Windows). Nobody is asked, and nothing is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dvipad.config.model import Device

_END, _NOP = 0, 1
_LETTERS: Final = {0: "e", 1: "n", 2: "m", 3: "w", 4: "s", 8: "t"}
"""End, no operation, maximum segment size, window scale, SACK permitted, timestamps."""


@dataclass(frozen=True, slots=True)
class Signature:
    """`hops`: with which the packet started. `window`: None: any. `options`: orders in which they
    may stand."""

    device: Device
    hops: int
    window: int | None
    options: frozenset[str]


SIGNATURES: Final = (
    # Linux from 2.4 on, and Android; without timestamps (net.ipv4.tcp_timestamps 0); without SACK.
    Signature(Device.LINUX, 64, None, frozenset({"mstnw", "mnnsnw", "mnntnw"})),
    # macOS and iOS.
    Signature(Device.APPLE, 64, 65535, frozenset({"mnwnntse"})),
    # Windows from XP on: with and without window scaling and timestamps.
    Signature(
        Device.WINDOWS, 128, None, frozenset({"mnns", "mnwnns", "mnwnntnns", "mnwst", "mnwstn"})
    ),
)


def device_of(hops_left: int, window: int, options: bytes) -> Device:
    """The device that sent a SYN with this hop limit, window and options. Never raises."""
    hops = 64 if hops_left <= 64 else 128 if hops_left <= 128 else 255
    order = _order(options)
    for known in SIGNATURES:
        if (
            known.hops == hops
            and order in known.options
            and (known.window is None or known.window == window)
        ):
            return known.device
    return Device.OTHER


def _order(options: bytes) -> str:
    """A letter for each option; "?" for one that is unknown, or broken."""
    order, at = "", 0
    while at < len(options):
        kind = options[at]
        order += _LETTERS.get(kind, "?")
        if kind == _END:
            break
        length = 1 if kind == _NOP else options[at + 1] if at + 1 < len(options) else 0
        if length < 1 or (kind != _NOP and length < 2) or at + length > len(options):
            return order + "?"
        at += length
    return order
