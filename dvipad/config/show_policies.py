"""Policies printed back as a policies file; that text parses to the same policies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from dvipad.config.model import Hours, Match, Policy, PortRange, Subset
from dvipad.config.policies import DAYS


def show_policies(policies: Iterable[Policy]) -> str:
    """`policies` in their order, with what they mean where the file says nothing."""
    plain = {"policies": [_policy(policy) for policy in policies]}
    text: str = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=100)
    return text


def _policy(policy: Policy) -> dict[str, Any]:
    said: dict[str, Any] = {"name": policy.name}
    match = _match(policy.match)
    if match:
        said["match"] = match
    said["targets"] = _subset(policy.subset)
    if policy.threshold is not None:
        said["threshold"] = policy.threshold
    return said | {"use": policy.use.value, "else": policy.otherwise.value}


def _match(match: Match) -> dict[str, Any]:
    keys: dict[str, list[Any]] = {
        "dvipa": [str(address) for address in match.dvipas],
        "port": [_ports(span) for span in match.ports],
        "clients": [str(prefix) for prefix in match.clients],
        "dscp": list(match.dscps),
        "interface": list(match.interfaces),
        "device": [device.value for device in match.devices],
        "hours": [_hours(span) for span in match.hours],
        "days": [DAYS[day] for day in match.days],
    }
    return {key: values for key, values in keys.items() if values}


def _subset(subset: Subset) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "nodes": list(subset.nodes),
        "labels": {label.key: label.value for label in subset.labels},
        "where": [str(condition) for condition in subset.conditions],
    }
    return {key: values for key, values in keys.items() if values}


def _ports(span: PortRange) -> int | str:
    return span.first if span.first == span.last else f"{span.first}-{span.last}"


def _hours(span: Hours) -> str:
    """A day ends at 24:00: from 00:00 to 00:00 would be nothing."""
    return str(span) if span.end else f"{str(span).partition('-')[0]}-24:00"
