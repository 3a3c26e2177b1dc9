"""Who is in the cluster, as this node sees it: peers, whether they live, what they said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from dvipad.address import Address
from dvipad.config.model import Label
from dvipad.wire.events import DownReason
from dvipad.wire.messages import Member, VipaEntry, VipaList


class Life(Enum):
    """UP: a session. LOST: its daemon died, its host may live and forward. DEAD: neither."""

    UP = "up"
    LOST = "lost"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """Ownership of a DVIPA that a node claims; the greatest wins: epoch, then rank, then name.

    `name_key` orders names descending, so that of two equal claims the smaller name wins.
    """

    epoch: int
    rank: int
    name_key: tuple[int, ...]
    name: str


@dataclass(slots=True)
class Peer:
    """Another node. `since_ms`: when it came to `life`; `answered_ms`: last sign of its host."""

    member: Member
    life: Life
    since_ms: int
    answered_ms: int
    session: int = 0
    listed: bool = False
    joined: bool = False
    entries: dict[Address, VipaEntry] = field(default_factory=dict)
    reaches: frozenset[str] = frozenset()
    witnessed: dict[Address, Claim] = field(default_factory=dict)
    left: bool = False
    labels: tuple[Label, ...] = ()


def make_claim(epoch: int, rank: int, name: str) -> Claim:
    """The claim of node `name`."""
    # A sentinel above every code point ends the key, so that "a" sorts above "ab" too.
    return Claim(epoch, rank, (*(-ord(letter) for letter in name), 1), name)


class Membership:
    """All peers ever heard of, by name."""

    def __init__(self, own_name: str, dead_ms: int, restart_grace_ms: int) -> None:
        self._own_name = own_name
        self._dead_ms = dead_ms
        self._grace_ms = restart_grace_ms
        self._peers: dict[str, Peer] = {}
        self._died: list[str] = []
        self.sightings: dict[Address, Claim] = {}
        """Claims of peers that are seen with a DVIPA on the link."""
        self.edition = 0
        """It grows with whatever changes here, but for signs of life and what peers reach."""
        self._claims: dict[Address, Claim | None] = {}  # what `claim` found since the last change

    def _changed(self) -> None:
        self.edition += 1
        self._claims.clear()

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def get(self, name: str) -> Peer | None:
        """The peer of that name, if it was ever up."""
        return self._peers.get(name)

    def up(self, member: Member, now_ms: int) -> Peer:
        """A session with `member` began; what it said in a former session counts until it lists."""
        self._changed()
        known = self._peers.get(member.name)
        peer = Peer(member, Life.UP, now_ms, now_ms)
        if known is not None:
            peer.session, peer.labels = known.session + 1, known.labels
            peer.entries = _unowned(known.entries) if known.life is Life.DEAD else known.entries
        self._peers[member.name] = peer
        return peer

    def down(self, name: str, reason: DownReason, now_ms: int) -> None:
        """The session with `name` ended."""
        peer = self._peers.get(name)
        if peer is None:
            return
        self._changed()
        peer.since_ms = peer.answered_ms = now_ms
        if reason in (DownReason.LOST, DownReason.PROTOCOL):
            peer.life = Life.LOST
        else:
            peer.life = Life.DEAD
            peer.left = reason is DownReason.GOODBYE
            self._died.append(name)

    def answered(self, name: str, now_ms: int) -> None:
        """The host of a lost peer gave a sign of life."""
        peer = self._peers.get(name)
        if peer is not None and peer.life is Life.LOST:
            peer.answered_ms = now_ms

    def expire(self, now_ms: int) -> list[str]:
        """Lost peers whose grace is over, or whose host fell silent, are dead.

        Returns the names of all that died since the last call.
        """
        for peer in self._peers.values():
            if peer.life is Life.LOST and now_ms >= self._end_of_grace(peer):
                self._changed()
                peer.life = Life.DEAD
                peer.since_ms = now_ms
                self._died.append(peer.member.name)
        died, self._died = self._died, []
        return died

    def deadlines(self) -> Iterable[int]:
        """When `expire` has something to do."""
        return [self._end_of_grace(peer) for peer in self if peer.life is Life.LOST]

    def _end_of_grace(self, peer: Peer) -> int:
        return min(peer.since_ms + self._grace_ms, peer.answered_ms + self._dead_ms)

    def list_received(self, name: str, message: VipaList) -> dict[Address, bool]:
        """A whole VIPA list replaces all that the peer said before (D2), a part what it names.

        Returns the DVIPAs of which it says something else now, and whether it gave one up."""
        peer = self._peers.get(name)
        if peer is None:
            return {}
        self._changed()
        said = {entry.dvipa: entry for entry in message.entries}
        named = said.keys() | peer.entries.keys() if message.whole else said.keys()
        changed = {
            dvipa: before is not None and before.owner and not (now is not None and now.owner)
            for dvipa in named
            if (before := peer.entries.get(dvipa)) != (now := said.get(dvipa))
        }
        peer.entries = said if message.whole else peer.entries | said
        peer.listed |= message.whole
        peer.joined, peer.labels = message.joined, message.labels
        return changed

    def members_received(self, name: str, reaches: set[str]) -> None:
        """Nodes that peer `name` has a session with."""
        peer = self._peers.get(name)
        if peer is not None:
            peer.reaches = frozenset(reaches)

    def mentioned(self) -> set[str]:
        """Nodes that a peer has a session with."""
        return {name for peer in self if peer.life is Life.UP for name in peer.reaches}

    def claimed(self, name: str, dvipa: Address, epoch: int, owner: bool) -> None:
        """A DVIPA message changed whether `name` owns the address."""
        peer = self._peers.get(name)
        if peer is None:
            return
        self._changed()
        entry = peer.entries.get(dvipa) or VipaEntry(dvipa, 0, False, False, 0)
        peer.entries[dvipa] = replace(entry, owner=owner, epoch=epoch)

    def witnessed(self, name: str, dvipa: Address, claim: Claim | None) -> None:
        """Peer `name` hears this claim, or none."""
        peer = self._peers.get(name)
        if peer is None:
            return
        self._changed()
        peer.witnessed.pop(dvipa, None)
        if claim is not None:
            peer.witnessed[dvipa] = claim

    def seen(self, claims: dict[Address, Claim]) -> None:
        """What peers without a session are seen to have on the link."""
        self._changed()
        self.sightings = claims

    def seen_with(self, dvipa: Address) -> Claim | None:
        """The claim of the peer that is seen with `dvipa`; one with a session speaks for itself."""
        claim = self.sightings.get(dvipa)
        return None if claim is None or self.is_up(claim.name) else claim

    def claim(self, dvipa: Address) -> Claim | None:
        """The greatest claim of a peer that is not dead, that a peer bears witness of, or that
        this node sees for itself."""
        if dvipa not in self._claims:
            self._claims[dvipa] = self._greatest(dvipa)
        return self._claims[dvipa]

    def _greatest(self, dvipa: Address) -> Claim | None:
        own = (self.heard(dvipa), self.seen_with(dvipa))
        claims = [claim for claim in own if claim is not None]
        for peer in self:
            claim = peer.witnessed.get(dvipa)
            if peer.life is Life.UP and claim is not None and self._is_news(dvipa, claim):
                claims.append(claim)
        return max(claims, default=None)

    def _is_news(self, dvipa: Address, claim: Claim) -> bool:
        """Whether hearsay tells what this node cannot know: a claim of somebody who is silent
        to it, made after he fell silent, or who has not said yet what he owns."""
        owner = self._peers.get(claim.name)
        if owner is None:
            return claim.name != self._own_name
        entry = owner.entries.get(dvipa)
        mute = owner.life is Life.DEAD or not owner.listed
        return mute and (entry is None or entry.epoch < claim.epoch)

    def heard(self, dvipa: Address) -> Claim | None:
        """The greatest claim of a peer that is not dead, from its own mouth."""
        claims = [
            make_claim(entry.epoch, entry.rank, peer.member.name)
            for peer in self
            if peer.life is not Life.DEAD
            and (entry := peer.entries.get(dvipa)) is not None
            and entry.owner
        ]
        return max(claims, default=None)

    def forget(self, name: str) -> None:
        """What a peer that is dead for long said counts no more."""
        peer = self._peers.get(name)
        if peer is not None:
            self._changed()
            peer.entries = {}

    def names_up(self) -> set[str]:
        """Peers that there is a session with."""
        return {peer.member.name for peer in self if peer.life is Life.UP}

    def is_lost(self, name: str) -> bool:
        """Whether only the grace period keeps `name` from being dead."""
        peer = self._peers.get(name)
        return peer is not None and peer.life is Life.LOST

    def is_up(self, name: str) -> bool:
        """Whether there is a session with `name`."""
        peer = self._peers.get(name)
        return peer is not None and peer.life is Life.UP


def _unowned(entries: dict[Address, VipaEntry]) -> dict[Address, VipaEntry]:
    return {dvipa: replace(entry, owner=False) for dvipa, entry in entries.items()}
