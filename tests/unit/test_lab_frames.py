"""The lab's checked data: frames, gaps, and what a server listens on."""

from __future__ import annotations

import io
import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.lab import wrk
from dvipad.lab.demo_table import Scene, Screen
from dvipad.lab.frames import MAX_FRAME, MIN_FRAME, FrameError, encode, take_frames
from dvipad.lab.long_connections import Connection
from dvipad.lab.nginx import config_text, listening_ports
from dvipad.lab.spec import LabError
from dvipad.lab.traffic import LongReport

frames = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(MIN_FRAME, 2000)),
    max_size=8,
)


@given(frames, st.lists(st.integers(1, 3000), max_size=20))
def test_frames_come_out_however_they_were_cut(
    wanted: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    data = b"".join(encode(*frame) for frame in wanted)
    buffer, found, echoed = bytearray(), [], b""
    for size in [*cuts, len(data)]:
        buffer += data[:size]
        data = data[size:]
        some, taken = take_frames(buffer)
        found += some
        echoed += taken
    assert found == [(connection, sequence) for connection, sequence, _ in wanted]
    assert echoed == b"".join(encode(*frame) for frame in wanted)
    assert not buffer


@given(st.integers(MIN_FRAME, 200), st.data())
def test_a_changed_byte_is_noticed(size: int, data: st.DataObject) -> None:
    frame = bytearray(encode(3, 4, size) + encode(3, 5, size))
    place = data.draw(st.integers(0, size - 1))
    frame[place] ^= data.draw(st.integers(1, 255))
    try:
        found, _ = take_frames(frame)
    except FrameError:
        return
    assert found == []  # the length has changed: waits for more, which will not fit


@pytest.mark.parametrize("size", [0, MIN_FRAME - 1, MAX_FRAME + 1])
def test_sizes_have_limits(size: int) -> None:
    with pytest.raises(ValueError, match="a frame has"):
        encode(0, 0, size)


def test_a_connection_remembers_its_longest_gap_and_refuses_a_wrong_order() -> None:
    with socket.socket() as sock:
        connection = Connection(9, sock)
        for sequence, now_ns in enumerate((5, 105, 110)):
            assert connection.received(encode(9, sequence), now_ns) == 1
        assert connection.gap_ns == 100
        assert connection.quiet_ns(150) == 40
        with pytest.raises(FrameError, match="9/3"):
            connection.received(encode(9, 4), 200)
        with pytest.raises(FrameError, match="8/3"):
            connection.received(encode(8, 3), 200)


def test_lost_leaves_out_the_servers_that_one_names() -> None:
    row = {"connections": 10, "open": 8, "max_gap_ms": 30.0, "quiet_ms": 5.0}
    silent = {"connections": 5, "open": 5, "max_gap_ms": 9000.0, "quiet_ms": 9000.0}
    report = LongReport("x", 1.0, {"open": 13}, {"t1": row, "t2": silent}, 0, 0.0)
    assert report.lost() == 7
    assert report.lost(without=["t2"]) == 2
    assert report.max_gap_ms(without=["t2"]) == 30.0


def test_nginx_listens_where_it_should() -> None:
    text = config_text("t1", [80, 8080], [ip_address("192.0.2.100"), ip_address("2001:db8::1")])
    for place in ("192.0.2.100:80", "[2001:db8::1]:8080"):
        assert f"listen {place} backlog" in text
    assert 'return 200 "t1\\n";' in text
    assert "listen [::]:80 ipv6only=on backlog" in config_text("t1", [80])


def test_listening_ports_of_proc_net_tcp() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue\n"
        "   0: 00000000:0050 00000000:0000 0A 00000000:00000000\n"
        "   1: 0100007F:0016 0100007F:8080 01 00000000:00000000\n"
        "   0: 00000000000000000000000000000000:0007 00000000000000000000000000000000:0000 0A 0\n"
    )
    assert listening_ports(table) == {80, 7}


def test_wrk_figures_are_read_and_their_absence_is_an_error() -> None:
    result = wrk.parse(
        [
            "Running 2s test @ http://192.0.2.100:80/",
            "server t1 100",
            "server t2 90",
            "server t1 10",
            "errors read 3",
            "errors write 0",
            "requests all 200",
            "microseconds all 2e+06",
        ]
    )
    assert result.servers == {"t1": 110, "t2": 90}
    assert (result.errors, result.rate_per_s) == ({"read": 3}, 100)
    with pytest.raises(LabError, match="unable to connect"):
        wrk.parse(["unable to connect to 192.0.2.100:80 Connection refused"])
    assert wrk.url_of(ip_address("2001:db8::1"), 80) == "http://[2001:db8::1]:80/"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_table_is_drawn_in_place_on_a_terminal_only() -> None:
    scene = Scene(["t1", "t2"], "192.0.2.100", dead={"t2"})
    scene.curl["t1"] = 5
    scene.long = {"t1": {"open": 3, "connections": 4, "max_gap_ms": 21.4}}
    for out, live in ((Terminal(), True), (io.StringIO(), False)):
        screen = Screen(scene, out)
        screen.step("one")
        screen.say("remark")
        screen.draw()
        screen.step("two")
        screen.close()
        text = out.getvalue()
        assert ("\x1b[" in text) is live
        assert [line for line in text.splitlines() if "==" in line][-1].endswith("== two")
        assert "remark" in text
        assert "t2 (dead)" in text
        assert "3/4" in text
        assert "21 ms" in text
