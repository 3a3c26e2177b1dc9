"""The policies file: what it says, and what is said about what is wrong with it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.config.check import CheckedPolicies, Report, load, load_files
from dvipad.config.errors import ConfigError
from dvipad.config.model import (
    Comparison,
    Condition,
    Device,
    Hours,
    Label,
    Match,
    Otherwise,
    Policy,
    PortRange,
    Prefix,
    Subset,
    Use,
)
from dvipad.config.policies import POLICIES_MAX, check_policies, parse_policies

WHOLE = """
policies:
  - name: office
    match:
      dvipa: 192.0.2.100
      port: [80, 8000-8099]
      clients: [192.0.2.0/24, 2001:db8::/32, 203.0.113.7]
      dscp: [ef, 10]
      interface: [eth0]
      device: [linux, apple]
      hours: ["08:00-18:00", "22:30-06:00"]
      days: [mon-wed, sat]
    targets: {nodes: [t1, t2], labels: {rack: a}, where: [weight > 40, weight<=60]}
    threshold: 20
    else: best-outside
  - name: night
    match: {hours: "00:00-24:00", days: sat-mon}
    targets: {nodes: t3}
    use: restrict
"""


def test_every_key() -> None:
    parsed = parse_policies(WHOLE, "policies.yaml")
    assert parsed.problems == ()
    assert parsed.policies == (
        Policy(
            "office",
            Match(
                (ip_address("192.0.2.100"),),
                (PortRange(80, 80), PortRange(8000, 8099)),
                (
                    Prefix(ip_address("192.0.2.0"), 24),
                    Prefix(ip_address("2001:db8::"), 32),
                    Prefix(ip_address("203.0.113.7"), 32),
                ),
                (46, 10),
                ("eth0",),
                (Device.LINUX, Device.APPLE),
                (Hours(480, 1080), Hours(1350, 360)),
                (0, 1, 2, 5),
            ),
            Subset(
                ("t1", "t2"),
                (Label("rack", "a"),),
                (
                    Condition("weight", Comparison.MORE, 40),
                    Condition("weight", Comparison.AT_MOST, 60),
                ),
            ),
            20,
            Use.PREFER,
            Otherwise.BEST_OUTSIDE,
        ),
        Policy(
            "night",
            Match(hours=(Hours(0, 0),), days=(0, 5, 6)),
            Subset(("t3",)),
            use=Use.RESTRICT,
            otherwise=Otherwise.REFUSE,
        ),
    )


def test_the_example_is_all_right() -> None:
    found = check_policies(Path(__file__).parents[2] / "config" / "policies.yaml")
    assert found.problems == ()
    assert found.policies is not None and len(found.policies) == 3


@pytest.mark.parametrize("text", ["", "policies:\n", "policies: []\n", "# nothing\n"])
def test_no_policy_is_none(text: str) -> None:
    assert parse_policies(text, "p").policies == ()


@pytest.mark.parametrize(
    ("policy", "line", "message"),
    [
        ("{targets: {nodes: [a]}}", 2, "name is missing"),
        ("{name: a}", 2, "targets is missing"),
        ("{name: a, targets: {}}", 2, "targets names nobody"),
        ("{name: a, targets: {nodes: [a/b]}}", 2, "nodes is not valid"),
        ("{name: a, targets: {labels: [x]}}", 2, "labels is not a mapping"),
        ("{name: a, targets: {labels: {x: 'a b'}}}", 2, "the value of a label is not valid"),
        ("{name: a, targets: {labels: {x: a, x: b}}}", 2, "a label that is given before"),
        ("{name: a, targets: {where: [speed > 4]}}", 2, "where is not valid"),
        ("{name: a, targets: {where: [weight > many]}}", 2, "where is not valid"),
        ("{name: a, targets: {nodes: [a]}, threshold: 65}", 2, "threshold is not such a number"),
        ("{name: a, targets: {nodes: [a]}, use: must}", 2, "use is not valid"),
        ("{name: a, targets: {nodes: [a]}, else: maybe}", 2, "else is not valid"),
        ("{name: a, targets: {nodes: [a]}, unless: b}", 2, "unknown key"),
        ("{name: a, targets: {nodes: [a]}, match: {port: 0}}", 2, "port is not valid"),
        ("{name: a, targets: {nodes: [a]}, match: {port: 90-80}}", 2, "port is not valid"),
        ("{name: a, targets: {nodes: [a]}, match: {clients: 192.0.2.1/24}}", 2, "clients is not"),
        ("{name: a, targets: {nodes: [a]}, match: {dscp: 64}}", 2, "dscp is not valid"),
        ("{name: a, targets: {nodes: [a]}, match: {device: toaster}}", 2, "device is not valid"),
        ("{name: a, targets: {nodes: [a]}, match: {hours: 8-18}}", 2, "hours is not valid"),
        ("{name: a, targets: {nodes: [a]}, match: {hours: '24:10-3:00'}}", 2, "hours is not valid"),
        ("{name: a, targets: {nodes: [a]}, match: {days: someday}}", 2, "days is not valid"),
        ("{name: a, targets: {nodes: [a]}, match: {interface: a/b}}", 2, "interface is not valid"),
        ("[a]", 2, "a policy is not a mapping"),
        ("{name: a, targets: {nodes: [a]}}\n- {name: a, targets: {nodes: [b]}}", 3, "given before"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(policy: str, line: int, message: str) -> None:
    parsed = parse_policies(f"policies:\n- {policy}\n", "p.yaml")
    assert parsed.policies is None
    problem = next(problem for problem in parsed.problems if message in problem.message)
    assert (problem.position.file, problem.position.line) == ("p.yaml", line)
    assert problem.remedy


def test_the_list_has_a_limit() -> None:
    one = "- {name: p%d, targets: {nodes: [a]}}\n"
    for count, good in ((POLICIES_MAX, True), (POLICIES_MAX + 1, False)):
        text = "policies:\n" + "".join(one % number for number in range(count))
        assert (parse_policies(text, "p").policies is not None) == good


@given(st.text(max_size=200) | st.text("policies: -{}[]nametrg\n", max_size=100))
def test_noise_never_raises(text: str) -> None:
    parse_policies(text, "p")


def test_a_node_file_names_policies_and_labels(tmp_path: Path) -> None:
    node = tmp_path / "node.yaml"
    start = "node: n1\nxcf: 192.0.2.1\nuplinks: [eth0]\nlabels: {rack: a, size: '2'}\n"
    node.write_text(start + "policies: rules.yaml\n")
    with pytest.raises(ConfigError) as missing:
        load(node)
    problem = missing.value.problems[0]
    assert (problem.position.line, problem.position.column) == (5, 11)
    assert "rules.yaml cannot be read" in problem.message
    (tmp_path / "rules.yaml").write_text(WHOLE)
    found = load(node)
    assert [policy.name for policy in found.policies] == ["office", "night"]
    assert found.node.labels == (Label("rack", "a"), Label("size", "2"))
    assert load_files([tmp_path / "rules.yaml"]) == Report(
        (CheckedPolicies(tmp_path / "rules.yaml", found.policies),), ()
    )
    (tmp_path / "rules.yaml").write_text("policies: [{name: a}]\n")
    assert "targets is missing" in load_files([tmp_path / "rules.yaml"]).problems[0].message
    (tmp_path / "rules.yaml").write_text("policies: nonsense\n")
    report = load_files([node])
    assert not report.accepted
    assert report.problems[0].position.file == str(tmp_path / "rules.yaml")
