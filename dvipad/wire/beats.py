"""Heartbeats by UDP, of all sessions of one node, without I/O and without a clock.

A heartbeat that is lost on TCP waits for a retransmission, and everything behind it waits too: a
moment of loss looks like a dead host. Datagrams do not wait for each other.

Each end's Hello has a token; the other end's datagrams carry it. The token comes from a secret of
this life of the daemon and the number of the connection: a datagram of a former life, of a session
that is over, or of a stranger names no session, and is counted and dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from hashlib import blake2b
from itertools import count
from typing import Final

from dvipad.wire.actions import Datagram, DatagramsMissing
from dvipad.wire.datagram import decode_beat, encode_beat
from dvipad.wire.messages import Hello
from dvipad.wire.redial import Endpoint
from dvipad.wire.session import Session, SessionSettings

MAX_MISSING: Final = 128
"""Peers of which is remembered that their datagrams do not arrive; the oldest makes room."""
_TOKEN_BITS: Final = 62


class Beats:
    """`counters` is the mesh's: what datagrams came, and what was wrong with them."""

    def __init__(
        self, local: Hello, secret: bytes, settings: SessionSettings, counters: Counter[str]
    ) -> None:
        self._local = local
        self._secret = secret
        self._interval_ms = settings.beat_ms
        self._patience = max(1, settings.stuck_ms // settings.beat_ms)
        self._counters = counters
        self._numbers = count()
        self._sessions: dict[int, Session] = {}
        self._missing: dict[str, None] = {}
        self._reports: list[DatagramsMissing] = []
        self._next_ms = 0

    def missing(self) -> Collection[str]:
        """Peers whose datagrams do not arrive, while their session stands."""
        return self._missing.keys()

    def hello(self) -> Hello:
        """What this node says of itself on its next connection."""
        local = self._local
        life = f"{local.member.name} {local.incarnation} ".encode()
        token = 0
        while token == 0 or token in self._sessions:
            text = life + str(next(self._numbers)).encode()
            digest = blake2b(text, key=self._secret, digest_size=8).digest()
            token = int.from_bytes(digest, "big") >> (64 - _TOKEN_BITS)
        return replace(local, token=token)

    def add(self, session: Session) -> None:
        """A connection is there; its session was made with what `hello` gave."""
        self._sessions[session.token] = session

    def remove(self, session: Session) -> None:
        """The session is over."""
        self._sessions.pop(session.token, None)

    def receive(self, data: bytes, now_ms: int) -> None:
        """A datagram came, from anybody."""
        beat = decode_beat(data)
        session = self._sessions.get(beat.token) if beat is not None else None
        if beat is None:
            self._counters["udp_malformed"] += 1
        elif beat.version not in self._local.versions:
            self._counters["udp_version"] += 1
        elif session is None:
            self._counters["udp_stranger"] += 1
        elif not session.receive_beat(beat.sequence, now_ms):
            self._counters["udp_old"] += 1
        else:
            self._counters["udp_received"] += 1
            if self._missing and session.peer is not None:
                self._heard_again(session.peer.member.name)

    def deadline(self) -> int | None:
        """When (ms) `due` has to be called at the latest; None: no session beats."""
        return self._next_ms if any(each.beats for each in self._sessions.values()) else None

    def due(self, now_ms: int) -> list[Datagram | DatagramsMissing]:
        """What to send now, and what to tell; nothing before the deadline."""
        found: list[Datagram | DatagramsMissing] = []
        if now_ms >= self._next_ms:
            self._next_ms = now_ms + self._interval_ms
            for session in self._sessions.values():
                beat = session.next_beat()
                if beat is not None and session.peer is not None:
                    member = session.peer.member
                    self._watch(member.name, session.beats_unheard)
                    endpoint = Endpoint(member.xcf, member.port)
                    found.append(Datagram(endpoint, encode_beat(beat)))
            self._counters["udp_sent"] += len(found)
        reports, self._reports = self._reports, []
        return found + reports

    def _watch(self, name: str, unheard: int) -> None:
        """Ticks are counted and not time: a node that was late itself accuses nobody."""
        if unheard < self._patience or name in self._missing:
            return
        if len(self._missing) >= MAX_MISSING:
            del self._missing[next(iter(self._missing))]
        self._missing[name] = None
        self._counters["udp_missing"] += 1
        self._reports.append(DatagramsMissing(name, True))

    def _heard_again(self, name: str) -> None:
        if name in self._missing:
            del self._missing[name]
            self._reports.append(DatagramsMissing(name, False))
