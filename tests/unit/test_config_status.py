"""The status file: what it says, and what is said about what is wrong with it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.config.check import CheckedNode, CheckedStatus, load, load_files
from dvipad.config.dns import Give, NameConfig
from dvipad.config.errors import ConfigError
from dvipad.config.formula import why_no_formula
from dvipad.config.kinds import KINDS
from dvipad.config.model import By, FarmScore, PortRange, Preference, Score
from dvipad.config.status import OBJECTS_MAX, ObjectConfig, StatusConfig, parse_status
from dvipad.status import builtin

WHOLE = """
objects:
  - name: web
    kind: http
    port: 80
    dvipa: 192.0.2.100
    interval_ms: 500
    timeout_ms: 200
    options: {url: "http://127.0.0.1/health", expect: 200}
  - {name: queue, kind: exec, options: {command: "/bin/pending --all"}}
preferences:
  - name: web
    dvipa: [192.0.2.100, 2001:db8:2::100]
    port: [80, 8000-8099]
    by: fastest
    figure: web.time_ms
    farms:
      east: {by: formula, formula: "64 - queue.value / 10"}
      west: {by: fewest-clients, figure: redis.clients}
dns:
  - name: WWW.example.org.
    dvipa: 192.0.2.100
    port: 80
    server: 192.0.2.53
    key: dns.key
    ttl: 5
  - name: app.example.org
    zone: example.org
    dvipa: 192.0.2.100
    port: 80
    give: farm
    addresses: {east: 192.0.2.100, west: 2001:db8::1}
    server: 2001:db8::53
    server_port: 5353
    timeout_ms: 300
"""
DVIPA = ip_address("192.0.2.100")


def test_every_key() -> None:
    parsed = parse_status(WHOLE, "status.yaml", Path("/etc/dvipad"))
    assert parsed.problems == ()
    assert parsed.status == StatusConfig(
        (
            ObjectConfig(
                "web",
                "http",
                80,
                DVIPA,
                500,
                200,
                (("expect", "200"), ("url", "http://127.0.0.1/health")),
            ),
            ObjectConfig("queue", "exec", options=(("command", "/bin/pending --all"),)),
        ),
        (
            Preference(
                "web",
                Score(By.FASTEST, "web.time_ms"),
                (DVIPA, ip_address("2001:db8:2::100")),
                (PortRange(80, 80), PortRange(8000, 8099)),
                (
                    FarmScore("east", Score(By.FORMULA, "64 - queue.value / 10")),
                    FarmScore("west", Score(By.FEWEST_CLIENTS, "redis.clients")),
                ),
            ),
        ),
        (
            NameConfig(
                "www.example.org",
                "example.org",
                DVIPA,
                80,
                ip_address("192.0.2.53"),
                key=Path("/etc/dvipad/dns.key"),
                ttl=5,
            ),
            NameConfig(
                "app.example.org",
                "example.org",
                DVIPA,
                80,
                ip_address("2001:db8::53"),
                Give.FARM,
                (("east", DVIPA), ("west", ip_address("2001:db8::1"))),
                5353,
                timeout_ms=300,
            ),
        ),
    )


def test_an_empty_file_says_nothing() -> None:
    for text in ("", "objects:\npreferences: []\ndns: ~\n"):
        assert parse_status(text, "x", Path()).status == StatusConfig()


WRONG = {
    "objects: {a: 1}": "objects is not a list",
    "objects: [{name: Web, kind: http, options: {url: x}}]": "name is not valid",
    "objects: [{kind: http, options: {url: x}}]": "name is missing",
    "objects: [{name: web}]": "kind is missing",
    "objects: [{name: web, kind: http}]": "option url is missing",
    "objects: [{name: web, kind: http, options: {url: x, uri: y}}]": "http has no option uri",
    "objects: [{name: web, kind: tcp}]": "no port to connect to",
    "objects: [{name: a, kind: process, options: {}}]": "process needs one of name and pid_file",
    "objects: [{name: a, kind: exec, options: 7}]": "options is not a mapping",
    "objects: [{name: a, kind: exec, options: {command: [x]}}]": "is not a plain value",
    "objects: [{name: a, kind: tcp, port: 0}]": "port is not such a number",
    "objects: [{name: a, kind: tcp, port: 1, interval_ms: 10}]": "interval_ms is not such a number",
    "objects: [{name: a, kind: tcp, dvipa: 192.0.2.1, options: {port: 1}}]": "dvipa without a port",
    "objects: [{name: a, kind: tcp, port: 1}, {name: a, kind: tcp, port: 2}]": "a is given before",
    "preferences: [{name: a, by: best}]": "by is not valid",
    "preferences: [{name: a, figure: a.b}]": "by is missing",
    "preferences: [{name: a, by: fastest}]": "figure is missing",
    "preferences: [{name: a, by: fastest, figure: time}]": "figure is not valid",
    "preferences: [{name: a, by: formula}]": "formula is missing",
    "preferences: [{name: a, by: fastest, figure: a.b, formula: a.b}]": "formula with by: fastest",
    "preferences: [{name: a, by: formula, formula: a.b ** 9}]": "Pow is not allowed in a formula",
    "preferences: [{name: a, by: formula, formula: 'a.b +'}]": "not a formula",
    "preferences: [{name: a, by: fastest, figure: a.b, farms: 1}]": "farms is not a mapping",
    "dns: [{name: a.b, dvipa: 192.0.2.1, port: 80}]": "server is missing",
    "dns: [{name: a.b, zone: c, dvipa: 192.0.2.1, port: 80, server: 192.0.2.2}]": "not in the zone",
    "dns: [{name: a..b}]": "name is not valid",
    "dns: [{name: a.b, dvipa: 192.0.2.1, port: 80, server: 192.0.2.2, give: farm}]": "addresses is",
    "dns: [{name: a.b, dvipa: 192.0.2.1, port: 80, server: 192.0.2.2, ttl: -1}]": "ttl is not such",
    "what: 1": "unknown key",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_with_place_and_remedy(text: str) -> None:
    parsed = parse_status(text, "status.yaml", Path())
    assert parsed.status is None
    found = [problem for problem in parsed.problems if WRONG[text] in problem.message]
    assert found, parsed.problems
    assert found[0].position.file == "status.yaml"
    assert found[0].position.line == 1
    assert found[0].remedy


def test_there_is_a_limit() -> None:
    rows = "".join(f"  - {{name: a{n}, kind: tcp, port: 1}}\n" for n in range(OBJECTS_MAX + 1))
    parsed = parse_status(f"objects:\n{rows}", "x", Path())
    assert [problem.message for problem in parsed.problems] == [
        f"more than {OBJECTS_MAX} entries in objects"
    ]


@given(st.text(max_size=200))
def test_no_text_crashes_it(text: str) -> None:
    for whole in (text, f"objects: {text}", f"dns: [{text}]", f"preferences: [{text}]"):
        parsed = parse_status(whole, "x", Path())
        assert (parsed.status is None) is bool(parsed.problems)


@given(st.text(alphabet="ab.12+-*/%()<>=!, 'imfelsndor\\[]{}:", max_size=60))
def test_no_formula_crashes_it(text: str) -> None:
    why_no_formula(text)


def test_every_kind_that_the_file_knows_is_there() -> None:
    assert KINDS.keys() == builtin.KINDS.keys()


NODE = "{node: t1, xcf: 192.0.2.1, uplinks: [eth0], status: status.yaml}"


def test_a_node_file_names_it(tmp_path: Path) -> None:
    path, status = tmp_path / "node.yaml", tmp_path / "status.yaml"
    path.write_text(NODE)
    status.write_text(WHOLE)
    (tmp_path / "dns.key").write_text("")
    found = load(path).status
    assert len(found.objects) == 2 and found.names[0].key == tmp_path / "dns.key"
    report = load_files([path, status])
    assert report.accepted
    kinds = [type(file) for file in report.files]
    assert kinds == [CheckedNode, CheckedStatus]
    status.write_text("objects: 7")
    with pytest.raises(ConfigError, match=r"status\.yaml:1:10: error: objects is not a list"):
        load(path)
    status.unlink()
    with pytest.raises(ConfigError, match=r"node\.yaml:1:\d+: error: .*cannot be read"):
        load(path)


def test_a_farm_is_one() -> None:
    text = "{node: t1, xcf: 192.0.2.1, uplinks: [eth0], farm: east, labels: {farm: west}}"
    from dvipad.config.node import parse_node

    parsed = parse_node(text, "node.yaml", Path())
    assert [problem.message for problem in parsed.problems] == ["a label farm is given, too"]
