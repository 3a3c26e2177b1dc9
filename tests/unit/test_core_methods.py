"""Rings: exact weights, bounded, the same whatever the order of the choices."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address
from math import gcd

from hypothesis import given
from hypothesis import strategies as st

from dvipad.config.model import DistMethod
from dvipad.core.methods import RING_MAX, Choice, ring

XCF = IPv4Address("192.0.2.0")
weights = st.lists(st.integers(1, 99), min_size=1, max_size=40)


def choices(numbers: list[int]) -> list[Choice]:
    return [Choice(XCF + 1 + index, weight) for index, weight in enumerate(numbers)]


@given(weights)
def test_turns_are_in_exact_proportion_when_they_fit(numbers: list[int]) -> None:
    turns = Counter(ring(DistMethod.WEIGHTEDACTIVE, choices(numbers)))
    divisor = gcd(*numbers)
    if sum(numbers) // divisor <= RING_MAX:
        assert [turns[XCF + 1 + i] for i in range(len(numbers))] == [n // divisor for n in numbers]
    else:
        assert sum(turns.values()) <= RING_MAX
        assert len(turns) == len(numbers)


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
