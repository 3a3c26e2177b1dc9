"""Limits of one mesh, refusals, and whom it dials when."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_wire import endpoint, hello, member

from dvipad.wire import mesh as mesh_module
from dvipad.wire.actions import Close, Ending
from dvipad.wire.codec import encode
from dvipad.wire.events import DownReason, PeerDown, PeerUp
from dvipad.wire.mesh import MAX_UNGREETED, MAX_UNGREETED_EACH, Mesh, MeshSettings
from dvipad.wire.messages import Dvipa, Goodbye, Heartbeat, Hello, Member, Members, Move
from dvipad.wire.redial import DIAL_MS, MAX_ENDPOINTS, QUICK_DIAL_MS, Endpoint, Redial

MOVE = Dvipa(Move.TAKEOVER, IPv4Address("203.0.113.1"), 7)


def test_a_message_to_a_node_that_is_not_up_is_counted() -> None:
    mesh = Mesh(MeshSettings(hello("a")), 0)
    assert not mesh.send("b", MOVE, 0)
    mesh.broadcast(MOVE, 0)
    assert mesh.counters["not_up"] == 1
    assert mesh.poll() == []
    assert mesh.deadline() is None


def test_inbound_connections_without_hello_are_bounded() -> None:
    mesh = Mesh(MeshSettings(hello("a")), 0)
    for number in range(MAX_UNGREETED_EACH + 1):
        mesh.accepted(number, ip_address("2001:db8::1"), 0)
    refused = [item for item in mesh.poll() if isinstance(item, Close)]
    assert refused == [Close(MAX_UNGREETED_EACH, abort=True)]
    for number in range(MAX_UNGREETED_EACH, 2 * MAX_UNGREETED):
        mesh.accepted(number, IPv4Address(number), 0)
    assert len([item for item in mesh.poll() if isinstance(item, Close)]) == MAX_UNGREETED
    mesh.handle_deadline(1000)
    assert len([item for item in mesh.poll() if isinstance(item, Close)]) == MAX_UNGREETED


def greet(mesh: Mesh, connection_id: int, peer: Hello) -> None:
    """A peer with a greater name dials and says Hello."""
    mesh.accepted(connection_id, peer.member.xcf, 0)
    mesh.receive(connection_id, encode(peer), 0)


def test_peers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_module, "MAX_PEERS", 2)
    mesh = Mesh(MeshSettings(hello("a")), 0)
    for number, name in enumerate("bcd"):
        greet(mesh, number, hello(name))
    assert [peer.name for peer in mesh.peers()] == ["b", "c"]
    assert mesh.counters["too_many"] == 1


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        (hello("b", 5), "duplicate"),
        (hello("b", 4), "stale"),
        (Hello("lab", Member("b", IPv4Address("192.0.2.77"), 4780), 6), "name_taken"),
    ],
)
def test_a_second_session_of_a_peer_is_refused(second: Hello, fault: str) -> None:
    mesh = Mesh(MeshSettings(hello("a")), 0)
    greet(mesh, 1, hello("b", 5))
    greet(mesh, 2, second)
    assert mesh.counters[fault] == 1
    assert [item for item in mesh.poll() if isinstance(item, Close)] == [Close(2, abort=False)]
    assert mesh.peers() == (member("b"),)


def test_a_peer_that_does_not_read_is_dropped() -> None:
    mesh = Mesh(MeshSettings(hello("a")), 0)
    greet(mesh, 1, hello("b"))
    mesh.poll()
    mesh.closed(1, Ending.OVERFLOW, 5)
    assert mesh.poll() == [Close(1, abort=True), PeerDown("b", DownReason.PROTOCOL)]
    assert mesh.counters["overflow"] == 1


def test_a_session_that_opens_and_ends_in_one_portion_is_up_and_down() -> None:
    mesh = Mesh(MeshSettings(hello("m")), 0)
    mesh.accepted(1, member("a").xcf, 0)
    mesh.receive(1, encode(hello("a")) + encode(Heartbeat()) + encode(Goodbye("stop")), 0)
    events = [item for item in mesh.poll() if isinstance(item, PeerUp | PeerDown)]
    assert events == [PeerUp(member("a"), 1), PeerDown("a", DownReason.GOODBYE)]


def test_own_address_as_seed_is_never_dialled() -> None:
    mesh = Mesh(MeshSettings(hello("a"), (endpoint("a"),)), 0)
    mesh.handle_deadline(0)
    assert mesh.poll() == []


def test_back_off_doubles_to_its_maximum_and_can_be_replayed() -> None:
    def intervals(name: str) -> list[int]:
        redial = Redial(name, (endpoint("b"),), 50, 2000, 0)
        now_ms, seen = 0, []
        for _ in range(12):
            assert list(redial.due(now_ms)) == [(endpoint("b"), DIAL_MS)]
            assert list(redial.due(now_ms)) == []
            redial.failed(endpoint("b"), now_ms)
            due_ms = redial.deadline()
            assert due_ms is not None
            seen.append(due_ms - now_ms)
            now_ms = due_ms
        return seen

    plain = [min(2000, 50 << n) for n in range(12)]
    seen = intervals("a")
    assert all(0.74 * full <= got <= full for full, got in zip(plain, seen, strict=True))
    assert seen == intervals("a") != intervals("c")


def test_a_lost_peer_is_dialled_with_little_patience() -> None:
    redial = Redial("a", (), 50, 2000, 0)
    redial.up("b", endpoint("b"), 0)
    redial.down("b", endpoint("b"), True, 100)
    assert redial.awaited(endpoint("b")) == "b"
    assert list(redial.due(150)) == [(endpoint("b"), QUICK_DIAL_MS)]


def test_learnt_endpoints_are_bounded_and_seeds_stay() -> None:
    seeds = (Endpoint(IPv4Address(1), 1),)
    redial = Redial("a", seeds, 50, 2000, 0)
    for number in range(2 * MAX_ENDPOINTS):
        assert redial.learn(f"n{number}", Endpoint(IPv4Address(1000 + number), 1), 0)
    due = [found for found, _ in redial.due(0)]
    assert len(due) == MAX_ENDPOINTS
    assert seeds[0] in due
    assert not redial.learn("one more", Endpoint(IPv4Address(7), 1), 0)


def test_a_node_that_moved_is_dialled_at_its_new_address_only() -> None:
    redial = Redial("a", (), 50, 2000, 0)
    redial.up("b", Endpoint(IPv4Address(1), 1), 0)
    redial.down("b", Endpoint(IPv4Address(1), 1), False, 0)
    redial.learn("b", Endpoint(IPv4Address(2), 1), 0)
    assert [found for found, _ in redial.due(1000)] == [Endpoint(IPv4Address(2), 1)]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_peers_send_the_mesh_goes_on(data: st.DataObject) -> None:
    mesh = Mesh(MeshSettings(hello("m"), (endpoint("a"),)), 0)
    words = [encode(hello(n, i)) for n in "amz" for i in (1, 2)]
    words += [encode(MOVE), encode(Members((member("a"), member("z")))), b"", b"DV", b"x"]
    words += [encode(Heartbeat()), encode(Goodbye("stop"))]
    for now_ms in range(0, 3000, data.draw(st.integers(50, 500))):
        number = data.draw(st.integers(0, 5))
        act = data.draw(st.integers(0, 5))
        if act == 0:
            mesh.accepted(now_ms + number, IPv4Address(number), now_ms)
        elif act == 1:
            mesh.dialled(now_ms + number, endpoint("a"), now_ms)
        elif act == 2:
            mesh.handle_deadline(now_ms)
        else:
            stream = b"".join(data.draw(st.lists(st.sampled_from(words), max_size=4)))
            for connection_id in list(mesh._connections)[:number]:
                mesh.receive(connection_id, stream, now_ms)
        mesh.broadcast(MOVE, now_ms)
        mesh.poll()
