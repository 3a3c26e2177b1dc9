"""Status objects: what each reads, and what becomes of one that hangs, crashes or says rubbish."""

from __future__ import annotations

import http.server
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.config.status import ObjectConfig
from dvipad.status import objects, program
from dvipad.status.lines import line, object_order
from dvipad.status.objects import NotUsable, Result, checked, make, read

LIMIT_S = 5.0


class Says:
    """A status object that returns, or raises, `what`."""

    def __init__(self, what: object) -> None:
        self._what = what

    def read(self) -> Mapping[str, float]:
        if isinstance(self._what, BaseException):
            raise self._what
        return self._what  # type: ignore[return-value]


RUBBISH: tuple[tuple[object, Result], ...] = (
    ({"value": 3}, Result.OK),
    ({}, Result.OK),
    (None, Result.RUBBISH),
    ([1], Result.RUBBISH),
    ({"value": "3"}, Result.RUBBISH),
    ({"value": True}, Result.RUBBISH),
    ({"Value!": 3}, Result.RUBBISH),
    ({3: 3}, Result.RUBBISH),
    ({f"a{n}": 1 for n in range(17)}, Result.RUBBISH),
    ({"value": math.nan}, Result.OUT_OF_RANGE),
    ({"value": math.inf}, Result.OUT_OF_RANGE),
    ({"value": -1}, Result.OUT_OF_RANGE),
    ({"value": 10**400}, Result.OUT_OF_RANGE),
    (RuntimeError("x" * 1000 + "\n\x1b[31m"), Result.DOWN),
    (ConnectionRefusedError(), Result.DOWN),
    (TimeoutError(), Result.TIMEOUT),
)


@pytest.mark.parametrize(("said", "result"), RUBBISH)
def test_what_it_says_has_a_name(said: object, result: Result) -> None:
    found, figures, detail = read(Says(said))
    assert found is result
    assert bool(detail) is (result is not Result.OK)
    assert detail.isprintable() and len(detail) <= objects.DETAIL_MAX
    assert not figures or result is Result.OK


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_nothing_that_it_says_crashes(said: object) -> None:
    result, figures, _ = read(Says(said))
    assert result in (Result.OK, Result.RUBBISH, Result.OUT_OF_RANGE)
    if figures:
        assert checked(said) == figures


def of(
    kind: str, timeout_s: float = LIMIT_S, **options: str
) -> tuple[Result, dict[str, float], str]:
    """One reading of a built-in status object."""
    return read(make(kind, options, timeout_s))


# -- programs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "result", "detail"),
    [
        ("echo 7", Result.OK, ""),
        ("""echo '{"value": 7}'""", Result.OK, ""),
        ("echo NaN", Result.OUT_OF_RANGE, "nan"),
        ("echo -1", Result.OUT_OF_RANGE, "-1"),
        ("echo hello", Result.RUBBISH, "it printed no JSON"),
        ("true", Result.RUBBISH, "it printed no JSON"),
        ("yes", Result.RUBBISH, "more than 65536 bytes"),
        ("sh -c 'echo it is full >&2; exit 3'", Result.DOWN, "exit status 3: it is full"),
        ("sh -c 'kill -SEGV $$'", Result.DOWN, "signal 11"),
        ("/nothing/here", Result.UNAVAILABLE, "No such file"),
    ],
)
def test_a_program(command: str, result: Result, detail: str) -> None:
    found, figures, why = of("exec", command=command)
    assert (found, detail in why) == (result, True), why
    assert figures == ({"value": 7} if result is Result.OK else {})


def test_a_program_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = f"sh -c 'sleep 100 & echo $! > {file}; wait'"
    began_s = time.monotonic()
    assert of("exec", 0.5, command=script)[0] is Result.TIMEOUT
    assert time.monotonic() - began_s < LIMIT_S
    child = Path(f"/proc/{file.read_text().strip()}/stat")
    end_s = time.monotonic() + LIMIT_S
    while child.exists() and " Z " not in child.read_text() and time.monotonic() < end_s:
        time.sleep(0.01)
    assert not child.exists() or " Z " in child.read_text()
    assert not program.RUNNING


# -- servers ---------------------------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Callable[[int, str], str]]:
    """Starts a web server that answers with a status and a text; returns its URL."""
    servers: list[http.server.HTTPServer] = []

    def start(status: int, text: str) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *arguments: Any) -> None:
                pass

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def silent() -> tuple[socket.socket, int]:
    """A server that accepts connections, and says nothing."""
    server = socket.create_server(("127.0.0.1", 0))
    return server, server.getsockname()[1]


def test_http(serve: Callable[[int, str], str]) -> None:
    result, figures, _ = of("http", url=serve(200, "fine"))
    assert result is Result.OK
    assert figures["status"] == 200 and 0 < figures["time_ms"] < LIMIT_S * 1000
    assert of("http", url=serve(503, ""))[::2] == (Result.DOWN, "OSError: HTTP status 503")
    assert of("http", url=serve(503, ""), expect="503")[0] is Result.OK
    server, port = silent()
    with server:
        assert of("http", 0.2, url=f"http://127.0.0.1:{port}/")[0] is Result.TIMEOUT
    assert of("http", url=f"http://127.0.0.1:{port}/")[0] is Result.DOWN


def test_tcp_and_hops() -> None:
    server, port = silent()
    with server:
        result, figures, _ = of("tcp", port=str(port))
        assert result is Result.OK and figures["time_ms"] > 0
        assert of("hops", host="127.0.0.1", port=str(port))[1] == {"hops": 1}
    assert of("tcp", port=str(port))[0] is Result.DOWN
    assert of("hops", host="127.0.0.1", port=str(port))[1] == {"hops": 1}, "a refusal is an answer"


EXPORTED = """\
# TYPE requests gauge
requests{job="a",zone="x"} 3
requests{job="a",zone="y"} 4
requests{job="b"} 100
"""


def test_a_metric_of_an_exporter(serve: Callable[[int, str], str]) -> None:
    url = serve(200, EXPORTED)
    assert of("prometheus", url=url, metric='requests{job="a"}')[1] == {"value": 7}
    assert of("prometheus", url=url, metric="requests")[1] == {"value": 107}
    assert of("prometheus", url=url, metric="other")[0] is Result.RUBBISH
    assert of("prometheus", url=serve(200, "{{{"), metric="requests")[0] is Result.RUBBISH
    assert of("prometheus", url=serve(500, ""), metric="requests")[0] is Result.DOWN
    rate = make("prometheus", {"url": url, "metric": "requests", "rate": "true"}, LIMIT_S)
    assert read(rate)[1] == {}
    assert read(rate)[1] == {"value": 0}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("redis", {"url": "redis://127.0.0.1:{port}"}),
        ("postgresql", {"dsn": "host=127.0.0.1 port={port} user=x"}),
    ],
)
def test_databases_that_are_not_there_are_down(kind: str, options: dict[str, str]) -> None:
    server, port = silent()
    server.close()
    given = {key: value.format(port=port) for key, value in options.items()}
    assert of(kind, LIMIT_S, **given)[0] is Result.DOWN


def test_a_process_and_its_cgroup(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.write_text(f"{os.getpid()}\n")
    mine = make("process", {"pid_file": str(file)}, LIMIT_S)
    result, figures, _ = read(mine)
    assert result is Result.OK and figures["memory_mb"] > 1 and figures["threads"] >= 1
    sum(range(1_000_000))
    assert 0 <= read(mine)[1]["cpu_percent"] < 10_000
    assert of("process", name="no-such-process")[0] is Result.DOWN
    file.unlink()
    assert of("process", pid_file=str(file))[0] is Result.DOWN
    assert of("cgroup", path="/no-such-cgroup")[0] is Result.DOWN


# -- entry points ----------------------------------------------------------------------------------


def crash(options: Mapping[str, str], timeout_s: float) -> objects.StatusObject:
    """An entry point that cannot be used."""
    raise SystemError("no")


def queue(options: Mapping[str, str], timeout_s: float) -> objects.StatusObject:
    """An entry point of the tests."""
    return Says({"length": float(options["length"])})


def test_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(group: str, name: str) -> list[EntryPoint]:
        assert group == "dvipad.status_objects"
        known = {"queue": f"{__name__}:queue", "crash": f"{__name__}:crash", "gone": "no.such:it"}
        return [EntryPoint(name, known[name], group)] if name in known else []

    monkeypatch.setattr(objects, "entry_points", found)
    assert of("queue", length="3")[1] == {"length": 3}
    for kind in ("crash", "gone", "nobody"):
        with pytest.raises(NotUsable) as caught:
            of(kind)
        assert caught.value.result is Result.UNAVAILABLE


# -- the process -----------------------------------------------------------------------------------


def test_one_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    configs = [
        ObjectConfig("hangs", "exec", None, None, 100, 100, (("command", "sleep 100"),)),
        ObjectConfig("works", "exec", None, None, 100, 5000, (("command", "echo 1"),)),
        ObjectConfig("strange", "no-such-kind"),
    ]
    command = [sys.executable, "-m", "dvipad.status.process"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdin and process.stdout
        for config in configs:
            process.stdin.write(line(object_order(config)))
        process.stdin.flush()
        seen: dict[str, list[str]] = {"hangs": [], "works": [], "strange": []}
        while min(len(each) for each in seen.values()) < 1 or len(seen["works"]) < 3:
            said = json.loads(process.stdout.readline())
            if said:
                seen[said["object"]].append(said["result"])
        assert set(seen["hangs"]) == {"timeout"}
        assert set(seen["works"]) == {"ok"}
        assert seen["strange"] == ["unavailable"]
        process.stdin.close()
        assert process.wait(LIMIT_S) == 0
