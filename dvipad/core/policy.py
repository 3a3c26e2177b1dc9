"""What policies mean for one service: which targets serve which requests (P1-P3).

Of a policy that applies to (DVIPA, port) at this minute, what is left to look at is in a packet: a
`PolicyRow`. The queue worker takes the first row that fits a request; no clock, no table is needed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dvipad.address import Address
from dvipad.config.model import (
    DAY_MINUTES,
    Comparison,
    Hours,
    Otherwise,
    Policy,
    Subset,
    Use,
)
from dvipad.core.methods import Ring
from dvipad.core.policy_rows import PolicyRow
from dvipad.core.targets import DptRow

_COMPARE: Final[dict[Comparison, Callable[[int, int], bool]]] = {
    Comparison.LESS: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.EQUAL: operator.eq,
    Comparison.AT_LEAST: operator.ge,
    Comparison.MORE: operator.gt,
}


def concerns(policy: Policy, dvipa: Address) -> bool:
    """Whether `policy` may be for requests to `dvipa`."""
    return not policy.match.dvipas or dvipa in policy.match.dvipas


def is_timed(policy: Policy) -> bool:
    """Whether it matters for `policy` what time it is."""
    return bool(policy.match.hours or policy.match.days)


def is_open(policy: Policy, minute: int | None) -> bool:
    """Whether `policy` applies at this `minute` of the week, which begins on Monday; None: it is
    not known."""
    if not is_timed(policy):
        return True
    if minute is None:
        return False
    day, at = divmod(minute, DAY_MINUTES)
    days = policy.match.days or range(7)
    return any(_covers(span, at, day, days) for span in policy.match.hours or (Hours(0, 0),))


def _covers(span: Hours, at: int, day: int, days: Sequence[int]) -> bool:
    if span.start < span.end:
        return span.start <= at < span.end and day in days
    return (at >= span.start and day in days) or (at < span.end and (day - 1) % 7 in days)


def holds(subset: Subset, row: DptRow) -> bool:
    """Whether a target is in `subset` now."""
    figures = row.figures()
    return (
        (not subset.nodes or row.name in subset.nodes)
        and all(label in row.labels for label in subset.labels)
        and all(
            condition.figure in figures
            and _COMPARE[condition.comparison](figures[condition.figure], condition.value)
            for condition in subset.conditions
        )
    )


@dataclass(frozen=True, slots=True)
class Judgement:
    """Who gets the requests of a policy. `subset`: its ready targets; `meeting`: those of them that
    meet the criterion; `chosen`: who gets the requests, nobody when they are refused."""

    subset: tuple[DptRow, ...]
    meeting: tuple[DptRow, ...]
    chosen: tuple[DptRow, ...]


def judge(policy: Policy, rows: Iterable[DptRow]) -> Judgement:
    """Apply `policy` to the targets `rows` (Figure 8 of the source, blocks 606 to 616).

    If none that meets it answers, it is as if none met it; these stay among the chosen, for turns
    leave them out, but for probes.
    """
    ready = [row for row in rows if row.ready > 0]
    subset = tuple(row for row in ready if holds(policy.subset, row))
    meeting = tuple(row for row in subset if _meets(policy, row))
    answering = any(row.fitness.tsr > 0 for row in meeting)
    if answering or (meeting and policy.otherwise is Otherwise.REFUSE):
        chosen = meeting
    elif policy.otherwise is Otherwise.REFUSE:
        chosen = ()
    elif policy.otherwise is Otherwise.ANY:
        chosen = tuple(ready)
    else:
        outside = [row for row in ready if row not in subset]
        best = tuple(row for row in outside if _meets(policy, row))
        chosen = best + meeting if best else subset or tuple(outside)
    return Judgement(subset, meeting, chosen)


def _meets(policy: Policy, row: DptRow) -> bool:
    if policy.threshold is None:
        return True
    return row.metric is not None and row.metric >= policy.threshold


def applies(policy: Policy, port: int) -> bool:
    """Whether `policy` is for requests to `port`."""
    ports = policy.match.ports
    return not ports or any(port in span for span in ports)


def rows_of(
    policies: Iterable[Policy],
    port: int,
    turns: Callable[[Sequence[DptRow]], Ring],
    targets: Sequence[DptRow],
) -> tuple[PolicyRow, ...]:
    """Rows for a service, of policies that concern its DVIPA and are open now, in their order;
    `turns` makes the ring of some of its targets.

    What stands behind a row that fits every request would never be looked at, and is left out.
    """
    found: list[PolicyRow] = []
    for policy in policies:
        # Names are unique in a file; what a peer sends may be anything.
        if not applies(policy, port) or any(row.name == policy.name for row in found):
            continue
        match, judged = policy.match, judge(policy, targets)
        row = PolicyRow(
            policy.name,
            match.clients,
            match.dscps,
            match.interfaces,
            match.devices,
            policy.use is Use.RESTRICT,
            turns(judged.chosen),
            len(judged.meeting),
        )
        found.append(row)
        if not row.clients and not row.unseen:
            break
    return tuple(found)
