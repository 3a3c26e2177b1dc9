"""The ownership table: every state is reached, and whatever is due has a row."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dvipad.config.model import Moveable
from dvipad.core.membership import Claim, make_claim
from dvipad.core.triggers import Facts, due
from dvipad.core.vipa import TABLE, Ownership, State, Trigger

DVIPA = IPv4Address("203.0.113.1")
names = st.sampled_from([None, "lb1", "lb2", "lb3"])
some_claim = st.builds(
    make_claim, st.integers(1, 3), st.sampled_from([1, 10, 255]), st.sampled_from(["lb2", "lb3"])
)

ownerships = st.builds(
    Ownership,
    dvipa=st.just(DVIPA),
    rank=st.sampled_from([0, 1, 10, 255]),
    moveable=st.sampled_from(Moveable),
    state=st.sampled_from(State),
    since_ms=st.integers(0, 5_000),
    done=st.booleans(),
    failed=st.sampled_from(["", "why"]),
    retry_ms=st.integers(0, 5_000),
    successor=names,
    asked_by=names,
    offered_by=names,
    offered_to=names,
    released=st.booleans(),
    rival_released=st.booleans(),
    crt_dump=st.sampled_from([None, ()]),
)
facts = st.builds(
    Facts,
    now_ms=st.integers(0, 10_000),
    joined=st.booleans(),
    own=st.builds(make_claim, st.integers(1, 3), st.sampled_from([1, 10, 255]), st.just("lb1")),
    rival=st.none() | some_claim,
    rival_up=st.booleans(),
    rival_proven=st.booleans(),
    entitled=st.booleans(),
    activated=st.booleans(),
    collected=st.booleans(),
    leaving=st.booleans(),
    overdue=st.booleans(),
    backup=names,
    asker_up=st.booleans(),
    successor_up=st.booleans(),
)


@given(ownerships, facts)
@hypothesis_settings(max_examples=2_000, deadline=None)
def test_whatever_is_due_has_a_row(vipa: Ownership, known: Facts) -> None:
    trigger = due(vipa, known)
    if trigger is not None:
        assert (vipa.state, trigger) in TABLE


def test_every_state_is_reached_and_left() -> None:
    reached, grown = {State.BACKUP}, True
    while grown:
        grown = False
        for (before, _), (_, after) in TABLE.items():
            if before in reached and after not in reached:
                reached.add(after)
                grown = True
    assert reached == set(State)
    assert {before for before, _ in TABLE} == set(State)
    assert {trigger for _, trigger in TABLE} == set(Trigger)


def test_a_trigger_without_a_row_changes_nothing() -> None:
    vipa = Ownership(DVIPA)
    assert vipa.take(Trigger.LINGER_OVER, 5) is None
    assert (vipa.state, vipa.since_ms) == (State.BACKUP, 0)


def test_an_owner_yields_to_the_higher_claim_only() -> None:
    vipa = Ownership(DVIPA, state=State.ACTIVE, rank=10, epoch=2)
    own: Claim = make_claim(2, 10, "lb2")
    higher = Facts(0, True, own, rival=make_claim(2, 10, "lb1"), rival_proven=True)
    lower = Facts(0, True, own, rival=make_claim(2, 10, "lb3"), rival_proven=True)
    assert due(vipa, higher) is Trigger.HIGHER_CLAIM
    assert due(vipa, lower) is None
