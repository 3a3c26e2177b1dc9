"""Statements, in their order, to one Profile; what they contradict each other in is reported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeVar, assert_never

from dvipad.address import Address
from dvipad.config.cursor import Cursor
from dvipad.config.distribute import MAX_TARGETS, Distribution
from dvipad.config.model import (
    OWNER_RANK,
    Backup,
    Define,
    DistMethod,
    Distribute,
    Profile,
    Range,
    Route,
    TargetSpec,
)
from dvipad.config.operands import Reference
from dvipad.config.statements import Added, Change, Deleted, RangeDeleted
from dvipad.config.tokens import Token

MAX_DVIPAS: Final = 1_024
"""VIPADEFINE and VIPABACKUP addresses of one node."""
MAX_RANGES: Final = 4_096
"""VIPARANGE statements, for each family."""
MAX_DISTRIBUTES: Final = 4_096
"""VIPADISTRIBUTE statements of one node."""
MAX_ROUTES: Final = 1_024
"""VIPAROUTE statements of one node."""

Statement = Change | Distribution
_Entry = TypeVar("_Entry", Range, Route)


def build(cursor: Cursor, statements: Iterable[Statement]) -> Profile:
    """The profile that `statements` say, problems between them noted at `cursor`."""
    builder = _Builder(cursor)
    statements = list(statements)
    for statement in statements:
        builder.learn_name(statement)
    for statement in statements:
        builder.apply(statement)
    return builder.finish()


class _Builder:
    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._names: dict[str, Address] = {}
        self._dvipas: dict[Address, Define | Backup] = {}
        self._ranges: list[Range] = []
        self._routes: list[Route] = []
        self._distributes: list[tuple[Token, Distribute]] = []

    def learn_name(self, statement: Statement) -> None:
        """Notes an IPv6 interface name; statements before its definition may use it too."""
        if isinstance(statement, Added) and isinstance(statement.entry, Define | Backup):
            entry = statement.entry
            if entry.interface is not None:
                self._names.setdefault(entry.interface, entry.dvipa)

    def apply(self, statement: Statement) -> None:
        match statement:
            case Added(token, entry):
                self._add(token, entry)
            case Deleted(token, reference):
                self._delete(token, reference)
            case RangeDeleted(token, Range() as entry):
                self._ranges = self._without(token, self._ranges, entry)
            case RangeDeleted(token, Route() as entry):
                self._routes = self._without(token, self._routes, entry)
            case RangeDeleted():
                raise AssertionError(statement)
            case Distribution():
                self._distribute(statement)
            case _:
                assert_never(statement)

    def _add(self, token: Token, entry: Define | Backup | Range | Route) -> None:
        match entry:
            case Define() | Backup():
                self._add_dvipa(token, entry)
            case Range():
                if any(_same(entry, other) for other in self._ranges):
                    remedy = "Remove one of them, or delete the first with VIPARANGE DELETE."
                    self._cursor.error(token, "a range that is defined before", remedy)
                self._ranges.append(entry)
                self._limit(token, self._ranges_of(entry), MAX_RANGES, "VIPARANGE of a family")
            case Route():
                if any(entry.xcf == other.xcf for other in self._routes):
                    remedy = "Keep one VIPAROUTE for each target."
                    self._cursor.error(token, "a target with a VIPAROUTE before", remedy)
                self._routes.append(entry)
                self._limit(token, len(self._routes), MAX_ROUTES, "VIPAROUTE")
            case _:
                assert_never(entry)

    def _ranges_of(self, entry: Range) -> int:
        return sum(other.network.version == entry.network.version for other in self._ranges)

    def _limit(self, token: Token, count: int, limit: int, what: str) -> None:
        if count == limit + 1:
            remedy = f"A node has at most {limit}: spread them over several nodes."
            self._cursor.error(token, f"more than {limit} {what}", remedy)

    def _add_dvipa(self, token: Token, entry: Define | Backup) -> None:
        before = self._dvipas.get(entry.dvipa)
        if before is not None:
            what = "VIPADEFINE" if isinstance(before, Define) else "VIPABACKUP"
            where = before.position.line
            remedy = "A DVIPA has one VIPADEFINE or VIPABACKUP; VIPADELETE it before the second."
            self._cursor.error(token, f"has a {what} in line {where} already", remedy)
            return
        for other in self._dvipas.values():
            if entry.interface is not None and entry.interface == other.interface:
                remedy = "Give each IPv6 DVIPA an interface name of its own, or none."
                message = f"interface {entry.interface} is {other.dvipa} already"
                self._cursor.error(token, message, remedy)
        self._dvipas[entry.dvipa] = entry
        self._limit(token, len(self._dvipas), MAX_DVIPAS, "DVIPAs")

    def _resolve(self, token: Token, reference: Reference) -> Address | None:
        if not isinstance(reference, str):
            return reference
        address = self._names.get(reference)
        if address is None:
            known = ", ".join(sorted(self._names)) or "none"
            remedy = f"Write the address, or the interface name of a VIPADEFINE here ({known})."
            self._cursor.error(token, "neither an address nor an interface name", remedy)
        return address

    def _delete(self, token: Token, reference: Reference) -> None:
        address = self._resolve(token, reference)
        if address is None:
            return
        if self._dvipas.pop(address, None) is None:
            remedy = "Name a DVIPA of a VIPADEFINE or VIPABACKUP before it, or remove this one."
            self._cursor.error(token, "deletes a DVIPA that is not defined before", remedy)
        self._distributes = [pair for pair in self._distributes if pair[1].dvipa != address]

    def _without(self, token: Token, entries: list[_Entry], entry: _Entry) -> list[_Entry]:
        rest = [other for other in entries if not _same(entry, other)]
        if len(rest) == len(entries):
            remedy = "Name exactly what a statement before it defines, or remove this one."
            self._cursor.error(token, "deletes what is not defined before", remedy)
        return rest

    def _distribute(self, statement: Distribution) -> None:
        address = self._resolve(statement.token, statement.reference)
        if address is None:
            return
        value = replace(statement.value, dvipa=address)
        if statement.delete:
            self._delete_distribute(statement, value)
            return
        for index, (token, other) in enumerate(self._distributes):
            if other.dvipa != address or not _overlap(value, other):
                continue
            if value.ports != other.ports:
                remedy = "Write one statement with the same ports, or other ports."
                message = f"ports of it are distributed in line {other.position.line} already"
                self._cursor.error(statement.token, message, remedy)
            elif replace(value, targets=other.targets) != other:
                remedy = "Options of all VIPADISTRIBUTEs for the same ports have to agree."
                message = f"contradicts the VIPADISTRIBUTE in line {other.position.line}"
                self._cursor.error(statement.token, message, remedy)
            else:
                merged = replace(other, targets=self._merge(statement, other.targets))
                self._distributes[index] = (token, merged)
            return
        self._distributes.append((statement.token, value))
        self._limit(statement.token, len(self._distributes), MAX_DISTRIBUTES, "VIPADISTRIBUTE")

    def _merge(
        self, statement: Distribution, before: tuple[TargetSpec, ...] | None
    ) -> tuple[TargetSpec, ...] | None:
        """A repeated VIPADISTRIBUTE adds targets and replaces those it names again."""
        added = statement.value.targets
        if added is None or before is None:
            return added
        targets = {target.xcf: target for target in (*before, *added)}
        if len({target.version for target in targets}) > 1:
            remedy = "The XCF addresses of a cluster are all IPv4 or all IPv6."
            self._cursor.error(statement.token, "has IPv4 and IPv6 targets together", remedy)
        self._limit(statement.token, min(len(targets), MAX_TARGETS + 1), MAX_TARGETS, "targets")
        if sum(target.standby_rank == OWNER_RANK for target in targets.values()) > 1:
            remedy = "Delete the PREFERRED target of before first, or make it a BACKUP."
            self._cursor.error(statement.token, "has a second PREFERRED target", remedy)
        return tuple(targets.values())

    def _delete_distribute(self, statement: Distribution, value: Distribute) -> None:
        remedy = "Name the DVIPA, ports and targets of a VIPADISTRIBUTE before it."
        for index, (token, other) in enumerate(self._distributes):
            if other.dvipa != value.dvipa or other.ports != value.ports:
                continue
            if not statement.targets_given or value.targets == other.targets:
                del self._distributes[index]
                return
            if value.targets is None or other.targets is None:
                break
            gone = {target.xcf for target in value.targets}
            if not gone <= {target.xcf for target in other.targets}:
                break
            left = tuple(target for target in other.targets if target.xcf not in gone)
            if left and not _can_stand_by(other, left):
                remedy = "Delete all of the statement, or leave a PREFERRED and a BACKUP target."
                message = "leaves HOTSTANDBY without a PREFERRED or a BACKUP target"
                self._cursor.error(statement.token, message, remedy)
            if left:
                self._distributes[index] = (token, replace(other, targets=left))
            else:
                del self._distributes[index]
            return
        self._cursor.error(statement.token, "deletes what is not distributed before", remedy)

    def finish(self) -> Profile:
        """The profile; what it distributes has to be its own or backed up here."""
        for token, value in self._distributes:
            if value.dvipa not in self._dvipas:
                remedy = "Add a VIPADEFINE or a VIPABACKUP for it in this profile."
                message = "distributed, but neither defined nor backed up here"
                self._cursor.error(token, message, remedy)
            for target in value.targets or ():
                if target.xcf in self._dvipas:
                    remedy = "DESTIP lists XCF addresses of nodes ('xcf:' in their node files)."
                    self._cursor.error(token, f"its target {target.xcf} is a DVIPA", remedy)
        entries = self._dvipas.values()
        return Profile(
            tuple(entry for entry in entries if isinstance(entry, Define)),
            tuple(entry for entry in entries if isinstance(entry, Backup)),
            tuple(self._ranges),
            tuple(value for _, value in self._distributes),
            tuple(self._routes),
        )


def _same(one: Range | Route, other: Range | Route) -> bool:
    if isinstance(one, Range) and isinstance(other, Range):
        return (one.network, one.prefix_length) == (other.network, other.prefix_length)
    return one == other


def _can_stand_by(value: Distribute, targets: tuple[TargetSpec, ...]) -> bool:
    """Whether `targets` are enough for the method of `value`."""
    if value.method is not DistMethod.HOTSTANDBY:
        return True
    return len(targets) > 1 and any(target.standby_rank == OWNER_RANK for target in targets)


def _overlap(one: Distribute, other: Distribute) -> bool:
    """Whether both are for the same ports. All ports and some of them are two things: the
    statement that lists a port goes before the one that lists none (C1)."""
    if not one.ports or not other.ports:
        return one.ports == other.ports
    return any(a.first <= b.last and b.first <= a.last for a in one.ports for b in other.ports)
