"""Rings: exact weights, bounded, the same whatever the order of the choices."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from ipaddress import IPv4Address
from math import gcd
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.config.model import DistMethod
from dvipad.core.methods import BALANCED_MAX, RING_MAX, Choice, lightest, ring

XCF = IPv4Address("192.0.2.0")
weights = st.lists(st.integers(1, 99), min_size=1, max_size=40)


def choices(numbers: list[int]) -> list[Choice]:
    return [Choice(XCF + 1 + index, weight) for index, weight in enumerate(numbers)]


@pytest.mark.parametrize(
    ("method", "room"),
    [(DistMethod.ROUNDROBIN, RING_MAX), (DistMethod.WEIGHTEDACTIVE, BALANCED_MAX)],
)
@given(numbers=weights)
def test_turns_are_in_exact_proportion_when_they_fit(
    method: DistMethod, room: int, numbers: list[int]
) -> None:
    turns = Counter(ring(method, choices(numbers)))
    divisor = gcd(*numbers)
    if sum(numbers) // divisor <= room:
        assert [turns[XCF + 1 + i] for i in range(len(numbers))] == [n // divisor for n in numbers]
    else:
        assert sum(turns.values()) <= room
        assert len(turns) == len(numbers)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=2 * BALANCED_MAX))
def test_least_connections_knows_no_weights(numbers: list[int]) -> None:
    willing = [number for number in numbers if number] or numbers
    turns = ring(DistMethod.LEASTCONN, choices(numbers))
    assert len(turns) == len(set(turns)) == len(willing)


def test_too_many_to_balance_take_turns() -> None:
    many = ring(DistMethod.WEIGHTEDACTIVE, choices([1] * (BALANCED_MAX + 1)))
    assert len(many) == BALANCED_MAX + 1 > RING_MAX - len(set(many)), "no room for shares"


@given(weights)
def test_order_of_choices_does_not_matter(numbers: list[int]) -> None:
    given_choices = choices(numbers)
    shuffled = sorted(given_choices, key=lambda choice: hash((choice.weight, str(choice.xcf))))
    method = DistMethod.WEIGHTEDACTIVE
    assert ring(method, shuffled) == ring(method, given_choices)


def test_equal_weights_are_plain_round_robin() -> None:
    assert ring(DistMethod.ROUNDROBIN, choices([10, 10, 10])) == (XCF + 1, XCF + 2, XCF + 3)


def test_turns_are_spread() -> None:
    turns = ring(DistMethod.WEIGHTEDACTIVE, choices([1, 3]))
    assert Counter(turns) == {XCF + 1: 1, XCF + 2: 3}


def test_no_choice_no_ring() -> None:
    assert ring(DistMethod.ROUNDROBIN, []) == ()


def test_hot_standby_gives_all_to_the_highest() -> None:
    standby = [Choice(XCF + 1, 1, 10), Choice(XCF + 2, 1, 255), Choice(XCF + 3, 1, None)]
    assert ring(DistMethod.HOTSTANDBY, standby) == (XCF + 2,)


shares_with_counts = st.dictionaries(
    st.integers(0, 255), st.tuples(st.integers(1, 255), st.integers(-5, 2000)), min_size=1
)


@given(shares_with_counts, st.data())
def test_the_lightest_has_the_fewest_for_its_weight(
    given_shares: dict[int, tuple[int, int]], data: st.DataObject
) -> None:
    shares = [(target, weight) for target, (weight, _) in given_shares.items()]
    active = {target: count for target, (_, count) in given_shares.items()}
    turn = data.draw(st.sampled_from(sorted(given_shares)))
    position = data.draw(st.integers(0, 2**40))
    load = {target: Fraction(active[target], weight) for target, weight in shares}
    best = [target for target in load if load[target] == min(load.values())]
    chosen = lightest(shares, active.__getitem__, turn, position)
    if turn in best:
        assert chosen == turn
    else:
        start = position % len(shares)
        order = [target for target, _ in shares[start:] + shares[:start]]
        assert chosen == next(target for target in order if target in best)


@given(weights, st.randoms(use_true_random=False))
def test_active_connections_keep_the_proportion(numbers: list[int], random: Random) -> None:
    """Whatever ends in between, nobody gets one who has more for his weight than another."""
    turns = ring(DistMethod.WEIGHTEDACTIVE, choices(numbers))
    shares = list(Counter(turns).items())
    active = Counter({target: 0 for target, _ in shares})
    for position in range(200):
        chosen = lightest(shares, active.__getitem__, turns[position % len(turns)], position)
        weight = dict(shares)
        assert all(
            active[chosen] * weight[other] <= active[other] * weight[chosen] for other in active
        )
        active[chosen] += 1
        ending = random.choice(list(active))
        active[ending] -= active[ending] > 0 and random.random() < 0.5


def test_who_has_none_takes_turns_by_weight() -> None:
    turns = ring(DistMethod.WEIGHTEDACTIVE, choices([1, 3]))
    shares = list(Counter(turns).items())
    got = [lightest(shares, lambda _: 0, turns[at % 4], at) for at in range(8)]
    assert Counter(got) == {XCF + 1: 2, XCF + 2: 6}
