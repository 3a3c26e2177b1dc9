"""Policies in the data plane: the program's own choice, refusals, sets that change, the worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from dvipad.adapters.bpf.layout import SERVICES_MAX
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.bpf.worker_view import WorkerView
from dvipad.adapters.queue_worker import REFUSED
from dvipad.address import Address, pack
from dvipad.config.model import Prefix
from dvipad.core.policy_rows import PolicyRow, Request, first
from tests.e2e.plane_network import DROP, OWN_MAC, PASS, PEER_MAC, REDIRECT, Bench, frame
from tests.e2e.plane_packets import CLIENT, DVIPA, PORT, TARGETS, four, ip, own

__all__ = ["four"]
pytestmark = pytest.mark.e2e

ONE, TWO = TARGETS[4]
HERE = {4: Prefix(ip_address("203.0.113.0"), 24), 6: Prefix(ip_address("2001:db8:2::"), 64)}
OTHER = {4: ip_address("203.0.129.9"), 6: ip_address("2001:db8:7::9")}
"""Clients that are not here."""
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def serve(made: Bench, *policies: PolicyRow, ring: tuple[Address, ...] = (ONE, TWO)) -> None:
    """Distribute both DVIPAs by these policies, without the worker."""
    own(made)
    for dvipa in DVIPA.values():
        made.plane.set_service(dvipa, PORT, ring, True, policies)


def syn(client: Address, dvipa: Address, port: int = 1000) -> bytes:
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (5, 0)), ("NOP", None), ("WScale", 7)]
    segment = TCP(sport=port, dport=PORT, flags="S", seq=7, options=options)
    return frame(ip(client, dvipa), segment)


def chosen(made: Bench, client: Address, dvipa: Address, port: int = 1000) -> Address | None:
    """Where the program sends a SYN; None: nowhere."""
    before = made.plane.totals()
    made.run("ingress", syn(client, dvipa, port))
    gone = Counter(made.plane.totals()) - Counter(before)
    assert sum(gone.values()) <= 1
    return next((target for _, _, target in gone), None)


@VERSIONS
def test_a_policy_comes_before_the_ring(four: Bench, version: int) -> None:
    serve(four, PolicyRow("here", (HERE[version],), ring=(TWO,)))
    client, dvipa = CLIENT[version], DVIPA[version]
    assert [chosen(four, client, dvipa, port) for port in range(1, 5)] == [TWO] * 4
    assert [chosen(four, OTHER[version], dvipa, port) for port in range(1, 5)] == [ONE, TWO] * 2
    (use,) = [use for use in four.plane.distribution.uses() if use.dvipa == dvipa]
    assert (use.policy, use.chosen, use.refused) == ("here", {TWO: 4}, 0)
    assert four.plane.totals() == {(dvipa, PORT, ONE): 2, (dvipa, PORT, TWO): 6}
    rows = [(dvipa, PORT, TWO), (dvipa, PORT, ONE)]
    assert list(four.plane.distribution.chosen(rows)) == [6, 2]


@VERSIONS
def test_the_one_who_chose_is_remembered(four: Bench, version: int) -> None:
    serve(four, PolicyRow("here", (HERE[version],), ring=(TWO,)))
    client, dvipa = CLIENT[version], DVIPA[version]
    four.run("ingress", syn(client, dvipa))
    segment = TCP(sport=1000, dport=PORT, flags="A")
    four.ingress(ip(client, dvipa), segment)
    four.run("ingress", syn(OTHER[version], dvipa))
    slots = four.plane.distribution.slots
    holders = {
        row.client: slots.holder(row.chooser - 1, row.created_ns) for row in four.plane.crt()
    }
    assert {each: found and found.policy for each, found in holders.items()} == {
        client: "here",
        OTHER[version]: "",
    }
    assert all(row.established == (row.client == client) for row in four.plane.crt())


@VERSIONS
def test_a_refusal_is_the_rst_of_tcp(four: Bench, version: int) -> None:
    serve(four, PolicyRow("closed"))
    client, dvipa = CLIENT[version], DVIPA[version]
    result = four.run("ingress", syn(client, dvipa))
    assert result.verdict == REDIRECT
    assert four.counted() == {"refused": 1}
    answer = Ether(result.packet)
    assert (answer.src, answer.dst) == (OWN_MAC, PEER_MAC)
    layer = IP if version == 4 else IPv6
    assert (answer[layer].src, answer[layer].dst) == (str(dvipa), str(client))
    segment = answer[TCP]
    assert (segment.sport, segment.dport, segment.flags) == (PORT, 1000, "RA")
    assert (segment.seq, segment.ack, segment.window, segment.options) == (0, 8, 0, [])
    assert len(result.packet) == 14 + (40 if version == 4 else 60)
    wanted = answer.copy()
    del wanted[TCP].chksum
    if version == 4:
        del wanted[IP].chksum
    assert bytes(wanted) == result.packet, "its checksums are right"
    assert four.plane.crt() == []
    uses = {use.dvipa: use.refused for use in four.plane.distribution.uses()}
    assert uses == {DVIPA[10 - version]: 0, dvipa: 1}


@VERSIONS
def test_our_own_refusal_passes_the_egress(four: Bench, version: int) -> None:
    """The program holds back what the host's stack refuses, not what a policy does."""
    serve(four, PolicyRow("closed"), ring=(four.plane.settings.xcf, ONE))
    dvipa, client = DVIPA[version], CLIENT[version]
    packet = frame(ip(dvipa, client), TCP(sport=PORT, dport=1000, flags="RA", seq=0, ack=8))
    mark = four.plane.settings.queue_mark.to_bytes(4, "little")
    assert four.run("egress", packet).verdict == DROP
    assert four.run("egress", packet, bytes(8) + mark + bytes(180)).verdict == PASS


@VERSIONS
def test_a_request_with_data_is_dropped(four: Bench, version: int) -> None:
    serve(four, PolicyRow("closed"))
    segment = TCP(sport=1, dport=PORT, flags="S")
    result = four.ingress(ip(CLIENT[version], DVIPA[version]), segment, Raw(b"early"))
    assert (result.verdict, four.counted()) == (DROP, {"refused": 1})


@VERSIONS
def test_what_the_program_cannot_see(four: Bench, version: int) -> None:
    """A policy that only prefers is passed over, one that restricts is not."""
    client, dvipa = CLIENT[version], DVIPA[version]
    row = PolicyRow("voice", dscps=(46,), ring=(TWO,))
    serve(four, row)
    assert [chosen(four, client, dvipa, port) for port in (1, 2)] == [ONE, TWO]
    serve(four, replace(row, strict=True, clients=(HERE[version],)))
    assert chosen(four, client, dvipa, 3) is None
    assert four.counted() == {"policy_unseen": 1}
    assert chosen(four, OTHER[version], dvipa, 4) is not None


def test_everybody_of_ipv6_is_nobody_of_ipv4(four: Bench) -> None:
    serve(four, PolicyRow("six", (Prefix(ip_address("::"), 0),), ring=(TWO,)))
    assert chosen(four, CLIENT[4], DVIPA[4], 1) == ONE
    assert chosen(four, CLIENT[6], DVIPA[6], 1) == TWO


def _used(made: Bench) -> dict[str, int]:
    names = ("policies", "policy_rings", "policy_texts")
    return {name: len(list(made.plane._maps[name].items())) for name in names}


def test_sets_come_and_go_and_leave_nothing(four: Bench) -> None:
    """Totals of a policy that goes are its service's."""
    nothing = {"policies": 0, "policy_rings": 0, "policy_texts": 0}
    row = PolicyRow("here", (HERE[4],), ring=(TWO,))
    serve(four, row)
    assert _used(four) == {"policies": 4, "policy_rings": 2, "policy_texts": 2}
    assert chosen(four, CLIENT[4], DVIPA[4], 1) == TWO
    serve(four, replace(row, ring=(ONE,)))
    assert _used(four) == {"policies": 4, "policy_rings": 2, "policy_texts": 2}
    assert chosen(four, CLIENT[4], DVIPA[4], 2) == ONE
    serve(four)
    assert _used(four) == nothing
    assert four.plane.totals() == {(DVIPA[4], PORT, ONE): 1, (DVIPA[4], PORT, TWO): 1}
    serve(four, row)
    for dvipa in DVIPA.values():
        four.plane.remove_service(dvipa, PORT)
    assert _used(four) == nothing
    assert len(four.plane.distribution.slots._free) == SERVICES_MAX


def test_policies_stay_for_the_targets_that_are_left(four: Bench) -> None:
    serve(four, PolicyRow("here", ring=(ONE, TWO)))
    four.plane.set_service(DVIPA[4], PORT, (TWO,), True, None)
    assert [chosen(four, CLIENT[4], DVIPA[4], port) for port in (1, 2)] == [TWO, TWO]
    (service,) = [row for row in four.plane.services() if row.dvipa == DVIPA[4]]
    assert service.targets == {TWO}


def test_a_new_daemon_adopts_policies(four: Bench) -> None:
    serve(four, PolicyRow("here", (HERE[4],), dscps=(46,), strict=True, ring=(TWO,)))
    again = DataPlane.open(replace(four.plane.settings))
    try:
        uses = {(use.dvipa, use.policy) for use in again.distribution.uses()}
        assert uses == {(dvipa, "here") for dvipa in DVIPA.values()}
        again.set_service(DVIPA[4], PORT, (ONE,), True, ())
        again.remove_service(DVIPA[6], PORT)
    finally:
        again.close()
    assert _used(four) == {"policies": 0, "policy_rings": 0, "policy_texts": 0}


def test_without_room_for_policies_the_ring_follows_all_the_same(
    four: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(four, ring=(ONE,))

    def full(*_: object) -> None:
        raise BpfError(7, "full")

    monkeypatch.setattr("dvipad.adapters.bpf.policy_table.write_set", full)
    with pytest.raises(BpfError, match="full"):
        serve(four, PolicyRow("here", (HERE[4],), ring=(ONE,)), ring=(TWO,))
    assert chosen(four, CLIENT[4], DVIPA[4]) == TWO
    assert _used(four) == {"policies": 0, "policy_rings": 0, "policy_texts": 0}


@pytest.fixture
def worker(four: Bench) -> Iterator[WorkerView]:
    """The worker's view of the same maps."""
    view = WorkerView.open(four.plane.settings.pin_dir)
    yield view
    view.close()


def _asked(view: WorkerView, request: Request) -> Callable[[], Address | int | None]:
    def ask() -> Address | int | None:
        found = view.choose(pack(DVIPA[request.client.version]), PORT, lambda _: request)
        if found is None or found.target == REFUSED:
            return found if found is None else REFUSED
        return view.target(found.target)

    return ask


def test_the_worker_follows_policies_that_change(four: Bench, worker: WorkerView) -> None:
    voice = _asked(worker, Request(CLIENT[4], dscp=46))
    other = _asked(worker, Request(CLIENT[4]))
    serve(four, PolicyRow("voice", dscps=(46,), ring=(TWO,)))
    assert [voice(), voice(), other(), other()] == [TWO, TWO, ONE, TWO]
    serve(four, PolicyRow("voice", dscps=(46,)), PolicyRow("rest", ring=(ONE,)))
    assert [voice(), other(), other()] == [REFUSED, ONE, ONE]
    uses = {use.policy: use for use in four.plane.distribution.uses() if use.dvipa == DVIPA[4]}
    assert uses["voice"].refused == 1
    assert uses["voice"].chosen == {TWO: 2}, "its totals go on"
    assert uses["rest"].chosen == {ONE: 2}
    serve(four)
    assert [voice(), voice()] == [ONE, TWO]


def test_a_set_that_is_gone_is_no_missing_policy(four: Bench, worker: WorkerView) -> None:
    """In the moment of a change a request waits: it never goes where a policy does not want it."""
    serve(four, PolicyRow("here", (HERE[4],), strict=True, ring=(TWO,)))
    for name in ("policies", "policy_texts"):
        table = four.plane._maps[name]
        for key, _ in list(table.items()):
            table.delete(key)
    assert chosen(four, CLIENT[4], DVIPA[4]) is None
    assert four.counted() == {"policy_unseen": 1}
    with pytest.raises(BpfError, match="policies change"):
        _asked(worker, Request(CLIENT[4]))()


subnets = st.sampled_from(
    ["0.0.0.0/0", "203.0.0.0/8", "203.0.113.0/24", "203.0.113.128/25", "203.0.113.9/32",
     "::/0", "2001:db8::/32", "2001:db8:2::/64", "2001:db8:2::9/128"]
).map(lambda text: Prefix(ip_address(text.split("/")[0]), int(text.split("/")[1])))  # fmt: skip
rows = st.builds(
    PolicyRow,
    st.just("p"),
    st.lists(subnets, max_size=3).map(tuple),
    ring=st.sampled_from([(), (ONE,), (TWO,)]),
)
clients = st.sampled_from(
    ["203.0.113.9", "203.0.113.200", "203.1.1.1", "10.1.1.1", "2001:db8:2::9", "2001:db8:2::a",
     "2001:db8:9::1", "fd00::1"]
).map(ip_address)  # fmt: skip


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows, max_size=5), st.lists(clients, min_size=1, max_size=4))
def test_program_and_worker_and_the_rules_agree(
    four: Bench, policies: list[PolicyRow], seen: list[Address]
) -> None:
    named = [replace(row, name=f"p{number}") for number, row in enumerate(policies)]
    serve(four, *named, ring=(ONE,))
    view = WorkerView.open(four.plane.settings.pin_dir)
    try:
        for client in seen:
            row = first(named, Request(client))
            wanted = ONE if row is None else row.ring[0] if row.ring else None
            dvipa = DVIPA[6 if isinstance(client, IPv6Address) else 4]
            four.plane.purge_dvipa(dvipa)
            assert chosen(four, client, dvipa) == wanted
            by_worker = _asked(view, Request(client))()
            assert by_worker == (REFUSED if wanted is None else wanted)
    finally:
        view.close()
