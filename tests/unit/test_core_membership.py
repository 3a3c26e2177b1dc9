"""Claims are totally ordered; peers live, are lost, and die."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from dvipad.core.membership import Life, Membership, make_claim
from dvipad.wire.events import DownReason
from dvipad.wire.messages import Member, VipaEntry, VipaList

DVIPA = IPv4Address("203.0.113.1")
claims = st.builds(
    make_claim, st.integers(0, 3), st.sampled_from([0, 1, 255]), st.text("ab", max_size=3)
)


@given(claims, claims, claims)
def test_claims_are_totally_ordered(one: object, other: object, third: object) -> None:
    ordered = sorted([one, other, third])  # type: ignore[type-var]
    assert ordered == sorted([third, one, other])  # type: ignore[type-var]
    assert (one == other) == (not one < other and not other < one)  # type: ignore[operator]


def test_the_smaller_name_wins_a_tie() -> None:
    assert make_claim(1, 10, "a") > make_claim(1, 10, "ab") > make_claim(1, 10, "b")
    assert make_claim(1, 11, "b") > make_claim(1, 10, "a")
    assert make_claim(2, 1, "b") > make_claim(1, 255, "a")


def with_owner() -> Membership:
    membership = Membership("own", 300, 2_000)
    membership.up(Member("lb1", IPv4Address("192.0.2.1"), 4780), 0)
    entry = VipaEntry(DVIPA, 255, True, True, 3)
    membership.list_received("lb1", VipaList((entry,)))
    return membership


def test_a_lost_daemon_keeps_its_claim_for_the_grace() -> None:
    membership = with_owner()
    membership.down("lb1", DownReason.LOST, 1_000)
    for now_ms in range(1_100, 3_000, 100):
        membership.answered("lb1", now_ms)
        assert membership.expire(now_ms) == []
        assert membership.claim(DVIPA) == make_claim(3, 255, "lb1")
    assert membership.expire(3_000) == ["lb1"]
    assert membership.claim(DVIPA) is None


def test_a_lost_host_that_falls_silent_is_dead_soon() -> None:
    membership = with_owner()
    membership.down("lb1", DownReason.LOST, 1_000)
    assert list(membership.deadlines()) == [1_300]
    assert membership.expire(1_300) == ["lb1"]


def test_silence_and_goodbye_are_death_at_once() -> None:
    for reason in (DownReason.SILENT, DownReason.GOODBYE):
        membership = with_owner()
        membership.down("lb1", reason, 1_000)
        assert membership.expire(1_000) == ["lb1"]
        assert membership.expire(1_000) == []


def test_a_dead_owner_that_returns_owns_nothing_until_it_says_so() -> None:
    membership = with_owner()
    membership.down("lb1", DownReason.SILENT, 1_000)
    peer = membership.up(Member("lb1", IPv4Address("192.0.2.1"), 4780), 2_000)
    assert (peer.life, peer.listed) == (Life.UP, False)
    assert membership.claim(DVIPA) is None
