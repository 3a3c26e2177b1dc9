"""Between an owner's release and the claim of the node that it gave the DVIPA to."""

from __future__ import annotations

from ipaddress import ip_address

from dvipad.config.model import Backup, Profile
from dvipad.core.effects import DumpSockets
from dvipad.core.vipa import State
from dvipad.wire.events import DownReason, MessageReceived, PeerDown, PeerUp
from dvipad.wire.messages import Member, Members, VipaEntry, VipaList
from tests.unit_core_driver import DVIPA, TARGET, Driver

LB3 = Member("lb3", ip_address("192.0.2.3"), 4780)
RELEASED = VipaList((VipaEntry(DVIPA, 0, True, False, 5, successor="lb3"),))


def bystander(rank_of_lb3: int = 50) -> Driver:
    """This node is the better backup; lb2 has the DVIPA, lb3 could have it."""
    driver = Driver(profile=Profile(backups=(Backup(DVIPA, 100),)))
    driver.feed(PeerUp(LB3, 1))
    driver.feed(MessageReceived("lb2", VipaList((VipaEntry(DVIPA, 255, True, True, 4),))))
    lb3 = VipaEntry(DVIPA, rank_of_lb3, True, False, 4)
    driver.feed(MessageReceived("lb3", VipaList((lb3,))))
    return driver


def test_nobody_takes_what_is_being_handed_to_another() -> None:
    driver = bystander()
    driver.feed(MessageReceived("lb2", RELEASED))
    driver.pass_time(10)
    assert driver.state is State.BACKUP


def test_when_the_successor_dies_first_the_best_backup_takes_it() -> None:
    driver = bystander()
    driver.feed(MessageReceived("lb2", RELEASED))
    driver.feed(PeerDown("lb3", DownReason.SILENT))
    assert driver.state in (State.TAKEOVER, State.ACTIVE)


def test_a_successor_that_cannot_have_it_is_not_waited_for() -> None:
    driver = bystander(rank_of_lb3=0)
    driver.feed(MessageReceived("lb2", RELEASED))
    assert driver.state in (State.TAKEOVER, State.ACTIVE)


def test_a_later_claim_ends_the_wait() -> None:
    driver = bystander()
    driver.feed(MessageReceived("lb2", RELEASED))
    driver.feed(MessageReceived("lb3", VipaList((VipaEntry(DVIPA, 50, True, True, 6),))))
    driver.feed(MessageReceived("lb3", VipaList((VipaEntry(DVIPA, 50, True, False, 6),))))
    assert driver.state in (State.TAKEOVER, State.ACTIVE)


def lists_again(reaches: tuple[Member, ...]) -> bool:
    """Whether this node, told of lb3's claim, lists once more when lb2 gives the DVIPA up."""
    driver = bystander()
    driver.feed(MessageReceived("lb2", Members(reaches)))
    claim = VipaList((VipaEntry(DVIPA, 50, True, True, 5),))
    driver.feed(MessageReceived("lb3", claim))
    before = sum(isinstance(step, DumpSockets) for step in driver.steps())
    driver.feed(MessageReceived("lb2", VipaList((VipaEntry(DVIPA, 255, True, False, 5),))))
    return sum(isinstance(step, DumpSockets) for step in driver.steps()) > before


def test_what_a_former_owner_cannot_hand_over_is_listed_by_the_targets() -> None:
    assert lists_again((TARGET,))
    assert not lists_again((TARGET, LB3)), "it hands over all it has"
