"""NETSTAT VDPT: weights and whose they are, and the roles of HOTSTANDBY."""

from __future__ import annotations

from typing import Any

import pytest

from dvipad.cli.reports import vdpt
from dvipad.config.model import OWNER_RANK

ROW = {
    "dvipa": "192.0.2.100",
    "port": 80,
    "name": "t1",
    "xcf": "192.0.2.11",
    "ready": 1,
    "weight": 7,
    "source": "base",
    "standby_rank": None,
    "active": True,
    "method": "BASEWLM",
    "offload": False,
    "total": 12,
    "connections": None,
    "fitness": {"left": 100, "tcsr": 100, "cer": 100, "sef": 100},
}


def text(**changes: Any) -> str:
    return "\n".join(vdpt({"targets": [ROW | changes]}))


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("base", "WLM: 07B  TSR"),
        ("server", "WLM: 07S  TSR"),
        ("announced", "WLM: 07A  TSR"),
        ("default", "WLM: 07?  TSR"),
        ("configured", "WLM: 07  TSR"),
    ],
)
def test_a_weight_says_whose_it_is(source: str, column: str) -> None:
    assert column in text(source=source)


@pytest.mark.parametrize(
    ("rank", "active", "ready", "kind", "flag"),
    [
        (OWNER_RANK, True, 1, "SrvType: Preferred", "Hotstandby,Active"),
        (OWNER_RANK, False, 0, "SrvType: Preferred", "Hotstandby,Inactive"),
        (10, False, 1, "SrvType: Backup  Rank: 10", "Hotstandby,Backup"),
    ],
)
def test_roles_of_hot_standby(rank: int, active: bool, ready: int, kind: str, flag: str) -> None:
    shown = text(method="HOTSTANDBY", standby_rank=rank, active=active, ready=ready)
    assert kind in shown and f"Flg: {flag}" in shown


def test_active_connections_where_they_count() -> None:
    assert "ActiveConn" not in text()
    assert "  ActiveConn: 0000000034\n" in text(method="LEASTCONN", connections=34)


def test_how_a_target_answers_and_what_is_left_of_its_weight() -> None:
    assert "TSR: 100\n  TCSR: 100  CER: 100  SEF: 100  W/Q: 07\n" in text()
    cut = text(weight=40, fitness={"left": 25, "tcsr": 100, "cer": 75, "sef": 100})
    assert "TSR: 075\n  TCSR: 100  CER: 075  SEF: 100  W/Q: 10\n" in cut


def test_offload_is_a_flag() -> None:
    assert "Flg: Basewlm,Offload" in text(offload=True)
    assert "SrvType" not in text()
