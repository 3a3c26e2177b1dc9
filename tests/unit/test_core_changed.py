"""Whoever shows DVIPAs need only look again at those that the core noted as changed."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from dvipad.address import Address
from dvipad.core import viewing
from dvipad.core.context import CHANGED_MAX
from dvipad.core.effects import Effect
from dvipad.core.inputs import (
    ListenersChanged,
    Ordered,
    ProfileChanged,
    StopRequested,
    TroublesChanged,
)
from dvipad.core.node import Node
from dvipad.core.orders import Verb
from dvipad.core.view import DvipaView, TargetView
from dvipad.wire.events import DownReason
from tests.unit_core_cluster import DVIPA, PROFILES, Cluster

Shown = dict[Address, tuple[DvipaView, list[TargetView]]]


def shown(node: Node, dvipa: Address) -> tuple[DvipaView, list[TargetView]]:
    view = viewing.dvipa_of(node.context, node.owners, node.target, dvipa)
    return view, viewing.targets_of(node.distributor, dvipa)


class Followed(Cluster):
    """After each step, what is followed is what there is."""

    def __init__(self, *names: str) -> None:
        self.shown: dict[str, Shown] = {}
        self.looks = 0
        super().__init__(*names)

    def _carry_out(self, name: str, effects: list[Effect]) -> None:
        node = self.nodes[name]
        known = viewing.known(node.owners, node.target)
        changed, node.context.changed = node.context.changed, set()
        cache = self.shown.setdefault(name, {})
        if changed is None:
            cache.clear()
        for dvipa in known if changed is None else changed:
            cache.pop(dvipa, None)
            if dvipa in known:
                self.looks += 1
                cache[dvipa] = shown(node, dvipa)
        assert cache == {dvipa: shown(node, dvipa) for dvipa in known}
        super()._carry_out(name, effects)

    def end(self, name: str, reason: DownReason) -> None:
        self.shown.pop(name, None)
        super().end(name, reason)


def test_every_change_is_noted_in_the_step_that_makes_it() -> None:
    made = Followed("lb1", "lb2", "t1", "t2")
    made.pass_time(5_000)
    made.feed("t1", ListenersChanged(()))
    made.settle()
    orders = made.nodes["lb1"].context.orders
    made.feed("lb1", Ordered(orders.with_order(Verb.DEACTIVATE, DVIPA, 0)))
    made.settle()
    made.pass_time(10_000)
    assert made.nodes["lb2"].view().dvipas[0].status == "ACTIVE"
    made.feed("lb1", Ordered(orders))
    made.settle()
    made.feed("lb2", TroublesChanged(frozenset({"no uplink"})))
    made.pass_time(15_000)
    made.end("lb1", DownReason.SILENT)
    made.feed("lb2", TroublesChanged(frozenset()))
    made.pass_time(90_000)  # the dead are forgotten, too
    made.start("lb1")
    made.pass_time(100_000)
    made.feed("lb1", ProfileChanged(replace(PROFILES["lb1"], distributes=())))
    made.feed("lb2", StopRequested())
    made.pass_time(110_000)


def test_a_node_to_which_nothing_happens_is_not_looked_at() -> None:
    made = Followed("lb1", "lb2", "t1", "t2")
    made.pass_time(20_000)
    looks = made.looks
    made.pass_time(40_000)
    assert made.looks == looks


def test_with_too_many_all_count_as_changed() -> None:
    context = Cluster("t1").nodes["t1"].context
    context.changed = set()
    context.note([DVIPA])
    assert context.changed == {DVIPA}
    context.note(IPv4Address(number) for number in range(CHANGED_MAX))
    assert context.changed is None
    context.note([DVIPA])
    assert context.changed is None
