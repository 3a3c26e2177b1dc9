"""Every node bears witness: whose claim of a DVIPA it hears, for those that cannot hear it."""

from __future__ import annotations

from dvipad.address import Address
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

    def testify(self, heard: dict[Address, Claim | None]) -> None:
        """Tell everybody what changed: `heard` is whose claims this node hears now."""
        for dvipa, claim in heard.items():
            if claim != self._testified.get(dvipa):
                self._context.emit(Broadcast(_testimony(dvipa, claim)))
        self._testified = heard

    def greet(self, name: str) -> None:
        """A session with `name` began: it gets every testimony but those about itself."""
        for dvipa, claim in self._testified.items():
            if claim is not None and claim.name != name:
                self._context.emit(Send(name, _testimony(dvipa, claim)))


def _testimony(dvipa: Address, claim: Claim | None) -> Witness:
    if claim is None:
        return Witness(dvipa, 0, 0, "")
    return Witness(dvipa, claim.epoch, claim.rank, claim.name)
