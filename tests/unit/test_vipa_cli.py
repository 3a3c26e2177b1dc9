"""`dvipactl vipa`: the exit codes of MODDVIPA, whatever the daemon answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dvipad.cli.dvipactl import main

REASON = "it is in no VIPARANGE of this node"


class Answering:
    """A daemon that answers every request with `code`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.code = 0
        self.requests: list[dict[str, Any]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client, client.makefile("rwb") as lines:
                line = lines.readline()
                if not line:
                    return
                self.requests.append(json.loads(line))
                reason = REASON if self.code else ""
                answer = {"ok": True, "dvipa": "192.0.2.200", "code": self.code, "reason": reason}
                lines.write(json.dumps(answer).encode() + b"\n")

    def stop(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join()
        self._listener.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Answering]:
    made = Answering(tmp_path / "control.sock")
    yield made
    made.stop()


@pytest.mark.parametrize("verb", ["activate", "delete"])
@pytest.mark.parametrize("code", [0, 4, 8])
def test_the_code_is_the_exit_status(
    daemon: Answering, capsys: pytest.CaptureFixture[str], verb: str, code: int
) -> None:
    daemon.code = code
    assert main(["--socket", str(daemon.path), "vipa", verb, "192.0.2.200"]) == code
    said = capsys.readouterr()
    assert daemon.requests == [{"command": "vipa", "verb": verb, "dvipa": "192.0.2.200"}]
    assert (REASON in said.err) is (code != 0)
    assert bool(said.out) is (code == 0)


@pytest.mark.parametrize("code", [0, 4, 8])
def test_json_has_code_and_reason(
    daemon: Answering, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    daemon.code = code
    assert main(["--socket", str(daemon.path), "vipa", "activate", "192.0.2.200", "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"dvipa": "192.0.2.200", "code": code, "reason": REASON if code else ""}


@pytest.mark.parametrize(
    "arguments",
    [[], ["activate"], ["activate", "host.example"], ["delete", "192.0.2.200", "more"], ["move"]],
)
def test_bad_parameters(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["vipa", *arguments])
    assert ended.value.code == 12
    assert "error:" in capsys.readouterr().err


def test_bad_parameters_of_others_are_what_they_were() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["netstat", "vipadyn", "more"])
    assert ended.value.code == 2


def test_no_daemon(tmp_path: Path) -> None:
    assert main(["--socket", str(tmp_path / "none"), "vipa", "activate", "192.0.2.200"]) == 1
