"""Choices by active connections: program and worker go by the same rule, and the same counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvipad.adapters.bpf.layout import RING_MAX
from dvipad.adapters.bpf.plane import REOPENED_NS, DataPlane
from dvipad.adapters.bpf.worker_view import WorkerView
from dvipad.address import Address, pack
from dvipad.core.methods import BALANCED_MAX, lightest
from dvipad.core.policy_rows import PolicyRow, Request
from tests.e2e.plane_network import Bench
from tests.e2e.plane_packets import CLIENT, DVIPA, OWN, PORT, TARGETS, four, from_client, key
from tests.e2e.plane_packets import own as owned

__all__ = ["four"]
pytestmark = pytest.mark.e2e
A, B = TARGETS[4]
HERE = OWN[4]


@pytest.fixture
def worker(four: Bench) -> Iterator[WorkerView]:
    owned(four)
    view = WorkerView.open(four.plane.settings.pin_dir)
    yield view
    view.close()


def serve(made: Bench, ring: tuple[Address, ...], *policies: PolicyRow) -> None:
    made.plane.set_service(DVIPA[4], PORT, ring, True, policies, True)


def active(made: Bench) -> dict[Address, int]:
    """What is told of the targets."""
    return {xcf: count for (*_, xcf), count in made.plane.distribution.active().items()}


def by_program(made: Bench, port: int) -> Address:
    """The program decides the SYN of a client, whose ACK follows."""
    before = made.plane.totals()
    made.ingress(*from_client(4, "S", port=port))
    made.ingress(*from_client(4, "A", port=port))
    ((*_, target),) = Counter(made.plane.totals()) - Counter(before)
    return target


def by_worker(made: Bench, view: WorkerView, port: int) -> Address:
    chosen = view.choose(pack(DVIPA[4]), PORT, lambda _: Request(CLIENT[4]))
    assert chosen is not None
    view.insert_embryonic(key(4, port), chosen.target, chosen.chooser)
    made.ingress(*from_client(4, "A", port=port))
    target = view.target(chosen.target) or HERE
    assert target in made.plane.distribution.rows()[0].ring
    return target


def census(made: Bench) -> None:
    while made.plane.tally.count_on():
        pass


@dataclass
class Model:
    """What the rule says, by itself."""

    ring: tuple[Address, ...]
    position: int = 0
    active: Counter[Address] = field(default_factory=Counter)
    connections: list[tuple[int, Address]] = field(default_factory=list)

    def choose(self, port: int) -> Address:
        shares = list(Counter(self.ring).items())
        turn = self.ring[self.position % len(self.ring)]
        target = lightest(shares, self.active.__getitem__, turn, self.position)
        self.position += 1
        self.active[target] += 1
        self.connections.append((port, target))
        return target


steps = st.lists(st.sampled_from(["program", "worker", "end", "end", "census"]), max_size=40)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.tuples(*[st.integers(1, 5)] * 3), steps, st.randoms(use_true_random=False))
def test_program_and_worker_agree_with_the_rule(
    four: Bench,
    worker: WorkerView,
    monkeypatch: pytest.MonkeyPatch,
    weights: tuple[int, int, int],
    todo: list[str],
    chance: Random,
) -> None:
    monkeypatch.setattr("dvipad.adapters.bpf.plane.REOPENED_NS", -REOPENED_NS)
    model = Model((A,) * weights[0] + (HERE,) * weights[1] + (B,) * weights[2])
    serve(four, model.ring)
    for port, step in enumerate(todo, 1):
        match step:
            case "program":
                assert by_program(four, port) == model.choose(port)
            case "worker":
                assert by_worker(four, worker, port) == model.choose(port)
            case "census":
                census(four)
            case _ if model.connections:
                chance.shuffle(model.connections)
                ended, target = model.connections.pop()
                four.plane.end_connections(target, key(4, ended))
                model.active[target] -= 1
        assert active(four) == {xcf: model.active[xcf] for xcf in (A, HERE, B)}
    four.plane.remove_service(DVIPA[4], PORT)
    four.plane.purge_dvipa(DVIPA[4])


def test_a_policy_counts_what_its_service_has(four: Bench, worker: WorkerView) -> None:
    """Whoever chose: the program by the service's ring, the worker by that of a policy."""
    serve(four, (A, B))
    assert {by_program(four, port) for port in (1, 2)} == {A, B}
    serve(four, (A,))
    assert by_program(four, 3) == A
    serve(four, (A, B), PolicyRow("all", ring=(A, B)))
    assert active(four) == {A: 2, B: 1}
    assert by_worker(four, worker, 4) == B
    assert active(four) == {A: 2, B: 2}
    serve(four, (A, B))
    assert {by_program(four, port) for port in (5, 6)} == {A, B}


def test_what_never_opens_counts_until_the_next_census(four: Bench, worker: WorkerView) -> None:
    serve(four, (A, B))
    for port in range(1, 5):
        four.ingress(*from_client(4, "S", port=port))
    assert active(four) == {A: 2, B: 2}
    four.ingress(*from_client(4, "A", port=1))
    census(four)
    assert sorted(active(four).values()) == [0, 1]


def test_connections_that_others_chose_count_too(four: Bench, worker: WorkerView) -> None:
    """After a takeover the CRT is what the targets said."""
    serve(four, (A, B))
    four.plane.insert_connections(A, key(4, 1) + key(4, 2), b"")
    census(four)
    assert [by_program(four, port) for port in (3, 4)] == [B, B]


def test_a_new_daemon_goes_on_counting(
    four: Bench, worker: WorkerView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvipad.adapters.bpf.plane.REOPENED_NS", -REOPENED_NS)
    serve(four, (A, B, B))
    chosen = [by_program(four, port) for port in (1, 2, 3)]
    again = DataPlane.open(replace(four.plane.settings))
    try:
        assert again.services()[0].ring == (A, B, B)
        again.end_connections(chosen[0], key(4, 1))
    finally:
        again.close()
    assert by_program(four, 4) == chosen[0]


def test_so_many_targets_take_turns(four: Bench, worker: WorkerView) -> None:
    serve(four, (A,) * BALANCED_MAX + (B,) * (RING_MAX - BALANCED_MAX))
    assert [by_program(four, port) for port in (1, 2)] == [A, A], "no room for shares"


def test_another_method_counts_no_more(four: Bench, worker: WorkerView) -> None:
    serve(four, (A, B))
    by_program(four, 1)
    four.plane.set_service(DVIPA[4], PORT, (A, B), True)
    assert active(four) == {} and not four.plane.distribution.balance
    assert {by_program(four, port) for port in (2, 3)} == {A, B}
    serve(four, (A, B))
    census(four)
    assert sum(active(four).values()) == 3
