"""Status objects of databases, with those of Debian: what they read is true."""

from __future__ import annotations

import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from dvipad.status.objects import Result, StatusObject, make, read

pytestmark = pytest.mark.e2e

LIMIT_S = 15.0
CLIENTS = 3


def until(holds: Callable[[], bool]) -> None:
    """Wait until that holds."""
    end_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """At the end it is gone at once, whoever is connected."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, stdout=quiet, stderr=quiet) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGQUIT)


def figures(status_object: StatusObject) -> dict[str, float]:
    result, found, detail = read(status_object)
    assert result is Result.OK, detail
    return found


def test_redis(tmp_path: Path) -> None:
    port = free_port()
    watched = make("redis", {"url": f"redis://127.0.0.1:{port}"}, 2.0)
    words = ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with running(words) as server, ExitStack() as stack:
        until(lambda: read(watched)[0] is Result.OK)
        before = figures(watched)
        assert before["time_ms"] > 0
        for _ in range(CLIENTS):
            client: Any = stack.enter_context(redis.Redis(port=port))
            client.ping()
        assert figures(watched)["clients"] == before["clients"] + CLIENTS
        server.kill()
        server.wait()
        assert read(watched)[0] is Result.DOWN


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user may enter."""
    made = Path(tempfile.mkdtemp(prefix="dvipad-pg-"))
    user = pwd.getpwnam("postgres")
    shutil.chown(made, user.pw_uid, user.pw_gid)
    yield made
    shutil.rmtree(made)


def test_postgresql(folder: Path) -> None:
    (programs,) = Path("/usr/lib/postgresql").glob("*/bin")
    port, data = free_port(), folder / "data"
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    initdb = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "x", "--no-sync"]
    subprocess.run([*as_user, *initdb], check=True, capture_output=True, cwd=folder)
    dsn = f"host=127.0.0.1 port={port} user=x dbname=postgres"
    watched = make("postgresql", {"dsn": dsn}, 2.0)
    postgres = [
        str(programs / "postgres"),
        "-D",
        str(data),
        "-k",
        str(folder),
        "-p",
        str(port),
        "-F",
    ]
    with running([*as_user, *postgres]), ExitStack() as stack:
        until(lambda: read(watched)[0] is Result.OK)
        assert figures(watched)["clients"] == 0
        holder, waiter = (stack.enter_context(closing(psycopg.connect(dsn))) for _ in range(2))
        holder.execute("create table t (a int)")
        holder.commit()
        holder.execute("lock table t")
        found = figures(watched)
        assert (found["clients"], found["waiting"]) == (2, 0)
        assert found["time_ms"] > 0
        waiter.pgconn.send_query(b"begin; lock table t")
        until(lambda: figures(watched)["waiting"] == 1)
        holder.rollback()
        until(lambda: figures(watched)["waiting"] == 0)
    assert read(watched)[0] is Result.DOWN
