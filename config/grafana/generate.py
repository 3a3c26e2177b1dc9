"""Writes the dashboards beside this file: `python config/grafana/generate.py`.

A panel is a few lines here; Grafana 9 and later import the JSON. A test holds both in step, and
`make alerts` runs every query against a real Prometheus.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
NODE = 'cluster="$cluster", instance="$instance"'
DVIPA = 'cluster="$cluster", dvipa="$dvipa"'


@dataclass(frozen=True)
class Panel:
    """`queries`: expression and legend. `kind`: of Grafana. `unit`: its name for it."""

    title: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    text: str = ""


def stat(title: str, query: str, text: str = "", unit: str = "short") -> Panel:
    """One number."""
    return Panel(title, ((query, ""),), "stat", unit, 4, text)


def graph(title: str, query: str, legend: str, unit: str = "short", text: str = "") -> Panel:
    """Lines over time."""
    return Panel(title, ((query, legend),), "timeseries", unit, 8, text)


def _rate(name: str, labels: str, by: str) -> str:
    return f"sum by ({by}) (rate({name}{{{labels}}}[$__rate_interval]))"


CLUSTER = (
    stat("Nodes that answer", 'sum(dvipad_up{cluster="$cluster"})'),
    stat(
        "Alerts", 'count(ALERTS{alertstate="firing", alertname=~"Dvipad.*"}) or vector(0)', "Firing"
    ),
    stat("DVIPAs with an owner", 'count(dvipad:dvipa_owners:count{cluster="$cluster"})'),
    stat(
        "Without a backup",
        'count(dvipad:dvipa_owners:count{cluster="$cluster"} unless on (cluster, dvipa) '
        "dvipad:dvipa_backups:count) or vector(0)",
    ),
    stat(
        "Sessions that are missing",
        'sum(1 - dvipad_peer_up{cluster="$cluster"})',
        "Pairs of nodes without a session, counted from each side",
    ),
    stat("Troubles", 'sum(dvipad_trouble{cluster="$cluster"})'),
    Panel(
        "Owners",
        (('dvipad_dvipa_role{cluster="$cluster", role="owner"} == 1', "{{dvipa}} {{instance}}"),),
        "state-timeline",
        width=16,
        text="Who owns which DVIPA, over time",
    ),
    graph(
        "DVIPAs that moved, in 5 minutes",
        'sum by (trigger) (increase(dvipad_move_seconds_count{cluster="$cluster"}[5m]))',
        "{{trigger}}",
    ),
    graph(
        "New connections",
        'sum by (dvipa, port) (dvipad:connections_new:rate1m{cluster="$cluster"})',
        "{{dvipa}} {{port}}",
        "cps",
    ),
    graph(
        "Active connections",
        'sum by (target) (dvipad_connections_active{cluster="$cluster"})',
        "{{target}}",
    ),
    graph(
        "Traffic to targets", 'dvipad:target_bytes:rate1m{cluster="$cluster"}', "{{target}}", "Bps"
    ),
    graph(
        "Who decides new connections",
        'sum by (by, why) (rate(dvipad_syn_choices_total{cluster="$cluster"}[$__rate_interval]))',
        "{{by}}: {{why}}",
        "cps",
    ),
    graph(
        "Time that moves take, 95 %",
        "histogram_quantile(0.95, sum by (le, trigger) "
        '(rate(dvipad_move_seconds_bucket{cluster="$cluster"}[5m])))',
        "{{trigger}}",
        "s",
    ),
    graph(
        "What nodes have to spare",
        'max by (node) (dvipad_node_weight{cluster="$cluster"})',
        "{{node}}",
        text="WLM weights, 0 to 64: BASEWLM distributes in their proportion",
    ),
    graph(
        "Targets that answer badly",
        'min by (dvipa, port, target) (dvipad_target_fitness{cluster="$cluster", what="tsr"}) '
        'or label_replace(vector(1), "target", "others", "", "")',
        "{{target}} {{dvipa}} {{port}}",
        "percentunit",
        text="Target server responsiveness; 0: it gets no connections. All others have 100 %",
    ),
    graph(
        "Quality of service: what connections lose",
        'dvipad_service_quality{cluster="$cluster", what=~"loss|timeouts"}',
        "{{instance}} {{what}} {{dvipa}} {{port}}",
        "percentunit",
        text="Of the segments that each target sent",
    ),
    graph(
        "Round trips to clients",
        'dvipad_service_round_trip_seconds{cluster="$cluster"}',
        "{{instance}} {{dvipa}} {{port}}",
        "s",
    ),
    graph("CRT in use", 'dvipad:crt_fill:ratio{cluster="$cluster"}', "{{instance}}", "percentunit"),
)

ONE_DVIPA = (
    stat("Owners", f'sum(dvipad_dvipa_role{{{DVIPA}, role="owner"}})', "1, but for moments"),
    stat("Backups", f'sum(dvipad_dvipa_role{{{DVIPA}, role="backup"}})'),
    stat("Targets", f'sum(dvipad_dvipa_role{{{DVIPA}, role="target"}})'),
    stat("Epoch", f"max(dvipad_dvipa_epoch{{{DVIPA}}})", "Changes of the owner"),
    stat("Active connections", f"sum(dvipad_connections_active{{{DVIPA}}})"),
    stat("New connections", f"sum(dvipad:connections_new:rate1m{{{DVIPA}}})", unit="cps"),
    Panel(
        "Roles",
        ((f"dvipad_dvipa_role{{{DVIPA}}} == 1", "{{instance}} {{role}}"),),
        "state-timeline",
        width=12,
    ),
    Panel(
        "Owner, as each node sees it",
        ((f"dvipad_dvipa_owner{{{DVIPA}}}", "{{instance}}: {{owner}}"),),
        "state-timeline",
        width=12,
        text="Two names at the same time: nodes that do not hear each other",
    ),
    graph("Epoch", f"dvipad_dvipa_epoch{{{DVIPA}}}", "{{instance}}"),
    graph("Listeners that are ready", f"dvipad_target_listeners{{{DVIPA}}}", "{{port}} {{target}}"),
    graph("Status", f"dvipad_dvipa_status{{{DVIPA}}}", "{{instance}} {{status}} {{origin}}"),
    graph(
        "New connections",
        f"dvipad:connections_new:rate1m{{{DVIPA}}}",
        "{{port}} {{target}}",
        "cps",
    ),
    graph(
        "Ended connections",
        _rate("dvipad_connections_ended_total", DVIPA, "port, target"),
        "{{port}} {{target}}",
        "cps",
    ),
    graph("Active connections", f"dvipad_connections_active{{{DVIPA}}}", "{{port}} {{target}}"),
    graph(
        "New connections by policy",
        _rate("dvipad_policy_connections_total", DVIPA, "port, policy"),
        "{{port}} {{policy}}",
        "cps",
    ),
    graph(
        "Refused by policy",
        _rate("dvipad_policy_refused_total", DVIPA, "port, policy"),
        "{{port}} {{policy}}",
        "cps",
    ),
    graph(
        "Targets of policies",
        f"dvipad_policy_targets{{{DVIPA}}}",
        "{{port}} {{policy}}",
        text="0: no target of the subset is ready and meets the threshold, else: holds",
    ),
    graph(
        "Preferred target",
        f"dvipad_status_preferred{{{DVIPA}}}",
        "{{port}} {{node}}",
        text="By a preference, of figures that status objects read",
    ),
)

ONE_NODE = (
    stat("Daemon answers", f"dvipad_up{{{NODE}}}"),
    stat("Joined", f"dvipad_joined{{{NODE}}}"),
    stat("Troubles", f"sum(dvipad_trouble{{{NODE}}})"),
    stat("DVIPAs owned", f'sum(dvipad_dvipa_role{{{NODE}, role="owner"}})'),
    stat("DVIPAs backed up", f'sum(dvipad_dvipa_role{{{NODE}, role="backup"}})'),
    stat("Profile", f"dvipad_config_generation{{{NODE}}}", "Profiles accepted since the start"),
    graph("Packets", _rate("dvipad_packets_total", NODE, "reason"), "{{reason}}", "pps"),
    graph(
        "Figures of status objects",
        f'dvipad_status_figure{{{NODE}, node="$instance"}}',
        "{{object}}.{{figure}}",
    ),
    graph(
        "Readings of status objects that failed",
        _rate("dvipad_status_readings_total", f'{NODE}, result!="ok"', "object, result"),
        "{{object}} {{result}}",
    ),
    graph("Names that wait for their zone", f"dvipad_dns_waiting{{{NODE}}}", "names"),
    graph(
        "Packets to targets",
        _rate("dvipad_target_packets_total", NODE, "target, way"),
        "{{target}} {{way}}",
        "pps",
    ),
    graph(
        "Bytes to targets", _rate("dvipad_target_bytes_total", NODE, "target"), "{{target}}", "Bps"
    ),
    graph("SYNs", _rate("dvipad_syn_choices_total", NODE, "by, why"), "{{by}}: {{why}}", "cps"),
    Panel(
        "Queue of SYNs",
        (
            (f"dvipad_queue_undecided{{{NODE}}}", "undecided"),
            (f"dvipad_queue_waiting{{{NODE}}}", "waiting"),
            (f"sum(rate(dvipad_queue_dropped_total{{{NODE}}}[$__rate_interval]))", "dropped"),
            (f"dvipad_syn_budget_spent{{{NODE}}}", "budget spent"),
        ),
    ),
    graph(
        "Worker's verdicts",
        _rate("dvipad_queue_verdicts_total", NODE, "verdict"),
        "{{verdict}}",
        "cps",
    ),
    graph("Worker: restarts", f"dvipad_queue_restarts_total{{{NODE}}}", "{{what}}"),
    Panel(
        "CRT",
        (
            (f"dvipad_crt_entries{{{NODE}}}", "{{table}} IPv{{family}}"),
            (f"dvipad_crt_entries_max{{{NODE}}}", "room for {{table}} IPv{{family}}"),
        ),
    ),
    Panel(
        "Tables",
        ((f"dvipad_table_entries{{{NODE}}} / dvipad_table_entries_max", "{{table}}"),),
        unit="percentunit",
    ),
    Panel(
        "Silence of peers",
        (
            (f"dvipad_peer_silence_seconds{{{NODE}}}", "{{peer}}"),
            (f"dvipad_dead_seconds{{{NODE}}}", "counts as dead"),
        ),
        unit="s",
    ),
    graph("Round trip", f"dvipad_peer_round_trip_seconds{{{NODE}}}", "{{peer}}", "s"),
    graph("Sessions", f"dvipad_peer_up{{{NODE}}}", "{{peer}}"),
    graph("Mesh versions", f"dvipad_peer_mesh_version{{{NODE}}}", "{{peer}}"),
    graph(
        "Heartbeats by UDP", _rate("dvipad_mesh_datagrams_total", NODE, "what"), "{{what}}", "pps"
    ),
    graph("Tunnels carry", f"dvipad_tunnel_mtu_bytes{{{NODE}}}", "{{member}}", "bytes"),
    graph(
        "Delay of the daemon's loop, 99 %",
        "histogram_quantile(0.99, sum by (le) "
        f"(rate(dvipad_loop_late_seconds_bucket{{{NODE}}}[$__rate_interval])))",
        "late",
        "s",
    ),
    graph(
        "Decisions", f"sum by (trigger, action) (dvipad_decisions_total{{{NODE}}})", "{{trigger}}"
    ),
    Panel(
        "Workload: what the weight is made of",
        (
            (f"dvipad_workload{{{NODE}}}", "{{what}}"),
            (f"sum(dvipad_node_cpus{{{NODE}}} * on (instance, node) dvipad_node_info)", "capacity"),
        ),
        text="CPUs, and shares of time and memory",
    ),
    graph("CPU", _rate("dvipad_process_cpu_seconds_total", NODE, "process"), "{{process}}"),
    graph("Memory", f"dvipad_process_resident_memory_bytes{{{NODE}}}", "{{process}}", "bytes"),
    graph("Open files", f"dvipad_process_open_fds{{{NODE}}}", "{{process}}"),
)


def variable(name: str, query: str) -> dict[str, Any]:
    """A choice at the top, of the values of a label."""
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
    }


def dashboard(
    uid: str, title: str, variables: list[dict[str, Any]], panels: tuple[Panel, ...]
) -> Any:
    """The JSON of a dashboard; panels are placed from left to right."""
    placed, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDTH:
            x, y, height = 0, y + height, 0
        tall = 4 if panel.kind == "stat" else 8
        placed.append(_panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": tall}))
        x, height = x + panel.width, max(height, tall)
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid,
        "title": title,
        "tags": ["dvipad"],
        "schemaVersion": 37,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source, *variables]},
        "panels": placed,
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "title": panel.title,
        "description": panel.text,
        "type": panel.kind,
        "gridPos": place,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": name,
            }
            for place, (query, name) in enumerate(panel.queries)
        ],
    }


def dashboards() -> dict[str, Any]:
    """All of them, by the name of the file."""
    cluster = variable("cluster", "label_values(dvipad_up, cluster)")
    dvipa = variable("dvipa", 'label_values(dvipad_dvipa_role{cluster="$cluster"}, dvipa)')
    node = variable("instance", 'label_values(dvipad_up{cluster="$cluster"}, instance)')
    return {
        "cluster.json": dashboard("dvipad-cluster", "dvipad: cluster", [cluster], CLUSTER),
        "dvipa.json": dashboard("dvipad-dvipa", "dvipad: one DVIPA", [cluster, dvipa], ONE_DVIPA),
        "node.json": dashboard("dvipad-node", "dvipad: one node", [cluster, node], ONE_NODE),
    }


def text(content: Any) -> str:
    """As the files have it."""
    return json.dumps(content, indent=2) + "\n"


if __name__ == "__main__":
    for name, content in dashboards().items():
        (HERE / name).write_text(text(content))
