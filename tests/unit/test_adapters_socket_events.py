"""When watchers look again, and which ends they hold back: pure parts, with made-up time."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.bpf.layout import connection_key
from dvipad.adapters.features import Features, Missing, has_bpffs
from dvipad.adapters.inet_diag import ListenerKey
from dvipad.adapters.queue_counters import attach, create
from dvipad.adapters.socket_events import (
    LINGERING_MAX,
    Lingering,
    Schedule,
    by_dvipa,
    listeners_changed,
    relevant,
)
from dvipad.core.inputs import Listener

MS = 1_000_000
DVIPA = IPv4Address("198.51.100.1")


def test_schedule_looks_after_each_delay() -> None:
    schedule = Schedule((0, 1, 10))
    assert schedule.deadline_ns() is None
    schedule.trigger(100 * MS)
    looks = []
    while (deadline := schedule.deadline_ns()) is not None:
        assert not schedule.take(deadline - 1)
        assert schedule.take(deadline)
        looks.append(deadline // MS)
    assert looks == [100, 101, 110]


@given(st.lists(st.integers(0, 50 * MS), max_size=30), st.integers(0, 5 * MS))
def test_schedule_never_looks_more_than_a_fifth_of_the_time(gaps: list[int], cost: int) -> None:
    schedule = Schedule((0, 1, 10))
    now = busy = 0
    began = None
    for gap in gaps:
        now += gap
        schedule.trigger(now)
        while schedule.take(now):
            began = now if began is None else began
            schedule.looked(now, now + cost)
            now += cost
            busy += cost
    if began is not None:
        assert busy <= (now - began) / 5 + cost


def test_schedule_counts_missed_times_as_one() -> None:
    schedule = Schedule((0, 1, 10))
    schedule.trigger(0)
    assert schedule.take(1000 * MS)
    assert schedule.deadline_ns() is None


def test_lingering_ends_are_reported_once_and_not_when_reopened() -> None:
    lingering = Lingering(1000)
    lingering.add(b"a", 0)
    lingering.add(b"b", 1)
    assert lingering.take(999 * MS, lambda key: False) == []
    assert lingering.take(2000 * MS, lambda key: key == b"a") == [b"b"]
    assert len(lingering) == 0


def test_lingering_is_bounded() -> None:
    lingering = Lingering(1000)
    for number in range(LINGERING_MAX + 5):
        lingering.add(number.to_bytes(4, "big"), 0)
    taken = lingering.take(0, lambda key: False)
    assert [int.from_bytes(key, "big") for key in taken] == [0, 1, 2, 3, 4]
    assert len(lingering) == LINGERING_MAX


def test_listeners_in_a_total_order() -> None:
    wildcard = IPv6Address("::")
    listeners = {(None, 80): 1, (DVIPA, 443): 2, (wildcard, 80): 1, (DVIPA, 80): 1}
    changed = listeners_changed(listeners)
    assert changed == listeners_changed(dict(reversed(listeners.items())))
    assert Listener(None, 80, 1) in changed.listeners


def test_only_what_could_serve_a_dvipa_is_relevant() -> None:
    other = IPv4Address("203.0.113.1")
    addresses = (None, IPv4Address("0.0.0.0"), DVIPA, other)
    listeners: dict[ListenerKey, int] = {(a, port): 1 for port, a in enumerate(addresses, 1)}
    assert {port for _address, port in relevant(listeners, frozenset({DVIPA}))} == {1, 2, 3}


def test_keys_by_dvipa() -> None:
    second = IPv6Address("2001:db8::1")
    keys = [
        connection_key(IPv4Address("203.0.113.1"), 1, DVIPA, 80),
        connection_key(IPv6Address("2001:db8::9"), 2, second, 80),
        connection_key(IPv4Address("203.0.113.1"), 3, DVIPA, 80),
    ]
    assert by_dvipa(keys) == {DVIPA: keys[0] + keys[2], second: keys[1]}


def test_counters_are_shared_through_the_file(tmp_path: Path) -> None:
    ours = create(tmp_path / "counters")
    theirs = attach(tmp_path / "counters")
    ours.sent += 3
    assert theirs.counters()["sent"] == 3
    assert create(tmp_path / "counters").counters()["sent"] == 0


def test_features_say_what_needs_what_is_missing() -> None:
    assert has_bpffs("nodev\tsysfs\nnodev\tbpf\n")
    assert not has_bpffs("nodev\tbpf_other\n")
    harmless = Missing("A", "B", "do C", False, "D happens")
    fatal = Missing("E", "F", "do G", True)
    assert Features(None, None, True, (harmless, fatal)).fatal() == (fatal,)
    assert harmless.text() == "A is missing; needed by B; do C; until then D happens"
    assert fatal.text() == "E is missing; needed by F; do G"
