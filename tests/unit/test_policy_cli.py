"""`dvipactl policy` and `dvipactl why`: what they ask, and what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dvipad.adapters.jsonable import jsonable
from dvipad.cli import dvipactl, policy
from dvipad.config.policies import parse_policies

POLICY = jsonable(
    (
        parse_policies(
            "policies: [{name: office, match: {port: [80, 90-99], clients: 192.0.2.0/24, dscp: ef},"
            " targets: {nodes: [t1], labels: {rack: a}, where: [weight > 40]}, threshold: 20}]",
            "p",
        ).policies
        or ()
    )[0]
)
LIST = {
    "ok": True,
    "policies": [{**POLICY, "from": "own", "open": True, "times": "Mon 08:00-18:00"}],
    "services": [
        {"policy": "office", "dvipa": "192.0.2.100", "port": 80, "targets": 1, "ring": ["t1"],
         "chosen": {"t1": 7}, "refused": 2},
        {"policy": "office", "dvipa": "192.0.2.100", "port": 90, "targets": 0, "ring": [],
         "chosen": {}, "refused": 0},
    ],
}  # fmt: skip
EXPLANATION = {
    "steps": [
        {"policy": "office", "matches": False,
         "checks": [{"key": "port", "wanted": "443", "given": "80", "fits": False}]},
        {"policy": "rest", "matches": True, "checks": []},
    ],
    "policy": "rest",
    "targets": [],
    "reason": "its subset is empty: refused",
}  # fmt: skip
TEST = ["policy", "test", "--client", "2001:db8::7", "--dvipa", "192.0.2.100", "--port", "80"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the daemon was asked; it answers as above."""
    requests: list[dict[str, Any]] = []
    answers: dict[str, dict[str, Any]] = {
        "policies": LIST,
        "policy": {"ok": True, "explanation": EXPLANATION},
        "why": {"ok": True, "connection": {}, "target": "t1", "by": "ring", "policy": "",
                "reason": "no policy was for it"},
    }  # fmt: skip

    def ask(_path: Path, request: dict[str, Any]) -> dict[str, Any]:
        requests.append(request)
        return answers[request["command"]]

    monkeypatch.setattr(policy, "ask", ask)
    return requests


def test_list(asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert dvipactl.main(["policy", "list"]) == 0
    assert (
        capsys.readouterr().out
        == """\
Policy: office  Use: prefer  Else: any
  Match:   port: 80, 90-99  clients: 192.0.2.0/24  dscp: 46  time: Mon 08:00-18:00
  Targets: t1  rack: a  weight > 40  threshold: 20
  192.0.2.100..80  Meeting: 1  Now to: t1
    TotalConn: t1: 7  Refused: 2
  192.0.2.100..90  Meeting: 0  Now to: nobody: refused
    TotalConn: 0  Refused: 0
1 policies
"""
    )
    assert dvipactl.main(["policy", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["services"] == LIST["services"]


def test_what_is_asked_and_said(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--dscp", "AF41", "--interface", "eth0", "--device", "apple", "--time", "tue 00:10"]
    assert dvipactl.main([*TEST, *options]) == 0
    assert asked == [
        {"command": "policy", "client": "2001:db8::7", "dvipa": "192.0.2.100", "port": 80,
         "dscp": 34, "interface": "eth0", "device": "apple", "minute": 1450}
    ]  # fmt: skip
    assert (
        capsys.readouterr().out
        == """\
policy office: no
  no  port: 80, wanted 443
policy rest: it is
rest: its subset is empty: refused
to: nobody
"""
    )


def test_why(asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert dvipactl.main(["why", "[2001:db8::7]:1024", "192.0.2.100:80"]) == 0
    assert asked == [
        {"command": "why", "client": "2001:db8::7", "client_port": 1024, "dvipa": "192.0.2.100",
         "port": 80}
    ]  # fmt: skip
    assert capsys.readouterr().out == "to t1: no policy was for it\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([*TEST, "--dscp", "64"], "no DSCP"),
        ([*TEST, "--time", "someday"], "no time"),
        ([*TEST, "--time", "mon 24:00"], "no time"),
        ([*TEST, "--device", "toaster"], "invalid choice"),
        ([*TEST[:-1], "70000"], "no port"),
        (["policy", "test", "--client", "x", "--dvipa", "::1", "--port", "1"], "no IP address"),
        (["why", "192.0.2.7", "192.0.2.100:80"], "no port"),
        (["why", "192.0.2.7:x", "192.0.2.100:80"], "no port"),
        (["why", "2001:db8::7:80", "192.0.2.100:80"], "has no port"),
    ],
)
def test_wrong_usage(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        dvipactl.main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
