"""Policies in a cluster: labels and lists travel, backups go on by them, files and time change."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import pytest

from dvipad.adapters.lanes import NewestList
from dvipad.config.model import (
    Comparison,
    Condition,
    DistMethod,
    Hours,
    Label,
    Match,
    Otherwise,
    Policy,
    Profile,
    Subset,
    Use,
)
from dvipad.core.distributor import REWEIGH_MS
from dvipad.core.effects import SetService
from dvipad.core.fitness import PROBED
from dvipad.core.inputs import (
    ActiveCounted,
    ListenersChanged,
    Measured,
    MinuteCame,
    PoliciesChanged,
    ProfileChanged,
    Reach,
    Reached,
)
from dvipad.core.policy_rows import PolicyRow
from dvipad.versions import NEWEST
from dvipad.wire.codec import decode, encode
from dvipad.wire.events import DownReason
from dvipad.wire.framing import FrameDecoder
from dvipad.wire.messages import (
    Quality,
    ServiceQuality,
    VipaEntry,
    VipaList,
    Weights,
    policy_sets,
)
from tests.unit_core_cluster import DVIPA, PROFILES, XCF, Cluster, cluster

RACK_A = Policy("rack a", Match(), Subset(labels=(Label("rack", "a"),)))
ONLY_T2 = Policy("only t2", Match(), Subset(("t2",)), use=Use.RESTRICT, otherwise=Otherwise.REFUSE)
ELSEWHERE = replace(ONLY_T2, match=Match(dvipas=(ip_address("203.0.113.2"),)))


def rows(made: Cluster, name: str) -> list[tuple[str, list[str]]]:
    """Policies of the service now, and who they lead to."""
    last = [each for each in made.of(name, SetService) if isinstance(each, SetService)][-1]
    names = {xcf: node for node, xcf in XCF.items()}
    assert last.policies is not None
    return [(row.name, sorted({names[xcf] for xcf in row.ring})) for row in last.policies]


def test_labels_travel_with_what_a_node_says_of_itself() -> None:
    made = cluster()
    made.feed("lb1", PoliciesChanged((RACK_A,)))
    assert rows(made, "lb1") == [("rack a", ["t1"])]


def test_a_backup_goes_on_by_the_policies_of_the_owner() -> None:
    """P6."""
    made = cluster()
    made.feed("lb1", PoliciesChanged((RACK_A,)))
    made.settle()
    made.end("lb1", DownReason.SILENT)
    assert rows(made, "lb2") == [("rack a", ["t1"])]


def test_its_own_policies_win_if_they_are_about_the_dvipa() -> None:
    """As its own VIPADISTRIBUTE does."""
    for own, expected in ((ONLY_T2, ("only t2", ["t2"])), (ELSEWHERE, ("rack a", ["t1"]))):
        made = cluster()
        made.feed("lb2", PoliciesChanged((own,)))
        made.feed("lb1", PoliciesChanged((RACK_A,)))
        made.settle()
        made.end("lb1", DownReason.SILENT)
        assert rows(made, "lb2") == [expected]


def test_own_policies_that_are_taken_back_leave_none() -> None:
    made = cluster()
    made.feed("lb1", PoliciesChanged((RACK_A,)))
    made.feed("lb1", PoliciesChanged(()))
    made.settle()
    assert rows(made, "lb1") == []
    made.end("lb1", DownReason.SILENT)
    assert rows(made, "lb2") == []


def test_the_returned_primary_goes_by_its_own_again() -> None:
    made = cluster()
    made.feed("lb1", PoliciesChanged((RACK_A,)))
    made.settle()
    made.end("lb1", DownReason.SILENT)
    made.pass_time(made.now_ms + 100)
    made.start("lb1")
    made.feed("lb1", PoliciesChanged((ONLY_T2,)))
    made.pass_time(made.now_ms + 10_000)
    assert rows(made, "lb1") == [("only t2", ["t2"])]


def test_a_policy_that_looks_at_active_connections() -> None:
    made = cluster()
    few = (Condition("connections", Comparison.LESS, 3), Condition("ready", Comparison.EQUAL, 1))
    made.feed("lb1", PoliciesChanged((Policy("few", Match(), Subset(conditions=few)),)))
    assert rows(made, "lb1") == [("few", ["t1", "t2"])], "nothing is known: any target"
    wanted = made.nodes["lb1"].distributor.to_count()
    assert set(wanted) >= {(DVIPA, 80, XCF["t1"]), (DVIPA, 80, XCF["t2"])}
    for counts, expected in (((5, 2), ["t2"]), ((0, 2), ["t1", "t2"]), ((0, 3), ["t1"])):
        told = zip(("t1", "t2"), counts, strict=True)
        event = ActiveCounted(tuple(((DVIPA, 80, XCF[name]), count) for name, count in told))
        made.feed("lb1", event)
        made.pass_time(made.now_ms + REWEIGH_MS)
        assert rows(made, "lb1") == [("few", expected)]
    made.feed("lb1", PoliciesChanged((RACK_A,)))
    assert made.nodes["lb1"].distributor.to_count() == []


def test_hours_open_and_close() -> None:
    made = cluster()
    morning = replace(RACK_A, match=Match(hours=(Hours(480, 720),)))
    made.feed("lb1", PoliciesChanged((morning,)))
    assert rows(made, "lb1") == []
    for minute, expected in ((479, []), (480, [("rack a", ["t1"])]), (719, None), (720, [])):
        made.done.clear()
        made.feed("lb1", MinuteCame(minute))
        if expected is None:
            assert made.of("lb1", SetService) == [], "nothing changed"
        elif minute > 479:
            assert rows(made, "lb1") == expected


def test_a_subset_follows_its_listeners() -> None:
    made = cluster()
    made.feed("lb1", PoliciesChanged((ONLY_T2,)))
    made.feed("t2", ListenersChanged(()))
    made.settle()
    assert rows(made, "lb1") == [("only t2", [])]


def test_a_subset_follows_what_is_measured() -> None:
    """P1: made at run time from measured values; what is not known meets no condition."""
    made = cluster()
    above = Subset(conditions=(Condition("weight", Comparison.MORE, 40),))
    made.feed("lb1", PoliciesChanged((replace(RACK_A, subset=above, otherwise=Otherwise.REFUSE),)))
    assert rows(made, "lb1") == [("rack a", [])]
    for weights, expected in (
        ({"t1": 41, "t2": 40}, ["t1"]),
        ({"t1": 20, "t2": 64}, ["t2"]),
        ({"t1": 50}, ["t1", "t2"]),
        ({"t1": 0, "t2": 0}, []),
    ):
        for name, weight in weights.items():
            made.feed(name, Measured(Weights(60_000, weight, 2000)))
        made.settle()
        made.pass_time(made.now_ms + 2 * REWEIGH_MS)
        assert rows(made, "lb1") == [("rack a", expected)]


def test_a_subset_follows_how_targets_answer() -> None:
    made = cluster()
    good = Subset(
        conditions=(
            Condition("tsr", Comparison.AT_LEAST, 50),
            Condition("quality", Comparison.MORE, 75),
        )
    )
    made.feed("lb1", PoliciesChanged((replace(RACK_A, subset=good, otherwise=Otherwise.REFUSE),)))
    assert rows(made, "lb1") == [("rack a", ["t1", "t2"])]
    for parts, expected in (
        ({"cer": 49}, ["t2"]),
        ({"left": 75}, ["t2"]),
        ({"sef": 50}, ["t1", "t2"]),
    ):
        service = ServiceQuality(DVIPA, 80, **parts)
        made.feed("t1", Measured(Quality(60_000, (service,))))
        made.settle()
        made.pass_time(made.now_ms + 2 * REWEIGH_MS)
        assert rows(made, "lb1") == [("rack a", expected)]


@pytest.mark.parametrize(
    ("otherwise", "expected"),
    [
        (Otherwise.ANY, {"t1": 1, "t2": PROBED - 1}),
        (Otherwise.BEST_OUTSIDE, {"t1": 1, "t2": PROBED - 1}),
        (Otherwise.REFUSE, {"t1": 1}),
    ],
)
def test_a_subset_that_does_not_answer_is_probed(
    otherwise: Otherwise, expected: dict[str, int]
) -> None:
    made = cluster()
    one = replace(RACK_A, subset=Subset(nodes=("t1",)), otherwise=otherwise)
    made.feed("lb1", PoliciesChanged((one,)))
    made.feed("lb1", Measured(Reached((Reach("t1", DVIPA, 80, 0),))))
    (row,) = made.nodes["lb1"].distributor.services_of(DVIPA)[80].policies
    assert Counter(row.ring) == {XCF[name]: turns for name, turns in expected.items()}


def test_a_threshold_is_of_the_weight_that_turns_go_by() -> None:
    """With a method that follows measured weights, scaled by the capacity of the nodes."""
    base = {
        name: replace(
            profile,
            distributes=tuple(
                replace(row, method=DistMethod.BASEWLM) for row in profile.distributes
            ),
        )
        for name, profile in PROFILES.items()
    }
    made = Cluster("lb1", "lb2", "t1", "t2", profiles=base)
    made.pass_time(10_000)
    refusing = replace(RACK_A, subset=Subset(), threshold=30, otherwise=Otherwise.REFUSE)
    made.feed("lb1", PoliciesChanged((refusing,)))
    made.feed("t1", Measured(Weights(60_000, 50, 4000)))
    made.feed("t2", Measured(Weights(60_000, 50, 2000)))
    made.settle()
    made.pass_time(made.now_ms + 2 * REWEIGH_MS)
    assert rows(made, "lb1") == [("rack a", ["t1"])]


def test_a_profile_that_changes_keeps_the_policies() -> None:
    made = cluster()
    made.feed("lb1", PoliciesChanged((RACK_A,)))
    made.feed("lb1", ProfileChanged(Profile()))
    made.feed("lb1", ProfileChanged(PROFILES["lb1"]))
    made.pass_time(made.now_ms + 5_000)
    assert rows(made, "lb1") == [("rack a", ["t1"])]


def test_lists_travel_once_for_all_their_dvipas() -> None:
    others = [ip_address(f"203.0.113.{number}") for number in range(2, 200)]
    sets = policy_sets(dict.fromkeys(others, (RACK_A, ONLY_T2)) | {DVIPA: (ONLY_T2,)})
    assert len(sets) == 2
    entries = tuple(VipaEntry(dvipa, 255, True, True, 1) for dvipa in (DVIPA, *others))
    sent = VipaList(entries, policies=sets, labels=(Label("rack", "a"),))
    decoder = FrameDecoder()
    decoder.version = NEWEST
    decoder.feed(encode(sent))
    frame = decoder.next_frame()
    assert frame is not None
    got = decode(frame)
    assert isinstance(got, VipaList)
    assert got == sent
    assert got.rules() == dict.fromkeys(others, (RACK_A, ONLY_T2)) | {DVIPA: (ONLY_T2,)}


def test_a_list_that_waited_says_the_newest_policies() -> None:
    newest = NewestList()
    entry = VipaEntry(DVIPA, 255, True, True, 2)
    later = VipaList((entry,), whole=False, policies=policy_sets({DVIPA: (ONLY_T2,)}))
    waited = VipaList(
        (replace(entry, epoch=1),), whole=False, policies=policy_sets({DVIPA: (RACK_A,)})
    )
    assert newest.instead_of(2, later) == later
    assert newest.instead_of(1, waited) == later


def test_a_row_without_conditions_is_seen_by_the_kernel() -> None:
    assert not PolicyRow("p").unseen
    assert PolicyRow("p", interfaces=("eth0",)).unseen
