"""Witnesses and quorum: what a node that is cut off does."""

from __future__ import annotations

from dvipad.core.effects import Broadcast, Decision
from dvipad.core.membership import Membership, make_claim
from dvipad.core.vipa import State
from dvipad.wire.events import DownReason, MessageReceived, PeerDown, PeerUp
from dvipad.wire.messages import VipaEntry, VipaList, Witness
from tests.unit_core_driver import DVIPA, LB2, TARGET, Driver


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


def test_hearsay_counts_until_the_owner_speaks_for_itself() -> None:
    members = Membership("lb1", 300, 2_000)
    members.up(TARGET, 0)
    members.witnessed("t1", DVIPA, make_claim(2, 100, "lb2"))
    members.up(LB2, 0)
    claim = members.claim(DVIPA)
    assert claim is not None and claim.name == "lb2", "it is slow, not dead"
    members.list_received("lb2", VipaList((VipaEntry(DVIPA, 100, True, False, 2),)))
    assert members.claim(DVIPA) is None
