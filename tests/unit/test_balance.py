"""Active connections as user space keeps them: ends at once, the rest at each census."""

from __future__ import annotations

import mmap
import threading
from ipaddress import ip_address

import pytest

from dvipad.adapters.bpf.atomic import Numbers
from dvipad.adapters.bpf.balance import Balance, place_of
from dvipad.adapters.bpf.layout import TARGETS_MAX

SLOT = 3
HERE = place_of(ip_address("192.0.2.100"), 80)
ELSEWHERE = place_of(ip_address("2001:db8::100"), 80)


def numbers(count: int = 8 * TARGETS_MAX) -> Numbers:
    return Numbers(mmap.mmap(-1, count * 8))


@pytest.fixture
def active() -> Numbers:
    return numbers()


@pytest.fixture
def balance(active: Numbers) -> Balance:
    made = Balance(active)
    made.follow(HERE, SLOT, (1, 2))
    return made


def chosen(active: Numbers, index: int, count: int) -> None:
    """What program and worker do."""
    active.add(SLOT * TARGETS_MAX + index, count)


def test_what_ends_is_not_active(balance: Balance, active: Numbers) -> None:
    chosen(active, 1, 5)
    balance.ended(HERE, 1, 2)
    balance.ended(HERE, 2, 1)
    balance.ended(ELSEWHERE, 1, 9)
    assert balance.active(HERE) == {1: 3, 2: 0}, "fewer than none is none"
    assert active.view[SLOT * TARGETS_MAX + 2] == -1
    assert balance.active(ELSEWHERE) == {}


def test_a_census_corrects_what_it_began_with(balance: Balance, active: Numbers) -> None:
    chosen(active, 1, 5)  # two of them never became a connection
    balance.begin()
    chosen(active, 1, 4)
    balance.ended(HERE, 1, 1)
    balance.counted({(*HERE, 1): 3, (*HERE, 2): 7, (*ELSEWHERE, 1): 1})
    assert balance.active(HERE) == {1: 3 + 4 - 1, 2: 7}


def test_a_census_leaves_alone_what_changed_meanwhile(balance: Balance, active: Numbers) -> None:
    balance.begin()
    balance.follow(HERE, SLOT + 1, (1,))
    balance.counted({(*HERE, 1): 3})
    assert not any(active.view)
    balance.begin()
    balance.forget(HERE)
    balance.counted({(*HERE, 1): 3})
    assert not any(active.view) and not balance


def test_a_target_that_left_still_counts(balance: Balance, active: Numbers) -> None:
    balance.follow(HERE, SLOT, (2,))
    balance.begin()
    balance.counted({(*HERE, 1): 3})
    assert balance.active(HERE) == {1: 3, 2: 0}


def test_numbers_are_added_at_once_for_everybody() -> None:
    shared, each = numbers(4), 20_000

    def add() -> None:
        for _ in range(each):
            shared.add(2, 1)

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.add(2, -1) == 3 * each
    assert list(shared.view) == [0, 0, 3 * each - 1, 0]
    with pytest.raises(IndexError):
        shared.add(4, 1)
