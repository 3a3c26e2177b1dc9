"""What of a distribution looks at measured values, and has to follow them."""

from __future__ import annotations

from collections.abc import Iterable

from dvipad.config.model import Distribute, Policy
from dvipad.core.dpt import Service
from dvipad.core.fitness import SCALED
from dvipad.core.targets import CONNECTIONS
from dvipad.core.workload import MEASURED

_FOLLOWING = MEASURED | SCALED


def measured(rows: Iterable[Distribute]) -> bool:
    """Whether a statement's method goes by measured weights."""
    return any(row.method in _FOLLOWING for row in rows)


def follow(services: Iterable[Service]) -> bool:
    """Whether the method of one of the services does."""
    return any(service.method in _FOLLOWING for service in services)


def compares(policies: Iterable[Policy]) -> bool:
    """Whether a policy compares measured values."""
    return any(policy.threshold is not None or policy.subset.conditions for policy in policies)


def counts(policy: Policy) -> bool:
    """Whether it looks at active connections, which are counted for it then."""
    return any(condition.figure == CONNECTIONS for condition in policy.subset.conditions)
