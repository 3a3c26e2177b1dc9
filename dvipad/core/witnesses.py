"""Every node bears witness: whose claim of a DVIPA it hears, for those that cannot hear it; and
it believes its own eyes, when a node that it cannot hear has a DVIPA on the link."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dvipad.address import Address, order
from dvipad.core.context import Context
from dvipad.core.effects import Broadcast, Send
from dvipad.core.membership import Claim, make_claim
from dvipad.wire.messages import Witness


class Witnesses:
    """What this node testifies to its peers, and what they testify."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._testified: dict[Address, Claim | None] = {}

    def heard(self, name: str, message: Witness) -> None:
        """Peer `name` says whose claim of a DVIPA it hears; it may hear whom this node cannot."""
        claim = make_claim(message.epoch, message.rank, message.owner) if message.owner else None
        self._context.membership.witnessed(name, message.dvipa, claim)

    def seen(self, epoch: Callable[[Address], int], claims: frozenset[tuple[Address, str]]) -> None:
        """Members without a session that are seen to have a DVIPA; `epoch`: the highest known.

        Whoever took a DVIPA over did so with a higher one, which it could not tell this node.
        """
        found: dict[Address, Claim] = {}
        for dvipa, name in claims:
            known = self._context.membership.sightings.get(dvipa)
            if known is None or known.name != name:
                peer = self._context.membership.get(name)
                entry = peer.entries.get(dvipa) if peer is not None else None
                known = make_claim(epoch(dvipa) + 1, entry.rank if entry else 0, name)
            found[dvipa] = known
        self._context.membership.seen(found)

    def testify(self, dvipa: Address, claim: Claim | None) -> None:
        """Tell everybody whose claim of `dvipa` this node hears now, if that is news."""
        if claim != self._testified.get(dvipa):
            self._context.emit(Broadcast(_testimony(dvipa, claim)))
        self._testified[dvipa] = claim

    def testified(self) -> Iterable[Address]:
        """DVIPAs that this node testified of."""
        return self._testified

    def forget(self, dvipa: Address) -> None:
        """Nobody names `dvipa` any more."""
        self._testified.pop(dvipa, None)

    def greet(self, name: str) -> None:
        """A session with `name` began: it gets every testimony but those about itself."""
        for dvipa, claim in sorted(self._testified.items(), key=lambda item: order(item[0])):
            if claim is not None and claim.name != name:
                self._context.emit(Send(name, _testimony(dvipa, claim)))


def _testimony(dvipa: Address, claim: Claim | None) -> Witness:
    if claim is None:
        return Witness(dvipa, 0, 0, "")
    return Witness(dvipa, claim.epoch, claim.rank, claim.name)
