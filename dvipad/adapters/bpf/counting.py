"""What the programs counted: packets by verdict and reason, and what went to each target.

Kernel counters are read when somebody asks, one system call for a whole map.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Final

from dvipad.adapters.bpf.layout import THIS_NODE, Settings, index_key
from dvipad.adapters.bpf.maps import Map

COUNTERS: Final = (
    "hit_established",
    "hit_embryonic",
    "hit_late",
    "promoted",
    "established_full",
    "reopened",
    "queued",
    "chosen",
    "worker_stale",
    "worker_dead",
    "worker_window",
    "worker_budget",
    "no_service",
    "no_entry",
    "collecting",
    "synack_early",
    "moving_successor",
    "moving_lost",
    "hidden_accepted",
    "hidden_direct",
    "hidden_stray",
    "decapsulated",
    "tunnel_stranger",
    "tunnel_malformed",
    "tunnel_loop",
    "malformed",
    "fragment",
    "extension_header",
    "too_big",
    "too_big_answered",
    "too_big_unanswered",
    "icmp_hit",
    "icmp_no_entry",
    "no_target",
    "encapsulation_failed",
    "decapsulation_failed",
    "arp_hidden",
    "ndp_hidden",
    "lease_lapsed",
    "arp_rewritten",
    "mss_clamped",
    "refusal_held",
    "relayed_back",
    "fast_hidden",
    "fast_hidden_direct",
    "refused",
    "policy_unseen",
    "unseen",
)
"""Names of ``enum counter``, in its order; ``bpf/dvipad.h`` says what each means."""


WAYS: Final = ("fast", "fast_direct", "fast_xdp", "tunnel", "direct", "relayed")
"""Names of ``enum way``, in its order."""
WAYS_MAX: Final = 8
"""Rows of `traffic` for one target."""
TRAFFIC_WORDS: Final = 2
"""Numbers of 8 bytes in a ``struct traffic``: packets, bytes."""
_MEANS: Final = {
    "fast": ("hit_established", "encapsulated"),
    "fast_direct": ("hit_established", "direct"),
    "fast_xdp": ("hit_established", "encapsulated"),
    "tunnel": ("encapsulated",),
    "direct": ("direct",),
    "relayed": ("relayed",),
}
"""What the packets of each way to a target are counted as."""
_SHORT: Final = {
    "fast_hidden": ("hidden_accepted", "decapsulated"),
    "fast_hidden_direct": ("hidden_direct",),
}
"""What a packet of the short way would have been counted as, the long way."""
_PLACES: Final = range(len(WAYS))


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets and bytes that went to one target, as clients sent them."""

    packets: int
    bytes: int


class Counts:
    """The maps `counters` and `traffic`."""

    def __init__(self, counters: Map, traffic: Map) -> None:
        self._counters = counters
        self._traffic = traffic
        self._words = traffic.value_size // 8
        """Numbers in a value: those of all possible CPUs."""

    def ways(self) -> dict[str, Traffic]:
        """What went to all targets together, by way; also to those that are forgotten."""
        values, step = _numbers(self._traffic), WAYS_MAX * self._words
        found = {}
        for place, way in enumerate(WAYS):
            sums = [sum(values[place * self._words + at :: step]) for at in range(self._words)]
            found[way] = _traffic(sums)
        return found

    def of_targets(self, indexes: Sequence[int]) -> list[dict[str, Traffic]]:
        """What went to each of the targets `indexes`, by way: one reading for all of them."""
        values, size = _numbers(self._traffic), self._words
        starts = [[(index * WAYS_MAX + place) * size for place in _PLACES] for index in indexes]
        return [
            {way: _traffic(values[at : at + size]) for way, at in zip(WAYS, each, strict=True)}
            for each in starts
        ]

    def by_reason(self) -> dict[str, int]:
        """Packets by verdict and reason (``bpf/dvipad.h``), since the maps were made."""
        numbers, cpus = _numbers(self._counters), self._counters.value_size // 8
        counts = {
            name: sum(numbers[place * cpus : (place + 1) * cpus])
            for place, name in enumerate(COUNTERS)
        }
        counts |= dict.fromkeys(("encapsulated", "direct", "relayed"), 0)
        taken = {way: traffic.packets for way, traffic in self.ways().items()}
        taken |= {short: counts.pop(short) for short in _SHORT}
        for way, names in (_MEANS | _SHORT).items():
            for name in names:
                counts[name] += taken[way]
        return counts

    def forget(self, index: int) -> None:
        """The index may become another target's: what was counted for it stays in the sums."""
        for place in _PLACES:
            kept, gone = (index_key(row * WAYS_MAX + place) for row in (THIS_NODE, index))
            rows = [memoryview(self._traffic.lookup(key) or b"").cast("Q") for key in (kept, gone)]
            self._traffic.update(kept, array("Q", map(add, *rows)).tobytes())
            self._traffic.update(gone, bytes(self._traffic.value_size))


def _numbers(table: Map) -> memoryview:
    """The values of a per-CPU array, one after the other."""
    return memoryview(b"".join(values for _keys, values in table.batches())).cast("Q")


def _traffic(numbers: Sequence[int] | memoryview) -> Traffic:
    """Of all CPUs together."""
    return Traffic(sum(numbers[::TRAFFIC_WORDS]), sum(numbers[1::TRAFFIC_WORDS]))


def flooded(budget: Map, settings: Settings, now_ns: int) -> bool:
    """Whether a CPU's token bucket (``within_budget`` of ``bpf/choose.h``) is less than half full:
    the worker gets none of its SYNs."""
    buckets = _numbers(budget)
    half_ns = settings.budget_burst_ns // 2
    pairs = zip(buckets[::2], buckets[1::2], strict=True)
    return any(saved_ns + now_ns - last_ns < half_ns for last_ns, saved_ns in pairs)
