"""The own connections compared with the CRT again: ends of some may have been missed (D7)."""

from __future__ import annotations

from dvipad.address import Address
from dvipad.core.agenda import Agenda
from dvipad.core.context import REPORT_AGAIN_MS, Context
from dvipad.core.crt import Collection
from dvipad.core.effects import DumpSockets
from dvipad.core.vipa import Ownership


class Rechecks:
    """Comparisons under way, and those that are due once more when all entries are old enough."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._under_way: dict[Address, Collection] = {}
        self._again: Agenda[Address] = Agenda()

    def ask(self, vipa: Ownership, again: bool = True) -> None:
        """List the connections of `vipa` that end here; with `again` once more later."""
        context = self._context
        self._again.discard(vipa.dvipa)
        if again:
            self.later(vipa.dvipa)
        effect_id = context.new_id()
        own = {context.settings.name}
        self._under_way[vipa.dvipa] = Collection(vipa.epoch, context.now_ms, own, effect_id)
        context.emit(DumpSockets(effect_id, vipa.dvipa))

    def later(self, dvipa: Address) -> None:
        """List them once, when all entries of now are old enough."""
        self._again.set(dvipa, self._context.now_ms + REPORT_AGAIN_MS)

    def due(self) -> list[Address]:
        """DVIPAs to be asked once more; each is told once."""
        return self._again.due(self._context.now_ms)

    def deadline(self) -> int | None:
        """When one is due."""
        return self._again.next()

    def answered(self, effect_id: int) -> tuple[Address, Collection] | None:
        """The comparison whose list of sockets `effect_id` is; it is over with that."""
        for dvipa, check in self._under_way.items():
            if check.own_effect == effect_id:
                return dvipa, self._under_way.pop(dvipa)
        return None
