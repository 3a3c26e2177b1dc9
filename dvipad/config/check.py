"""Files checked together: each by itself, a node file with its profile, and nodes of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from dvipad.config.errors import ConfigError, Problem, Severity, errors, in_order
from dvipad.config.model import Backup, Define, Policy, Position, Profile
from dvipad.config.node import NodeConfig, check_node
from dvipad.config.policies import are_policies, check_policies
from dvipad.config.profile import check_profile
from dvipad.config.status import StatusConfig, check_status, is_status

YAML_SUFFIXES: Final = (".yaml", ".yml")
"""How a node file, or policies, are told from a profile."""


@dataclass(frozen=True, slots=True)
class CheckedProfile:
    """A profile file; `profile` is None when it has errors."""

    path: Path
    profile: Profile | None


@dataclass(frozen=True, slots=True)
class CheckedNode:
    """A node file, profile, policies and status file that it names; None for what has errors."""

    path: Path
    node: NodeConfig | None
    profile: Profile | None
    policies: tuple[Policy, ...] | None = None
    status: StatusConfig | None = None


@dataclass(frozen=True, slots=True)
class CheckedPolicies:
    """A policies file; None when it has errors."""

    path: Path
    policies: tuple[Policy, ...] | None


@dataclass(frozen=True, slots=True)
class CheckedStatus:
    """A status file; None when it has errors."""

    path: Path
    status: StatusConfig | None


Checked: TypeAlias = CheckedProfile | CheckedNode | CheckedPolicies | CheckedStatus


@dataclass(frozen=True, slots=True)
class Report:
    """What some files say, and all problems in and between them."""

    files: tuple[Checked, ...]
    problems: tuple[Problem, ...]

    @property
    def accepted(self) -> bool:
        """Whether nothing is wrong, warnings aside."""
        return not errors(self.problems)


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that a node starts with. `warnings` are for its log."""

    node: NodeConfig
    profile: Profile
    warnings: tuple[Problem, ...] = ()
    policies: tuple[Policy, ...] = ()
    status: StatusConfig = field(default_factory=StatusConfig)


def load_files(paths: Iterable[Path]) -> Report:
    """Reads and checks all of `paths`: by the suffix profiles, or what the keys say.

    The files that a node file names are read and checked with it. Never raises.
    """
    problems: list[Problem] = []
    files: list[Checked] = []
    for path in paths:
        if path.suffix.lower() in YAML_SUFFIXES and are_policies(path):
            rules = check_policies(path)
            problems += rules.problems
            files.append(CheckedPolicies(path, rules.policies))
        elif path.suffix.lower() in YAML_SUFFIXES and is_status(path):
            objects = check_status(path)
            problems += objects.problems
            files.append(CheckedStatus(path, objects.status))
        elif path.suffix.lower() in YAML_SUFFIXES:
            files.append(_check_node_file(path, problems))
        else:
            parsed = check_profile(path)
            problems += parsed.problems
            profile = None if errors(parsed.problems) else parsed.profile
            files.append(CheckedProfile(path, profile))
    _check_cluster([file for file in files if isinstance(file, CheckedNode)], problems)
    return Report(tuple(files), in_order(problems))


def load(path: Path) -> Configuration:
    """The node file `path`, its profile, policies and status file, empty when it names none.

    Raises ``ConfigError`` with all problems of them.
    """
    problems: list[Problem] = []
    checked = _check_node_file(path, problems)
    node, profile, policies = checked.node, checked.profile, checked.policies
    status = checked.status
    if None in (node, profile, policies, status) or errors(problems):
        raise ConfigError(in_order(problems))
    assert node and profile and policies is not None and status
    return Configuration(node, profile, in_order(problems), policies, status)


def _check_node_file(path: Path, problems: list[Problem]) -> CheckedNode:
    parsed = check_node(path)
    problems += parsed.problems
    node = parsed.node
    if node is None:
        return CheckedNode(path, None, None)
    profile, policies = _check_profile(node, problems), _check_policies(node, problems)
    return CheckedNode(path, node, profile, policies, _check_status(node, problems))


def _check_profile(node: NodeConfig, problems: list[Problem]) -> Profile | None:
    if node.profile is None:
        return Profile()
    found = check_profile(node.profile)
    problems += _placed(found.problems, "profile", node.profile, node.profile_position)
    if errors(found.problems):
        return None
    _check_pair(node, found.profile, problems)
    return found.profile


def _check_policies(node: NodeConfig, problems: list[Problem]) -> tuple[Policy, ...] | None:
    if node.policies is None:
        return ()
    found = check_policies(node.policies)
    problems += _placed(found.problems, "policies", node.policies, node.policies_position)
    return found.policies


def _check_status(node: NodeConfig, problems: list[Problem]) -> StatusConfig | None:
    if node.status is None:
        return StatusConfig()
    found = check_status(node.status)
    problems += _placed(found.problems, "status", node.status, node.status_position)
    return found.status


def _placed(
    found: Iterable[Problem], key: str, path: Path, position: Position
) -> Iterator[Problem]:
    """That a file cannot be read is the fault of the key `key` that names it."""
    for problem in found:
        if problem.position.line == 1 and "cannot be read" in problem.message:
            message = f"{path} {problem.message}"
            remedy = f"Correct '{key}:', which is relative to the node file."
            problem = replace(problem, position=position, message=message, remedy=remedy)
        yield problem


def _check_pair(node: NodeConfig, profile: Profile, problems: list[Problem]) -> None:
    """A profile on its node: XCF addresses are of one family, and none of them is a DVIPA."""
    for entry in _entries(profile):
        if entry.dvipa == node.xcf:
            remedy = "An XCF address stays on its node; choose another address for the DVIPA."
            message = "this DVIPA is the node's own XCF address"
            problems.append(Problem(entry.position, str(entry.dvipa), message, remedy))
        if any(entry.dvipa == peer.address for peer in node.peers):
            remedy = "Name a peer by its XCF address: DVIPAs move from node to node."
            message = "this DVIPA is listed as a peer of the node"
            problems.append(Problem(entry.position, str(entry.dvipa), message, remedy))
    family = f"IPv{node.xcf.version}"
    places = [
        (target.xcf, distribute.position)
        for distribute in profile.distributes
        for target in distribute.targets or ()
    ]
    places += [(route.xcf, route.position) for route in profile.routes]
    for xcf, position in places:
        if xcf.version != node.xcf.version:
            message = f"this node's XCF address is {family} ({node.xcf}), the target's is not"
            remedy = f"Give the target's {family} XCF address: tunnels have one family."
            problems.append(Problem(position, str(xcf), message, remedy))


def _entries(profile: Profile) -> tuple[Define | Backup, ...]:
    return (*profile.defines, *profile.backups)


def _check_cluster(files: list[CheckedNode], problems: list[Problem]) -> None:
    """Node files that are checked together must not claim the same things."""
    names: dict[tuple[str, str], NodeConfig] = {}
    addresses: dict[tuple[str, str], NodeConfig] = {}
    clusters: dict[str, NodeConfig] = {}
    for file in {file.path: file for file in files}.values():
        node = file.node
        if node is None:
            continue
        first = names.setdefault((node.cluster, node.name), node)
        if first is not node:
            message = f"node {node.name} is {first.position.file} already"
            remedy = "Give each node of a cluster a name of its own."
            problems.append(Problem(node.position, node.name, message, remedy))
        first = addresses.setdefault((node.cluster, str(node.xcf)), node)
        if first is not node:
            message = f"node {first.name} has this XCF address already"
            remedy = "Give each node of a cluster an XCF address of its own."
            problems.append(Problem(node.position, str(node.xcf), message, remedy))
        first = clusters.setdefault(node.cluster, node)
        _check_tunnels(first, node, problems)
    _check_ranks(files, problems)


def _check_tunnels(first: NodeConfig, node: NodeConfig, problems: list[Problem]) -> None:
    """Nodes understand each other's tunnels, but not on another port."""
    pairs = (
        ("tunnel", first.tunnel.value, node.tunnel.value),
        ("vxlan.port", str(first.vxlan.port), str(node.vxlan.port)),
    )
    for what, one, other in pairs:
        if one != other:
            message = f"{what} is {one} on {first.name}"
            remedy = f"Use the same {what} on all nodes of a cluster."
            problems.append(Problem(node.position, other, message, remedy))


def _check_ranks(files: list[CheckedNode], problems: list[Problem]) -> None:
    """One DVIPA has one VIPADEFINE in a cluster; backups of one rank go by their names."""
    seen: dict[tuple[str, str, int], str] = {}
    for file in {file.path: file for file in files}.values():
        if file.node is None or file.profile is None:
            continue
        for entry in _entries(file.profile):
            rank = 255 if isinstance(entry, Define) else entry.rank
            key = (file.node.cluster, str(entry.dvipa), rank)
            other = seen.setdefault(key, file.node.name)
            if other == file.node.name:
                continue
            if isinstance(entry, Define):
                message = f"node {other} has a VIPADEFINE for it too"
                remedy = "Keep VIPADEFINE on one node, write VIPABACKUP on the others."
                severity = Severity.ERROR
            else:
                message = f"node {other} has rank {rank} for it too"
                remedy = "Give each backup a rank of its own; equal ranks go by node name."
                severity = Severity.WARNING
            problems.append(Problem(entry.position, str(entry.dvipa), message, remedy, severity))
