"""`dvipactl` for eyes and bug reports: events, top, the support bundle, without a daemon."""

from __future__ import annotations

import json
import tarfile
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dvipad.cli import bundle
from dvipad.cli.dvipactl import main
from dvipad.cli.events import Last
from dvipad.cli.redact import REMOVED, redact
from dvipad.cli.screen import SORTS, Sight, screen


def event(number: int, wall_ms: int) -> dict[str, Any]:
    return {"number": number, "wall_ms": wall_ms, "level": "info", "text": "x", "kind": "log"}


def answer(*rows: dict[str, Any], newest: int, lost: int = 0) -> dict[str, Any]:
    return {"events": list(rows), "newest": newest, "lost": lost}


def test_a_broken_connection_repeats_no_event() -> None:
    last = Last(2, [event(1, 10), event(2, 20)])
    last.asked_again = True
    assert last.number == 0
    rows, lost = last.take(answer(event(2, 20), event(3, 30), newest=3, lost=1))
    assert (rows, lost, last.number) == ([event(3, 30)], 0, 3)


def test_a_new_daemon_is_read_from_its_first_event() -> None:
    last = Last(5, [event(5, 50)])
    last.asked_again = True
    new = [event(number, 90 + number) for number in (7, 8, 9)]
    assert last.take(answer(*new, newest=9, lost=6)) == (new, 6)
    assert last.number == 9


def target(node: str, total: int) -> dict[str, Any]:
    return {
        "dvipa": "192.0.2.100", "port": 80, "name": node, "xcf": node, "ready": 1, "total": total,
    }  # fmt: skip


def sight(at_s: float, total: int, before: Sight | None = None, targets: int = 1) -> Sight:
    view = {
        "name": "lb1", "joined": True, "troubles": ["storage full"],
        "members": [
            {"name": "lb1", "xcf": "192.0.2.1", "life": "self", "release": "0.1.0",
             "mesh_version": 2, "troubles": []},
        ],
        "dvipas": [{"dvipa": "192.0.2.100", "status": "ACTIVE", "dist_status": "distributor",
                    "owner": "lb1", "epoch": 7, "rank": 255}],
        "targets": [target(f"t{number}", total * number) for number in range(1, targets + 1)],
    }  # fmt: skip
    events = [event(number, 1000 * number) for number in range(1, 21)]
    return Sight(at_s, view, {"plane": {"queued": total}}, events, before)


def drawn(shown: Any, width: int) -> list[str]:
    console = Console(width=width, file=StringIO(), color_system=None)
    with console.capture() as text:
        console.print(shown)
    return text.get().splitlines()


def test_rates_are_per_second_and_none_after_a_restart() -> None:
    assert sight(2, 30, sight(0, 10)).targets()[0]["rate"] == 10.0
    assert sight(2, 5, sight(0, 10)).targets()[0]["rate"] is None
    assert sight(2, 30, sight(0, 10)).counted() == [
        {"name": "plane.queued", "value": 30, "rate": 10.0}
    ]


@pytest.mark.parametrize("sort", SORTS)
def test_all_fits_a_small_terminal(sort: str) -> None:
    lines = drawn(screen(sight(2, 30, sight(0, 10, None, 40), 40), sort, "", 24, "q quit"), 80)
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    for word in ("storage full", "ACTIVE", "192.0.2.100..80", "plane.queued", "q quit", "of 40)"):
        assert word in text


def test_sort_and_filter() -> None:
    now = sight(2, 30, sight(0, 10, None, 3), 3)
    order = [line.split()[1] for line in drawn(screen(now, "rate", "..80", None), 100)
             if "..80" in line]  # fmt: skip
    assert order == ["t3", "t2", "t1"]
    assert "t1" not in "\n".join(drawn(screen(now, "rate", "t2", None), 100))


SECRETS = """\
mesh:
  key: hunter2
  psk_file: /etc/hunter2
  port: 4780
token = "hunter2 and more"
{"api_token": "hunter2", "password": 'hunter2'}
keys:
  - hunter2
  - hunter2
url: https://me:hunter2@example.net/x
-----BEGIN PRIVATE KEY-----
hunter2
-----END PRIVATE KEY-----
node: lb1
"""


def test_secrets_are_removed() -> None:
    text = redact(SECRETS)
    assert "hunter2" not in text
    assert text.count(REMOVED) >= 7
    assert "port: 4780" in text and "node: lb1" in text and "example.net/x" in text


def test_the_bundle_of_a_dead_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node, file = tmp_path / "node.yaml", tmp_path / "bundle.tar.gz"
    node.write_text(SECRETS)
    arguments = ["support-bundle", str(file), "--node", str(node), "--no-addresses", "--json"]
    assert main(["--socket", str(tmp_path / "none"), *arguments]) == 0
    names = json.loads(capsys.readouterr().out)["contents"]
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as archive:
        texts = {
            name: archive.extractfile(f"dvipad-support/{name}").read().decode()  # type: ignore
            for name in names
        }
    assert "the daemon does not answer" in texts["daemon/view.json"]
    assert "node: lb1" in texts["config/node.yaml"]
    assert "hunter2" not in "".join(texts.values())
    assert "$ uname -a\nLinux" in texts["host/kernel.txt"]
    assert "host/ip-neighbours.txt" not in texts


def test_a_bundle_that_cannot_be_written(tmp_path: Path) -> None:
    assert main(["support-bundle", str(tmp_path / "none" / "file")]) == 1


def test_commands_are_bounded_and_may_be_missing() -> None:
    assert "not installed: no-such-command" in bundle.output(["no-such-command"])
    assert "timed out" in bundle.output(["cat", "/dev/zero"], timeout_s=0.1)
    assert "exit status 1" in bundle.output(["false"])
