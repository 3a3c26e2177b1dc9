"""What this node says of its part in every DVIPA: VIPA lists (D2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dvipad.address import Address
from dvipad.config.model import Distribute
from dvipad.core.candidates import Candidates
from dvipad.core.context import Context
from dvipad.core.effects import Broadcast
from dvipad.core.policies import Policies
from dvipad.core.standby import Standby
from dvipad.core.vipa import Ownership, State
from dvipad.wire.messages import VipaEntry, VipaList, policy_sets


class Lists:
    """Entries of `vipas`; `effective` is how this node distributes a DVIPA, by which `policies`."""

    def __init__(
        self,
        context: Context,
        vipas: dict[Address, Ownership],
        candidates: Candidates,
        effective: Callable[[Address], tuple[Distribute, ...]],
        policies: Policies,
        standby: Standby,
    ) -> None:
        self._context = context
        self._vipas = vipas
        self._candidates = candidates
        self._effective = effective
        self._policies = policies
        self._standby = standby
        self._offers: dict[Address, tuple[object, ...]] = {}
        self._claimed: set[Address] = set()
        self._said_joined: bool | None = None

    def whole(self) -> VipaList:
        """This node's whole list."""
        return self._list(self._vipas.values(), whole=True)

    def part(self, *vipas: Ownership) -> VipaList:
        """What it says of these: a change of one DVIPA does not cost a list of all."""
        return self._list(vipas, whole=False)

    def _list(self, vipas: Iterable[Ownership], whole: bool) -> VipaList:
        entries = tuple(map(self._entry, vipas))
        rules = {each.dvipa: self._policies.effective(each.dvipa) for each in entries if each.owner}
        context = self._context
        labels = context.settings.labels
        return VipaList(entries, context.joined, whole, policy_sets(rules), labels)

    def publish(self, look: Iterable[Address]) -> None:
        """Peers follow the profile, and whether this node is fit: they choose by that. And they
        hear of every claim that ends; one that begins is told when the rules for it are there."""
        whole = self._said_joined is not self._context.joined
        self._said_joined = self._context.joined
        news: list[Ownership] = []
        for dvipa in dict.fromkeys((*look, *self._standby.take_news())):
            vipa = self._vipas.get(dvipa)
            ended = dvipa in self._claimed and not (vipa and _claims(vipa))
            self._claimed.discard(dvipa)
            if vipa is None:
                whole |= self._offers.pop(dvipa, None) is not None
                continue
            if _claims(vipa):
                self._claimed.add(dvipa)
            offer = self._offer(vipa)
            if ended or offer != self._offers.get(dvipa):
                news.append(vipa)
            self._offers[dvipa] = offer
        if whole or news:
            self._context.emit(Broadcast(self.whole() if whole else self.part(*news)))

    def _fit(self, vipa: Ownership) -> bool:
        return not self._candidates.leaving(vipa) and self._context.now_ms >= vipa.retry_ms

    def _entry(self, vipa: Ownership) -> VipaEntry:
        # Until it is released the old claim stands, or the successor would miss its owner.
        giving, owner = vipa.state is State.GIVING, _claims(vipa)
        rank = vipa.rank if owner or self._fit(vipa) else 0
        epoch = vipa.held_epoch if giving else vipa.epoch
        if not owner:  # nor does a claim that it prepares count yet
            own = vipa.epoch if vipa.state is State.BACKUP else 0
            epoch = max(self._candidates.highest(vipa.dvipa), own)
        rows = self._effective(vipa.dvipa) if owner else ()
        facts = (vipa.dvipa, rank, vipa.creates, owner, epoch, rows, vipa.origin, vipa.moveable)
        active = self._standby.told(vipa.dvipa) if owner else ()
        return VipaEntry(*facts, vipa.moving_to, active)

    def _offer(self, vipa: Ownership) -> tuple[object, ...]:
        # Not the rank of the entry: a list in the middle of giving up would overtake the release.
        rank = vipa.rank if self._fit(vipa) else 0
        rows = self._context.own_distributes(vipa.dvipa)
        facts = (rank, vipa.creates, vipa.origin, vipa.moveable, rows)
        active = self._standby.told(vipa.dvipa) if _claims(vipa) else ()
        return *facts, self._policies.own(vipa.dvipa), vipa.moving_to, active


def _claims(vipa: Ownership) -> bool:
    return vipa.owning or vipa.state is State.GIVING
