"""A node whose effects succeed at once, for tests of the core."""

from __future__ import annotations

from ipaddress import ip_address

from dvipad.config.model import Define, Profile
from dvipad.core.context import NodeSettings, Timers
from dvipad.core.effects import Effect, Sequence
from dvipad.core.inputs import EffectDone, Input, ProfileChanged, SocketsDumped, Started
from dvipad.core.node import Node
from dvipad.core.vipa import State
from dvipad.wire.events import MessageReceived, PeerUp
from dvipad.wire.messages import Member, VipaEntry, VipaList

DVIPA = ip_address("192.0.2.100")
LB2 = Member("lb2", ip_address("192.0.2.2"), 4780)
TARGET = Member("t1", ip_address("192.0.2.11"), 4780)
BACKUP = VipaList((VipaEntry(DVIPA, 100, True, False, 0),))
PRIMARY = Profile(defines=(Define(DVIPA, 24),))


class Driver:
    """A node whose effects succeed at once."""

    def __init__(self, majority: bool = False, profile: Profile = PRIMARY) -> None:
        settings = NodeSettings("lb1", ip_address("192.0.2.1"), 2, Timers(), majority)
        self.node = Node(settings)
        self.now_ms = 0
        self.effects: list[Effect] = []
        self.feed(ProfileChanged(profile))
        self.feed(Started())
        for member, said in ((LB2, BACKUP), (TARGET, VipaList(()))):
            self.feed(PeerUp(member, 1))
            self.feed(MessageReceived(member.name, said))

    def feed(self, event: Input) -> None:
        """One step, and all that follows from it."""
        self.now_ms += 1
        self._carry_out(self.node.step(event, self.now_ms))

    def pass_time(self, duration_ms: int) -> None:
        """Nothing but time."""
        self.now_ms += duration_ms
        self._carry_out(self.node.expire(self.now_ms))

    def _carry_out(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            number = getattr(effect, "effect_id", None)
            if number is None:
                continue
            if type(effect).__name__ == "DumpSockets":
                self.feed(SocketsDumped(number, b"", b""))
            else:
                self.feed(EffectDone(number))

    def steps(self) -> list[Effect]:
        """All effects, sequences taken apart."""
        found: list[Effect] = []
        for effect in self.effects:
            found += effect.steps if isinstance(effect, Sequence) else (effect,)
        return found

    @property
    def state(self) -> State:
        """State of the DVIPA."""
        vipa = self.node.owners.get(DVIPA)
        assert vipa is not None
        return vipa.state
