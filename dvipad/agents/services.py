"""The agent of services: how connections of each (DVIPA, port) of this node do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from dvipad.adapters.inet_diag import ListenerKey, Row
from dvipad.adapters.socket_events import Service, Tally
from dvipad.adapters.tcp_info import Flow, counts_timeouts, flow_of
from dvipad.address import Address, pack
from dvipad.agents.quality import Cuts, Look, Quality, left
from dvipad.agents.responsiveness import Accepting, Completing, Span
from dvipad.wire.messages import Quality as QualityMessage
from dvipad.wire.messages import ServiceQuality

HOLDS: Final = 3
"""Intervals for which what is told holds."""
TOLD_MAX: Final = 4_096
"""Services that are told of, at the most."""

_WILDCARDS: Final[dict[int, Address]] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}
_NONE: Final = Tally(0, 0, 0, 0, 0)
_WELL: Final = ServiceQuality(_WILDCARDS[4], 1)

Tallies: TypeAlias = Mapping[Service, Tally] | None


@dataclass(frozen=True, slots=True)
class Connections:
    """Established ones, with ``struct tcp_info``, as far as they were looked at, or the `whole` of
    them; and half-open ones."""

    rows: Collection[Row]
    whole: bool
    half_open: Collection[Row]


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen at one look: listeners, and what was counted, read `before` and `after` them;
    at the last look of an interval also `connections`."""

    before: Tallies
    listeners: Collection[tuple[ListenerKey, Row]]
    after: Tallies
    connections: Connections | None = None


class _Kept:
    """What is remembered of a service."""

    def __init__(self, cuts: Cuts) -> None:
        self.quality = Quality(cuts)
        self.completing = Completing()
        self.said: dict[str, int | None] = {}


class ServicesAgent:
    """Keeps what it saw last. `interval_ms`: `LOOKS` looks. `counters`: looks; connections looked
    at, and listings that were cut short; readings that were bad, and why."""

    def __init__(self, interval_ms: int, cuts: Cuts) -> None:
        self._interval_ms = interval_ms
        self._cuts = cuts
        self._kept: dict[Service, _Kept] = {}
        self._accepting: dict[ListenerKey, Accepting] = {}
        self.counters: Counter[str] = Counter(
            looks=0, connections=0, cut_short=0, backwards=0, no_timeouts=0, no_info=0, unreadable=0
        )
        self.said = QualityMessage(HOLDS * interval_ms)
        """What was told last."""

    def look(self, services: Collection[Service], sight: Sight) -> QualityMessage:
        """One look at `services`, those that this node has listeners for."""
        self.counters["looks"] += 1
        self._kept = {each: self._kept.get(each) or _Kept(self._cuts) for each in services}
        listeners = _by_key(sight.listeners)
        serving = {each: _serving(each, listeners) for each in services}
        self._accepting = {
            key: self._accepting.get(key) or Accepting() for key in serving.values() if key
        }
        sef = {
            key: accepting.step(
                _established([each for each in services if serving[each] == key], sight),
                {row.cookie: row.waiting for row in listeners[key]},
            )
            for key, accepting in self._accepting.items()
        }
        if sight.connections is not None:
            self._judge(sight.connections, sight.after)
        told = []
        for service, kept in self._kept.items():
            key = serving[service]
            queue = _fullest(listeners[key]) if key else 0
            said = {**kept.said, "sef": sef[key] if key else 100, "queue": queue}
            told.append(ServiceQuality(*service, **said))  # type: ignore[arg-type]
        told.sort(key=lambda each: (str(each.dvipa), each.port))
        worth = [each for each in told if not _is_well(each)]
        self.said = QualityMessage(HOLDS * self._interval_ms, tuple(worth[:TOLD_MAX]))
        return self.said

    def _judge(self, seen: Connections, tallies: Tallies) -> None:
        """Once in an interval: handshakes, and what TCP counted."""
        flows = self._flows(seen)
        half_open = _by_service(seen.half_open, self._kept)
        for service, kept in self._kept.items():
            established, ended, more = None, None, 0
            if tallies is not None:
                tally = tallies.get(service, _NONE)
                established, more = tally.established, tally.established - tally.ended
                ended = Flow(tally.segments, tally.retransmits, tally.timeouts)
            before = kept.quality.backwards
            figures = kept.quality.step(Look(flows.get(service, {}), seen.whole, ended, more))
            self.counters["backwards"] += kept.quality.backwards - before
            still = frozenset(row.key() for row in half_open.get(service, ()))
            kept.said = {
                "left": left(figures, self._cuts),
                "cer": kept.completing.step(established, still),
                "loss": round(1000 * figures.loss),
                "timeouts": round(1000 * figures.timeouts),
                "use": None if figures.use is None else round(100 * figures.use),
                "round_trip_us": figures.round_trip_us,
            }

    def _flows(self, seen: Connections) -> dict[Service, dict[bytes, Flow]]:
        self.counters["connections"] += len(seen.rows)
        self.counters["cut_short"] += not seen.whole
        found: dict[Service, dict[bytes, Flow]] = {}
        for service, rows in _by_service(seen.rows, self._kept).items():
            flows = {row.cookie: flow_of(row.info) for row in rows}
            self.counters["no_info"] += sum(flow is None for flow in flows.values())
            self.counters["no_timeouts"] += sum(not counts_timeouts(row.info) for row in rows)
            found[service] = {key: flow for key, flow in flows.items() if flow is not None}
        return found


def _by_key(listeners: Iterable[tuple[ListenerKey, Row]]) -> dict[ListenerKey, list[Row]]:
    found: dict[ListenerKey, list[Row]] = {}
    for key, row in listeners:
        found.setdefault(key, []).append(row)
    return found


def _by_service(rows: Iterable[Row], services: Iterable[Service]) -> dict[Service, list[Row]]:
    """Connections of `services`; all others are left out."""
    known = {pack(dvipa) + port.to_bytes(2, "big"): (dvipa, port) for dvipa, port in services}
    found: dict[Service, list[Row]] = {}
    for row in rows:
        service = known.get(row.local_packed() + row.local_port)
        if service is not None:
            found.setdefault(service, []).append(row)
    return found


def _serving(service: Service, listeners: Mapping[ListenerKey, object]) -> ListenerKey | None:
    """Those that get the connections of `service`: the kernel prefers who names the address."""
    dvipa, port = service
    keys = ((address, port) for address in (dvipa, _WILDCARDS[dvipa.version], None))
    return next((key for key in keys if key in listeners), None)


def _established(services: Collection[Service], sight: Sight) -> Span | None:
    """Connections that were established for all of them."""
    if sight.before is None or sight.after is None:
        return None
    before, after = (
        sum(tallies.get(each, _NONE).established for each in services)
        for tallies in (sight.before, sight.after)
    )
    return before, after


def _fullest(listeners: Iterable[Row]) -> int:
    """Percent of its queue that is full, of the fullest listener."""
    parts = (100 * row.waiting // max(1, row.room) for row in listeners)
    return min(100, max(parts, default=0))


def _is_well(each: ServiceQuality) -> bool:
    known = (each.left, each.cer, each.sef, each.loss, each.timeouts, each.queue, each.use)
    well = (_WELL.left, _WELL.cer, _WELL.sef, _WELL.loss, _WELL.timeouts, _WELL.queue, _WELL.use)
    return known == well and each.round_trip_us is None
