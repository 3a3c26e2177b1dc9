"""Rules, alerts and dashboards: accepted by promtool, in step with the metrics and the runbook."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dvipad.lab.prometheus import CONFIG, RULES, faster
from dvipad.web.families import FAMILIES, Kind
from tests.alerts.panels import FOLDER, queries

ROOT = Path(__file__).parents[2]
GROUPS: list[dict[str, Any]] = yaml.safe_load((CONFIG / RULES).read_text())["groups"]
ALL = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
RECORDED = {rule["record"] for rule in ALL if "record" in rule}
CHOSEN = {"cluster": "c", "instance": "i", "dvipa": "d", "__rate_interval": "1m"}
PROMETHEUS_OWN = {"up", "ALERTS"}
_METRIC = re.compile(r"\b(?:dvipad[a-z_]*:[a-z0-9_:]+|dvipad_[a-z_]+)\b")


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_accepts_rules_and_configuration() -> None:
    promtool("check", "rules", str(CONFIG / RULES))
    promtool("check", "config", str(CONFIG / "prometheus.yml"))


def test_promtool_accepts_the_shortened_rules(tmp_path: Path) -> None:
    (tmp_path / RULES).write_text(faster((CONFIG / RULES).read_text()))
    promtool("check", "rules", str(tmp_path / RULES))
    text = (tmp_path / RULES).read_text()
    assert "[10s]" in text, "five minutes"
    assert not re.search(r"(for|interval): \d+m\b", text)


def test_promtool_accepts_every_query_of_the_dashboards(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query}
        for number, (_where, query) in enumerate(queries(CHOSEN))
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(path))
    assert len(rules) > 40


def names_of_metrics() -> set[str]:
    """As queries spell them."""
    found = set(RECORDED)
    for family in FAMILIES:
        if family.kind is Kind.HISTOGRAM:
            found |= {f"{family.name}_{part}" for part in ("bucket", "count", "sum")}
        else:
            found.add(family.name)
    return found


def test_rules_and_dashboards_ask_for_metrics_that_there_are() -> None:
    expressions = [rule["expr"] for rule in ALL] + [query for _where, query in queries(CHOSEN)]
    asked = {name for text in expressions for name in _METRIC.findall(text)}
    assert asked - names_of_metrics() == set()


def test_dashboards_are_what_the_generator_makes() -> None:
    spec = importlib.util.spec_from_file_location("dashboards", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    made = {name: module.text(content) for name, content in module.dashboards().items()}
    assert made == {path.name: path.read_text() for path in FOLDER.glob("*.json")}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_dashboards_choose_their_data_source(path: Path) -> None:
    board = json.loads(path.read_text())
    kinds = {each["name"]: each["type"] for each in board["templating"]["list"]}
    assert kinds["datasource"] == "datasource"
    assert board["schemaVersion"] >= 36, "Grafana 9"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_explained(name: str) -> None:
    annotations = ALERTS[name]["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert ALERTS[name]["labels"]["severity"] in ("warning", "critical")
    page, _, anchor = annotations["runbook_url"].partition("#")
    assert anchor == name.lower()
    section = (ROOT / page).read_text().partition(f"## {name}\n")[2].partition("\n## ")[0]
    for part in ("**Means.**", "**Look at.**", "**Do.**"):
        assert part in section, f"{page}: {name} lacks {part}"


def test_the_runbook_has_no_other_sections() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(ALERTS)


@dataclass(frozen=True)
class Case:
    """`series` with values every 15 s, as promtool writes them; how many alerts are `firing` when
    the cause has lasted for five minutes."""

    series: dict[str, str]
    firing: int = 1


def _steps(*parts: tuple[str, int]) -> str:
    return " ".join(f"{value}x{count - 1}" for value, count in parts)


def values(well: int, bad: int | None) -> str:
    """Ten minutes well, five bad (None: it is not there), and fifteen well."""
    cause = "stale _x19" if bad is None else _steps((f"{bad}+0", 20))
    return " ".join([_steps((f"{well}+0", 40)), cause, _steps((f"{well}+0", 60))])


def counts(step: int) -> str:
    """A counter that grows by `step` each 15 s for five minutes."""
    return _steps(("0+0", 40), (f"{step}+{step}", 20), (f"{20 * step}+0", 60))


NODE = 'cluster="c",instance="lb1"'
OTHER = 'cluster="c",instance="lb2"'
VIPA = 'dvipa="192.0.2.100"'
ROLE = "dvipad_dvipa_role"
OWNED = {f'{ROLE}{{{NODE},{VIPA},role="owner"}}': values(1, 1)}
CASES = {
    "DvipadNodeDown": Case({f'up{{job="dvipad",{NODE}}}': values(1, 0)}),
    "DvipadDaemonDown": Case({f"dvipad_up{{{NODE}}}": values(1, 0)}),
    "DvipadNodeInTrouble": Case({f'dvipad_trouble{{{NODE},trouble="no uplink"}}': values(0, 1)}),
    "DvipadConfigReloadFailed": Case({f"dvipad_config_reload_ok{{{NODE}}}": values(1, 0)}),
    "DvipadQueueWorkerRestarting": Case(
        {f'dvipad_queue_restarts_total{{{NODE},what="worker"}}': counts(1)}
    ),
    "DvipadCrtNearFull": Case(
        {
            f'dvipad_crt_entries{{{NODE},table="established",family="4"}}': values(10, 90),
            f'dvipad_crt_entries_max{{{NODE},table="established",family="4"}}': values(100, 100),
        }
    ),
    "DvipadFlood": Case(
        {f'dvipad_syn_choices_total{{{NODE},by="kernel",why="budget"}}': counts(10_000)}
    ),
    "DvipadPeerLost": Case({f'dvipad_peer_up{{{NODE},peer="lb2"}}': values(1, 0)}),
    "DvipadMeshBroken": Case(
        {
            f'dvipad_peer_up{{{NODE},peer="lb2"}}': values(1, 0),
            f'dvipad_peer_up{{{NODE},peer="dead"}}': values(1, 0),
            f'dvipad_node_info{{{OTHER},node="lb2"}}': values(1, 1),
        }
    ),
    "DvipadUdpBlocked": Case({f'dvipad_peer_udp_blocked{{{NODE},peer="lb2"}}': values(0, 1)}),
    "DvipadPeerRefused": Case({f"dvipad_peers_refused{{{NODE}}}": values(0, 1)}),
    "DvipadNoOwner": Case({f'{ROLE}{{{NODE},{VIPA},role="owner"}}': values(1, 0)}),
    "DvipadSplitBrain": Case(OWNED | {f'{ROLE}{{{OTHER},{VIPA},role="owner"}}': values(0, 1)}),
    "DvipadNoBackup": Case(
        OWNED
        | {
            f'dvipad_dvipa_status{{{NODE},{VIPA},status="ACTIVE",origin="VIPADEFINE"}}': values(
                1, 1
            ),
            f'{ROLE}{{{OTHER},{VIPA},role="backup"}}': values(1, None),
            f'{ROLE}{{{NODE},dvipa="192.0.2.225",role="owner"}}': values(1, 1),
        }
    ),
    "DvipadTakeover": Case(
        {f'dvipad_move_seconds_count{{{NODE},trigger="owner lost"}}': counts(1)}
    ),
    "DvipadAddressConflict": Case({f'dvipad_care_total{{{NODE},event="in_use"}}': counts(1)}),
    "DvipadTargetLost": Case(
        {
            f'dvipad_target_listeners{{{NODE},{VIPA},port="80",target="t1"}}': values(1, 1),
            f'dvipad_target_listeners{{{NODE},{VIPA},port="80",target="t2"}}': values(1, 0),
        }
    ),
    "DvipadTargetMute": Case(
        {
            f'dvipad_target_fitness{{{NODE},{VIPA},port="80",target="t1",what="{what}"}}': series
            for what, series in (("tsr", values(1, 0)), ("sef", values(0, 0)))
        }
    ),
    "DvipadStatusObjectDown": Case(
        {f'dvipad_status_object_up{{{NODE},object="queue"}}': values(1, 0)}
    ),
    "DvipadNoTarget": Case(
        OWNED | {f'dvipad_target_listeners{{{NODE},{VIPA},port="80",target="t1"}}': values(1, None)}
    ),
}
"""Series of each alert: its cause lasts from minute 10 to minute 15."""


def test_two_owners_do_not_make_two_targets_of_one(tmp_path: Path) -> None:
    series = [
        {"series": f'dvipad_target_listeners{{{node},{VIPA},port="80",target="t1"}}', "values": "1"}
        for node in (NODE, OTHER)
    ]
    asked = {
        "expr": "dvipad:targets_ready:count",
        "eval_time": "0m",
        "exp_samples": [
            {"labels": f'dvipad:targets_ready:count{{cluster="c",{VIPA},port="80"}}', "value": 1}
        ],
    }
    check_rules(tmp_path, [rule_test(series, [asked])])


def test_every_alert_has_a_case() -> None:
    assert list(CASES) == list(ALERTS)


def test_alerts_fire_by_their_cause_and_end_without_it(tmp_path: Path) -> None:
    tests = []
    for name, case in CASES.items():
        firing = f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)'
        asked = [
            {"expr": firing, "eval_time": at, "exp_samples": [{"labels": "{}", "value": count}]}
            for at, count in (("9m", 0), ("14m45s", case.firing), ("27m", 0))
        ]
        series = [{"series": name, "values": text} for name, text in case.series.items()]
        tests.append(rule_test(series, asked))
    check_rules(tmp_path, tests)


def rule_test(series: list[dict[str, str]], asked: list[dict[str, Any]]) -> dict[str, Any]:
    return {"interval": "15s", "input_series": series, "promql_expr_test": asked}


def check_rules(folder: Path, tests: list[dict[str, Any]]) -> None:
    content = {"rule_files": [str(CONFIG / RULES)], "evaluation_interval": "15s", "tests": tests}
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(content))
    promtool("test", "rules", str(path))
