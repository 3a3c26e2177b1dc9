"""Nodes that talk to each other directly: takeover, takeback, clean stop, adoption, repairs."""

from __future__ import annotations

from dataclasses import replace

from dvipad.config.model import TargetSpec
from dvipad.core.context import (
    ANNOUNCE_AGAIN_MS,
    REPORT_AGAIN_MS,
    RETRY_MS,
    SHOW_AGAIN_MS,
    STOP_LINGER_MS,
    NodeSettings,
)
from dvipad.core.distributor import ISOLATED_MS, KEEP_MS
from dvipad.core.effects import (
    Announce,
    Decision,
    DumpCrt,
    InsertConnections,
    Leave,
    PlaceAddress,
    RetainConnections,
    Role,
    Send,
    SetDvipa,
    SetService,
)
from dvipad.core.inputs import (
    Adopted,
    AdoptedService,
    CrtDumped,
    EffectDone,
    EffectFailed,
    ProfileChanged,
    Started,
    StopRequested,
)
from dvipad.core.node import Node
from dvipad.core.vipa import State
from dvipad.wire.events import DownReason, MessageReceived, PeerDown, PeerUp
from dvipad.wire.messages import Dvipa, Member, Members, Move, VipaEntry, VipaList
from tests.unit_core_cluster import DVIPA, PROFILES, ROWS, TIMERS, XCF, Cluster, cluster

BOTH = AdoptedService(80, (XCF["t1"], XCF["t2"]))


def test_the_primary_takes_it_and_distributes_to_the_targets() -> None:
    made = cluster()
    assert made.of("lb1", SetService)[-1] == SetService(DVIPA, 80, (XCF["t1"], XCF["t2"]), False)
    assert made.of("t1", SetDvipa, PlaceAddress) == [
        SetDvipa(DVIPA, Role.HIDDEN, 0),
        PlaceAddress(DVIPA, False),
    ]


def test_takeover_is_rules_then_address_then_announcement() -> None:
    made = cluster()
    made.done.clear()
    made.end("lb1", DownReason.SILENT)
    assert made.state("lb2") is State.ACTIVE
    order = [type(effect) for effect in made.of("lb2", SetDvipa, PlaceAddress, Announce)]
    assert order == [SetDvipa, PlaceAddress, Announce, SetDvipa]
    first, last = made.of("lb2", SetDvipa)
    assert isinstance(first, SetDvipa)
    assert first.collecting
    # lb1 may have been a target (DESTIP ALL), and may live: its connections wait.
    assert last == SetDvipa(DVIPA, Role.OWNER, first.epoch, collecting=True)
    inserted = made.of("lb2", InsertConnections)
    assert {effect.target for effect in inserted if isinstance(effect, InsertConnections)} == {
        XCF["t1"],
        XCF["t2"],
    }


def test_a_dead_daemon_has_a_grace_a_dead_host_has_none() -> None:
    made = cluster()
    made.end("lb1", DownReason.LOST)
    assert made.state("lb2") is State.BACKUP
    made.pass_time(made.now_ms + TIMERS.dead_ms)
    assert made.state("lb2") is State.ACTIVE


def test_takeback_hides_here_before_it_is_announced_there() -> None:
    made = cluster()
    made.end("lb1", DownReason.SILENT)
    made.done.clear()
    made.start("lb1")
    made.pass_time(made.now_ms + 10_000)
    assert (made.state("lb1"), made.state("lb2")) == (State.ACTIVE, State.BACKUP)
    states = [e.after for e in made.of("lb1", Decision) if isinstance(e, Decision)]
    assert states == ["TAKEBACK", "AWAITING", "ACTIVE"]
    states = [e.after for e in made.of("lb2", Decision) if isinstance(e, Decision)]
    assert states == ["ACTIVE", "GIVING", "MOVING", "BACKUP"], "announced again first"
    relays = SetDvipa(DVIPA, Role.MOVING, 3, successor=XCF["lb1"])
    assert relays in made.of("lb2", SetDvipa)


def test_a_clean_stop_gives_it_to_the_backup_without_a_takeover() -> None:
    made = cluster()
    made.feed("lb1", StopRequested())
    made.settle()
    made.pass_time(made.now_ms + 1_000)
    assert made.of("lb1", Leave) == [Leave()]
    assert made.state("lb2") is State.ACTIVE
    states = [e.after for e in made.of("lb2", Decision) if isinstance(e, Decision)]
    assert states == ["TAKEBACK", "AWAITING", "ACTIVE"]


def test_who_leaves_relays_until_its_successor_is_found_by_neighbours() -> None:
    made = cluster()
    made.busy["lb2"] = []
    made.feed("lb1", StopRequested())
    made.settle()
    made.pass_time(made.now_ms + 1_000)
    assert (made.state("lb1"), made.state("lb2")) == (State.MOVING, State.ACTIVE)
    made.catch_up("lb2")
    made.pass_time(made.now_ms + STOP_LINGER_MS - 1)
    assert made.state("lb1") is State.MOVING
    made.pass_time(made.now_ms + 1)
    assert made.of("lb1", Leave) == [Leave()]


def test_who_leaves_waits_for_no_successor_that_is_gone_nor_forever() -> None:
    gone = cluster()
    gone.busy["lb2"] = []
    gone.feed("lb1", StopRequested())
    gone.settle()
    gone.end("lb2", DownReason.GOODBYE)
    gone.pass_time(gone.now_ms + STOP_LINGER_MS)
    assert gone.of("lb1", Leave) == [Leave()]
    stuck = cluster()
    stuck.busy["lb2"] = []
    stuck.feed("lb1", StopRequested())
    stuck.settle()
    stuck.pass_time(stuck.now_ms + TIMERS.moving_ms)
    assert stuck.of("lb1", Leave) == [Leave()]


def test_a_restarted_daemon_goes_on_and_compares_its_own_connections() -> None:
    made = cluster()
    made.end("lb1", DownReason.LOST)
    made.start("lb1", Adopted(DVIPA, True, 1, False, (BOTH,)))
    assert (made.state("lb1"), made.state("lb2")) == (State.ACTIVE, State.BACKUP)
    own = [
        effect
        for effect in made.of("lb1", RetainConnections)
        if isinstance(effect, RetainConnections) and effect.target == XCF["lb1"]
    ]
    assert len(own) == 1
    made.pass_time(made.now_ms + REPORT_AGAIN_MS)
    again = made.of("lb1", RetainConnections)
    assert len(again) >= 2 * len(XCF)


def test_what_a_restarted_daemon_adopts_loses_targets_that_are_not_listed() -> None:
    made = cluster()
    made.end("lb1", DownReason.LOST)
    listed = (TargetSpec(XCF["t1"]), TargetSpec(XCF["t2"]))
    rows = (replace(ROWS[0], targets=listed),)
    made.profiles = {**PROFILES, "lb1": replace(PROFILES["lb1"], distributes=rows)}
    strangers = AdoptedService(80, (XCF["t1"], XCF["lb2"], XCF["t2"]))
    made.start("lb1", Adopted(DVIPA, True, 1, False, (strangers,)))
    kept = (XCF["t1"], XCF["t2"])
    assert made.of("lb1", SetService)[0] == SetService(DVIPA, 80, kept, False, None)


def test_an_announcement_that_failed_is_made_again() -> None:
    made = cluster()
    made.done.clear()
    made.fail_next.add(("lb1", Announce))
    released = Dvipa(Move.RELEASE, DVIPA, 1)
    made.feed("lb1", MessageReceived("lb2", released))  # neighbours may still look there
    made.settle()
    assert made.of("lb1", Announce) == []
    made.pass_time(made.now_ms + ANNOUNCE_AGAIN_MS)
    assert made.of("lb1", Announce) == [Announce(DVIPA)]


def test_who_asked_and_gets_no_crt_asks_the_targets_again() -> None:
    made = cluster()
    made.end("lb1", DownReason.SILENT)
    made.fail_next.add(("lb2", DumpCrt))
    made.start("lb1")
    made.pass_time(made.now_ms + 10_000)
    assert (made.state("lb1"), made.state("lb2")) == (State.ACTIVE, State.BACKUP)
    states = [e.after for e in made.of("lb1", Decision) if isinstance(e, Decision)]
    assert states == ["TAKEBACK", "AWAITING", "TAKEOVER", "ACTIVE"]


def test_a_node_that_hears_nobody_any_more_refuses_nobody_at_once() -> None:
    made = cluster()
    for name in ("lb2", "t1"):
        made.feed("lb1", PeerDown(name, DownReason.SILENT))
    made.settle()
    assert made.of("lb1", SetService)[-1] == SetService(DVIPA, 80, (XCF["t2"],), False)
    made.done.clear()
    made.feed("lb1", PeerDown("t2", DownReason.SILENT))
    made.settle()
    assert made.of("lb1", SetService) == [], "it is cut off itself"
    made.pass_time(made.now_ms + ISOLATED_MS)
    assert made.of("lb1", SetService) == [SetService(DVIPA, 80, (), False)]


def test_targets_that_fall_silent_before_the_backup_does_are_kept() -> None:
    made = cluster()
    made.done.clear()
    for name in ("t1", "t2"):
        made.feed("lb1", PeerDown(name, DownReason.SILENT))
    made.settle()
    last = made.of("lb1", SetService)[-1]
    assert isinstance(last, SetService) and last.ring, "the backup falls silent a moment later"
    made.pass_time(made.now_ms + KEEP_MS)
    assert made.of("lb1", SetService)[-1] == SetService(DVIPA, 80, (), False)


def test_a_target_that_comes_back_is_kept_until_it_says_what_it_serves() -> None:
    made = cluster()
    made.feed("lb1", PeerDown("t1", DownReason.GOODBYE))
    made.settle()
    made.done.clear()
    made.feed("lb1", PeerDown("t2", DownReason.SILENT))
    made.feed("lb1", PeerUp(Member("t2", XCF["t2"], 1), 1))
    assert made.of("lb1", SetService) == []
    made.pass_time(made.now_ms + KEEP_MS)
    assert made.of("lb1", SetService) == [SetService(DVIPA, 80, (), False)]


def test_a_failed_owner_is_fit_again_in_the_eyes_of_all() -> None:
    made = Cluster("lb2", "t1", "t2")
    made.pass_time(5_000)
    made.fail_next.add(("lb1", SetDvipa))
    made.start("lb1")
    made.pass_time(made.now_ms + RETRY_MS + 2_000)
    assert (made.state("lb1"), made.state("lb2")) == (State.ACTIVE, State.BACKUP)


def test_a_hidden_address_that_failed_is_placed_later() -> None:
    made = Cluster("lb1", "t2")
    made.pass_time(5_000)
    made.fail_next.add(("t1", PlaceAddress))
    made.start("t1")
    assert made.of("t1", PlaceAddress) == []
    made.pass_time(made.now_ms + SHOW_AGAIN_MS)
    assert made.of("t1", PlaceAddress) == [PlaceAddress(DVIPA, False)]


def alone(seeds: int) -> Node:
    node = Node(NodeSettings("lb1", XCF["lb1"], seeds, TIMERS))
    node.step(ProfileChanged(PROFILES["lb1"]), 0)
    node.step(Started(), 0)
    return node


def test_a_seed_that_was_told_of_nobody_waits_for_those_that_dial_it() -> None:
    node = alone(seeds=0)
    node.expire(TIMERS.join_ms)
    assert not node.context.joined
    node.expire(4 * TIMERS.join_ms)
    assert node.context.joined


def test_nothing_is_decided_without_those_that_peers_reach() -> None:
    node = alone(seeds=1)
    node.step(PeerUp(Member("t1", XCF["t1"], 1), 1), 10)
    members = (Member("lb1", XCF["lb1"], 1), Member("lb2", XCF["lb2"], 1))
    node.step(MessageReceived("t1", Members(members)), 11)
    node.step(MessageReceived("t1", VipaList(())), 12)
    assert not node.context.joined
    node.step(PeerUp(Member("lb2", XCF["lb2"], 1), 1), 13)
    entry = VipaEntry(DVIPA, 10, True, True, 4, ROWS)
    node.step(MessageReceived("lb2", VipaList((entry,))), 14)
    assert node.context.joined
    vipa = node.owners.get(DVIPA)
    assert vipa is not None
    assert vipa.state is State.TAKEBACK


def test_an_owner_announces_again_when_somebody_had_it_in_between() -> None:
    made = cluster()
    made.done.clear()
    entry = VipaEntry(DVIPA, 10, True, False, 9)
    made.feed("lb1", MessageReceived("lb2", VipaList((entry,))))
    assert made.of("lb1", Announce) == [Announce(DVIPA)]


def test_an_old_completion_changes_nothing() -> None:
    made = cluster()
    made.done.clear()
    for event in (EffectFailed(1, "old"), EffectDone(999), CrtDumped(1, ())):
        made.feed("lb1", event)
    assert made.state("lb1") is State.ACTIVE
    assert made.of("lb1", Decision) == []


def test_a_release_of_another_epoch_is_ignored() -> None:
    made = cluster()
    made.feed("lb1", MessageReceived("lb2", Dvipa(Move.RELEASE, DVIPA, 77)))
    assert made.of("lb1", Announce)[1:] == []


def test_an_owner_announces_again_when_a_former_one_is_met() -> None:
    made = cluster()
    made.done.clear()
    made.feed("lb1", PeerDown("lb2", DownReason.SILENT))
    made.feed("lb1", PeerUp(Member("lb2", XCF["lb2"], 1), 1))
    entry = VipaEntry(DVIPA, 10, True, False, 1)
    made.feed("lb1", MessageReceived("lb2", VipaList((entry,))))
    made.feed("lb1", MessageReceived("lb2", VipaList((entry,))))
    assert made.of("lb1", Announce) == [Announce(DVIPA)]


def test_one_that_fails_while_it_gives_up_still_frees_its_successor() -> None:
    made = cluster()
    made.done.clear()
    made.fail_next.add(("lb1", PlaceAddress))
    entry = VipaEntry(DVIPA, 10, True, True, 5, ROWS)
    made.feed("lb1", MessageReceived("lb2", VipaList((entry,))))
    made.settle()
    assert made.state("lb1") is State.BACKUP
    assert Send("lb2", Dvipa(Move.RELEASE, DVIPA, 5)) in made.of("lb1", Send)
