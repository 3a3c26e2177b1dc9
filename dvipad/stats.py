"""The answer to ``stats``: everything for the metrics, at a price that allows to ask every second.

What changes seldom, rows for each DVIPA and its targets, has an edition: who knows it already gets
numbers alone. The kernel is asked in its thread, and the loop is never held for long: heartbeats
leave in time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from dvipad.adapters.bpf.tally import Row
from dvipad.address import Address
from dvipad.core import viewing
from dvipad.core.fitness import WELL
from dvipad.core.source import Source
from dvipad.core.view import DvipaView, TargetView
from dvipad.core.vipa import OWNING
from dvipad.counting import Counting
from dvipad.kernel_stats import KernelStats
from dvipad.node_stats import node_samples

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

AT_ONCE: Final = 100
"""DVIPAs that are looked at before others get their turn."""
_OWNING: Final = frozenset(state.value for state in OWNING)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is known of one DVIPA; `fit`: this node would take it now."""

    dvipa: DvipaView
    targets: list[TargetView]
    fit: bool


class Stats:
    """Serves ``stats``; ``known`` is the edition that the asker has."""

    def __init__(self, daemon: Daemon, counting: Counting) -> None:
        self._daemon = daemon
        self._counting = counting
        self._kernel = KernelStats(daemon)
        self._life = time.time_ns()
        self._number = 0
        self._known: dict[Address, _Rows] = {}
        self._rows: tuple[Row, ...] = ()
        self._looking = asyncio.Lock()

    async def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``edition``, ``rows`` if it is another one than ``known``, ``connections``, ``samples``.

        ``connections``: new ones of all rows, ended ones, active ones. Keys of ``samples`` are
        names of metrics; each row has the values of its labels, and a number.
        """
        async with self._looking:
            await self._look()
            edition, rows = [self._life, self._number], self._rows
            structure = list(self._known.values())
        loop = asyncio.get_running_loop()
        samples, names = node_samples(self._daemon), self._daemon.policing.names()
        found, kernel = await loop.run_in_executor(
            self._daemon.thread, self._kernel.read, rows, len(structure), names
        )
        self._counting.again()
        answer = {
            "edition": edition,
            "connections": pack(found.chosen, found.ended, found.active),
            "samples": samples | kernel,
        }
        if request.get("known") != edition:
            answer["rows"] = await asyncio.to_thread(_structure, structure)
        return answer

    async def _look(self) -> None:
        """Follow what changed in the core, a part of it at a time."""
        node = self._daemon.node
        context, owners, target = node.context, node.owners, node.target
        changed, context.changed = context.changed, set()
        known = viewing.known(owners, target)
        if changed is None:
            changed = known | self._known.keys()
        new = False
        for number, dvipa in enumerate(sorted(changed, key=str), 1):
            new |= self._follow(dvipa, dvipa in known)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
                known = viewing.known(owners, target)
        if new:
            self._number += 1
            self._rows = tuple(
                (row.dvipa, row.port, row.xcf)
                for rows in self._known.values()
                for row in rows.targets
            )

    def _follow(self, dvipa: Address, known: bool) -> bool:
        """Look at one of them; returns whether something about it is new."""
        node = self._daemon.node
        if not known:
            return self._known.pop(dvipa, None) is not None
        before = self._known.get(dvipa)
        self._known[dvipa] = rows = _Rows(
            viewing.dvipa_of(node.context, node.owners, node.target, dvipa),
            [_steady(row) for row in viewing.targets_of(node.distributor, dvipa)],
            not node.context.troubles,
        )
        return rows != before


def _steady(row: TargetView) -> TargetView:
    """Without what is measured again and again: metrics have that of each node, once."""
    measured = row.source != Source.CONFIGURED.value
    row = replace(row, fitness=WELL)
    return replace(row, weight=0, source="", active=False) if measured else row


def pack(*columns: Iterable[int]) -> str:
    """Numbers as text, 8 bytes each, base64: JSON takes ten times as long for thousands of them."""
    numbers = array("Q", chain(*columns))
    if sys.byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers).decode()


def _structure(known: list[_Rows]) -> dict[str, Any]:
    """Rows of text and numbers, as the metrics have them."""
    return {
        "dvipas": [_dvipa(rows) for rows in known],
        "targets": [
            [str(row.dvipa), row.port, row.name, row.ready, row.weight if weighted else None]
            for rows in known
            for weighted in (len({row.weight for row in rows.targets}) > 1,)
            for row in rows.targets
        ],
    }


def _dvipa(rows: _Rows) -> dict[str, Any]:
    view = rows.dvipa
    owner = view.state in _OWNING
    backup = view.status == "BACKUP" and view.rank > 0 and rows.fit
    return {
        "dvipa": str(view.dvipa),
        "roles": {
            "owner": owner,
            "backup": backup,
            "target": view.dist_status in ("target", "both"),
        },
        "status": view.status,
        "origin": view.origin,
        "epoch": view.epoch,
        "owner": view.owner,
    }
