"""A target that is silent to a new distributor may live: its connections are not reset."""

from __future__ import annotations

import pytest

from dvipad.config.model import Define, DistMethod, Distribute, PortRange, Profile
from dvipad.core.context import FORGET_MS, HUSH_MS, REPORT_SOON_MS, Timers
from dvipad.core.effects import Send, SetDvipa
from dvipad.core.inputs import ProfileChanged
from dvipad.core.vipa import State
from dvipad.wire.events import DownReason, MessageReceived, PeerDown, PeerUp
from dvipad.wire.messages import Member, NewConn, VipaEntry, VipaList
from tests.unit_core_driver import DVIPA, LB2, TARGET, Driver

OWNED = VipaList((VipaEntry(DVIPA, 100, True, True, 4),))


def after_takeover() -> Driver:
    """LB2 owned the DVIPA; it fell silent together with the target, and this node took over."""
    driver = Driver()
    row = Distribute(DVIPA, (PortRange(80, 80),), None, DistMethod.ROUNDROBIN)
    driver.feed(ProfileChanged(Profile(defines=(Define(DVIPA, 24),), distributes=(row,))))
    driver.feed(MessageReceived("lb2", OWNED))
    driver.feed(PeerDown("t1", DownReason.SILENT))
    driver.feed(PeerDown("lb2", DownReason.SILENT))
    driver.pass_time(1)
    assert driver.state is State.ACTIVE
    return driver


def withholds(driver: Driver) -> bool:
    """Whether the data plane lets unknown packets wait."""
    rules = [step for step in driver.steps() if isinstance(step, SetDvipa)]
    return rules[-1].collecting


def has_nothing(driver: Driver, member: Member) -> None:
    """`member` answers a takeover: it has no connection."""
    vipa = driver.node.owners.get(DVIPA)
    assert vipa is not None
    last = NewConn(DVIPA, vipa.epoch, member.xcf, b"", b"", snapshot=True, last=True)
    driver.feed(MessageReceived(member.name, last))


def test_unknown_packets_wait_until_the_target_was_heard() -> None:
    driver = after_takeover()
    assert withholds(driver)
    for member in (TARGET, LB2):
        driver.feed(PeerUp(member, 2))
        driver.feed(MessageReceived(member.name, VipaList(())))
        assert withholds(driver)
        has_nothing(driver, member)
    assert not withholds(driver)


def test_a_target_that_stays_silent_is_forgotten() -> None:
    driver = after_takeover()
    driver.pass_time(FORGET_MS)
    assert not withholds(driver)


@pytest.mark.parametrize("reason", [DownReason.SILENT, DownReason.LOST])
def test_unknown_packets_wait_while_a_former_owner_may_still_forward(reason: DownReason) -> None:
    """Cut off, or with a kernel that outlives its daemon, it chose targets for SYNs that the new
    owner does not know: what comes of them is heard of when the targets list again."""
    driver = Driver()
    driver.feed(MessageReceived("lb2", OWNED))
    driver.feed(PeerDown("lb2", reason))
    driver.pass_time(Timers().dead_ms)
    has_nothing(driver, TARGET)
    assert driver.state is State.ACTIVE
    assert withholds(driver)
    assert driver.node.deadline() is not None
    driver.pass_time(HUSH_MS)
    assert not withholds(driver)


@pytest.mark.parametrize(("epoch", "lists"), [(1, 1), (5, 2)])
def test_a_target_lists_again_before_unknown_packets_are_refused(epoch: int, lists: int) -> None:
    """After the first owner ever there is nothing that another one may have forwarded meanwhile."""
    row = Distribute(DVIPA, (PortRange(80, 80),), None, DistMethod.ROUNDROBIN)
    driver = Driver(profile=Profile())
    claim = VipaList((VipaEntry(DVIPA, 100, True, True, epoch, (row,)),))
    driver.feed(MessageReceived("lb2", claim))
    driver.pass_time(REPORT_SOON_MS)
    assert REPORT_SOON_MS < HUSH_MS
    lasts = [
        effect
        for effect in driver.effects
        if isinstance(effect, Send) and isinstance(effect.message, NewConn) and effect.message.last
    ]
    assert len(lasts) == lists


def test_the_first_owner_of_all_delays_nothing() -> None:
    driver = Driver()
    driver.pass_time(Timers().join_ms)
    for member in (TARGET, LB2):
        has_nothing(driver, member)
    assert driver.state is State.ACTIVE
    assert not withholds(driver)
