"""Figures of status objects: what every node said (RMO), and who tells whom (IMO, IRMO) (S1, S2).

A node of a farm tells the farm's reporter, the first of its members by name that this node has a
session with; the reporter tells the distributors for all of them. A node of no farm tells them
itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dvipad.config.model import farm_of
from dvipad.core.context import Context
from dvipad.core.effects import Send
from dvipad.core.inputs import FiguresRead
from dvipad.wire.messages import MAX_FIGURES, Figures, NodeFigures

GATHER_MS: Final = 20
"""What is read within so long, or comes from members of the farm, is told at once."""
REST_MS: Final = 100
"""Between two messages to the same node."""
UNIT: Final = 1000
"""Values travel in thousandths."""


class FigureTable:
    """What is known of each node. `edition` grows with each change, `ignored` with each word that
    cannot be used."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._names: dict[tuple[str, str], tuple[str, ...]] = {}
        self._told: dict[str, NodeFigures] = {}
        self._values: dict[str, dict[str, float]] = {}
        self.edition = 0
        self.ignored = 0

    def heard(self, sender: str, said: NodeFigures) -> NodeFigures | None:
        """`sender` says something of a node; returns it with its names, None if it is no use."""
        known = self._names.get((sender, said.node), ())
        names = (said.names or known) if said.values else ()
        if not self._is_member(said.node) or not len(said.values) == len(names) <= MAX_FIGURES:
            self.ignored += 1
            return None
        whole = said if said.names else replace(said, names=names)
        self._names[sender, said.node] = names
        if not whole.values:
            self._drop(said.node)
        elif self._told.get(said.node) != whole:
            self._told[said.node] = whole
            self._values[said.node] = {
                name: value / UNIT
                for name, value in zip(names, whole.values, strict=True)
                if value is not None
            }
            self.edition += 1
        return whole

    def _is_member(self, name: str) -> bool:
        context = self._context
        return name == context.settings.name or context.membership.get(name) is not None

    def greet(self, name: str) -> None:
        """A session with `name` began: it says all names anew."""
        self._names = {key: names for key, names in self._names.items() if key[0] != name}

    def forget(self, name: str) -> None:
        """Node `name` is gone."""
        self.greet(name)
        self._names = {key: names for key, names in self._names.items() if key[1] != name}
        self._drop(name)

    def _drop(self, name: str) -> None:
        self._told.pop(name, None)
        if self._values.pop(name, None) is not None:
            self.edition += 1

    def of(self, name: str) -> dict[str, float]:
        """Figures of node `name` that are known now."""
        return self._values.get(name, {})

    def all(self) -> dict[str, dict[str, float]]:
        """Figures by node."""
        return self._values


class Reporter:
    """Tells what this node, and the farm that it reports for, read."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._distributors: frozenset[str] = frozenset()
        self._known: dict[str, NodeFigures] = {}
        self._said: dict[str, dict[str, NodeFigures]] = {}
        self._due_ms: int | None = None
        self._told_ms = -REST_MS

    def read(self, event: FiguresRead) -> NodeFigures:
        """This node's own status objects."""
        own = NodeFigures(self._context.settings.name, event.names, event.values)
        self.keep(own)
        return own

    def keep(self, whole: NodeFigures) -> None:
        """These are figures of this node, or of one of its farm."""
        if whole.values or whole.node in self._known:
            self._known[whole.node] = whole
            self._hurry()

    def _follow(self) -> None:
        """Whoever distributes by now is told."""
        if self._distributors != self._context.distributors:
            self._distributors = frozenset(self._context.distributors)
            self._hurry()

    def greet(self, name: str) -> None:
        """A session with peer `name` began: it knows nothing yet."""
        self._said.pop(name, None)
        self._hurry()

    def forget(self, name: str) -> None:
        """Node `name` is gone."""
        self._said.pop(name, None)
        self._known.pop(name, None)
        self._context.distributors.discard(name)
        for said in self._said.values():
            said.pop(name, None)

    def is_of_farm(self, name: str) -> bool:
        """Whether node `name` is in the farm of this one."""
        peer, farm = self._context.membership.get(name), self._farm()
        return bool(farm) and peer is not None and farm_of(peer.labels) == farm

    def deadline(self) -> int | None:
        """When `flush` has something to do."""
        return self._due_ms

    def flush(self) -> None:
        """Tell what is due."""
        self._follow()
        now_ms = self._context.now_ms
        if self._due_ms is None or now_ms < self._due_ms:
            return
        self._due_ms = None
        for name in sorted(self._receivers()):
            said = self._said.setdefault(name, {})
            news = [
                each
                for node, each in self._known.items()
                if said.get(node) != each and node != name
            ]
            if news:
                told = tuple(_short(each, said.get(each.node)) for each in news)
                said.update((each.node, each) for each in news)
                self._context.emit(Send(name, Figures(told)))
                self._told_ms = now_ms

    def _hurry(self) -> None:
        if self._due_ms is None and self._known:
            now_ms = self._context.now_ms
            self._due_ms = max(now_ms + GATHER_MS, self._told_ms + REST_MS)

    def _farm(self) -> str:
        return farm_of(self._context.settings.labels)

    def _reporter(self) -> str:
        """Who reports for the farm; this node, if it is in none."""
        own, membership = self._context.settings.name, self._context.membership
        return min((own, *filter(self.is_of_farm, membership.names_up())))

    def _receivers(self) -> set[str]:
        """Whom this node tells; of what it kept as a reporter, nobody else when it is none."""
        own, reporter = self._context.settings.name, self._reporter()
        if reporter != own:
            self._known = {node: each for node, each in self._known.items() if node == own}
            return {reporter}
        return {name for name in self._distributors if self._context.membership.is_up(name)}


def _short(whole: NodeFigures, said: NodeFigures | None) -> NodeFigures:
    """Without names that were said before."""
    return replace(whole, names=()) if said is not None and said.names == whole.names else whole
