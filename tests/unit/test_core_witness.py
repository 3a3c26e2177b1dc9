"""Witnesses and quorum: what a node that is cut off does."""

from __future__ import annotations

from ipaddress import ip_address

from dvipad.config.model import Define, Profile
from dvipad.core.context import NodeSettings, Timers
from dvipad.core.effects import Broadcast, Decision, Effect
from dvipad.core.inputs import EffectDone, Input, ProfileChanged, SocketsDumped, Started
from dvipad.core.node import Node
from dvipad.core.vipa import State
from dvipad.wire.events import DownReason, MessageReceived, PeerDown, PeerUp
from dvipad.wire.messages import Member, VipaEntry, VipaList, Witness

DVIPA = ip_address("192.0.2.100")
LB2 = Member("lb2", ip_address("192.0.2.2"), 4780)
TARGET = Member("t1", ip_address("192.0.2.11"), 4780)
BACKUP = VipaList((VipaEntry(DVIPA, 100, True, False, 0),))


class Driver:
    """A node whose effects succeed at once."""

    def __init__(self, majority: bool = False) -> None:
        settings = NodeSettings("lb1", ip_address("192.0.2.1"), 2, Timers(), majority)
        self.node = Node(settings)
        self.now_ms = 0
        self.effects: list[Effect] = []
        self.feed(ProfileChanged(Profile(defines=(Define(DVIPA, 24),))))
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

    @property
    def state(self) -> State:
        """State of the DVIPA."""
        vipa = self.node.owners.get(DVIPA)
        assert vipa is not None
        return vipa.state


def owner(majority: bool = False) -> Driver:
    """The primary owns the DVIPA with epoch 1."""
    driver = Driver(majority)
    driver.pass_time(20_000)
    assert driver.state is State.ACTIVE
    return driver


def test_an_owner_yields_to_a_claim_that_only_a_target_hears() -> None:
    driver = owner()
    driver.feed(PeerDown("lb2", DownReason.SILENT))
    assert driver.state is State.ACTIVE
    driver.feed(MessageReceived("t1", Witness(DVIPA, 2, 100, "lb2")))
    assert driver.state is State.GIVING
    decisions = [effect for effect in driver.effects if isinstance(effect, Decision)]
    assert decisions[-1].trigger == "higher claim"


def test_old_hearsay_does_not_keep_a_dead_owner_alive() -> None:
    driver = Driver()
    claim = VipaList((VipaEntry(DVIPA, 100, True, True, 4),))
    driver.feed(MessageReceived("lb2", claim))
    driver.feed(MessageReceived("t1", Witness(DVIPA, 4, 100, "lb2")))
    driver.feed(PeerDown("lb2", DownReason.SILENT))
    driver.pass_time(1)
    assert driver.state in (State.TAKEOVER, State.ACTIVE)


def test_every_change_of_owner_is_witnessed_to_the_others() -> None:
    driver = owner()
    said = [
        effect.message
        for effect in driver.effects
        if isinstance(effect, Broadcast) and isinstance(effect.message, Witness)
    ]
    assert said[-1] == Witness(DVIPA, 1, 255, "lb1")


def test_without_a_majority_nothing_is_owned() -> None:
    driver = owner(majority=True)
    driver.feed(PeerDown("lb2", DownReason.SILENT))
    assert driver.state is State.ACTIVE, "two of three"
    driver.feed(PeerDown("t1", DownReason.SILENT))
    assert driver.state is State.BACKUP
    driver.feed(PeerUp(TARGET, 1))
    driver.feed(MessageReceived("t1", VipaList(())))
    driver.pass_time(5_000)
    assert driver.state in (State.TAKEOVER, State.ACTIVE)


def test_who_said_goodbye_does_not_count() -> None:
    driver = owner(majority=True)
    driver.feed(PeerDown("lb2", DownReason.GOODBYE))
    driver.feed(PeerDown("t1", DownReason.GOODBYE))
    assert driver.state is State.ACTIVE
