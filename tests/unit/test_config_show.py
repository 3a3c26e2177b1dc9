"""What `dvipad --show` prints parses to the model that it was printed from."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_strategies import nodes, policies, profiles
from hypothesis import given, settings

from dvipad.config.check import (
    CheckedNode,
    CheckedPolicies,
    CheckedProfile,
    CheckedStatus,
    load_files,
)
from dvipad.config.errors import Severity
from dvipad.config.model import Policy, Profile
from dvipad.config.node import NodeConfig, parse_node
from dvipad.config.policies import parse_policies
from dvipad.config.profile import parse_profile
from dvipad.config.show import show_node, show_profile
from dvipad.config.show_policies import show_policies

SAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.*"))


@given(profiles())
@settings(max_examples=300, deadline=None)
def test_a_profile_survives_being_shown(profile: Profile) -> None:
    text = show_profile(profile)
    parsed = parse_profile(text, "shown")
    problems = [p for p in parsed.problems if p.severity is Severity.ERROR]
    assert not problems, text
    assert parsed.profile == profile, text


@given(nodes())
@settings(max_examples=200, deadline=None)
def test_a_node_file_survives_being_shown(node: NodeConfig) -> None:
    text = show_node(node)
    parsed = parse_node(text, "shown", Path("/"))
    assert not parsed.problems, text
    assert parsed.node == node, text


@given(policies())
@settings(max_examples=200, deadline=None)
def test_policies_survive_being_shown(given_policies: tuple[Policy, ...]) -> None:
    text = show_policies(given_policies)
    parsed = parse_policies(text, "shown")
    assert not parsed.problems, text
    assert parsed.policies == given_policies, text


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_samples_are_accepted_and_survive_being_shown(path: Path) -> None:
    report = load_files([path])
    assert report.accepted, report.problems
    (file,) = report.files
    if isinstance(file, CheckedProfile):
        assert file.profile is not None
        assert file.profile != Profile()
        assert parse_profile(show_profile(file.profile), "shown").profile == file.profile
    elif isinstance(file, CheckedPolicies):
        assert file.policies
        assert parse_policies(show_policies(file.policies), "shown").policies == file.policies
    elif isinstance(file, CheckedStatus):
        assert file.status and file.status.objects
    else:
        assert isinstance(file, CheckedNode)
        assert file.node is not None
        assert parse_node(show_node(file.node), "shown", Path("/")).node == file.node


def test_samples_fit_together() -> None:
    assert len(SAMPLES) >= 6
    assert load_files(SAMPLES).accepted


def test_lines_of_a_shown_profile_fit_a_terminal() -> None:
    ports = " ".join(str(port) for port in range(10_001, 10_065))
    text = f"VIPADYNAMIC VIPADEF 2001:db8::1 VIPADIST 2001:db8::1 PORT {ports} DESTIP ALL ENDVIPAD"
    shown = show_profile(parse_profile(text, "f").profile)
    assert max(len(line) for line in shown.splitlines()) <= 80
