"""Why a connection request goes where it goes: the policies one by one, and what they look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dvipad.address import Address
from dvipad.config.model import DAY_MINUTES, Match, Otherwise, Policy
from dvipad.core.policy import Judgement, applies, concerns, is_open, is_timed, judge
from dvipad.core.policy_rows import Request
from dvipad.core.targets import DptRow

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class Check:
    """One key of a policy's match: what it wants, what the request has, whether that fits."""

    key: str
    wanted: str
    given: str
    fits: bool


@dataclass(frozen=True, slots=True)
class Explained:
    """A policy that was looked at, and whether it is for the request."""

    policy: str
    matches: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of a request: the steps, the policy that is for it (None: any target may have
    it), the nodes that may get it, none if it is refused; and why these."""

    steps: tuple[Explained, ...]
    policy: str | None
    targets: tuple[str, ...]
    reason: str


def explain(
    policies: Iterable[Policy],
    dvipa: Address,
    port: int,
    request: Request,
    minute: int | None,
    targets: Sequence[DptRow],
) -> Explanation:
    """The decision about a request to (DVIPA, port) whose targets are `targets`."""
    steps: list[Explained] = []
    for policy in policies:
        checks = tuple(_checks(policy, dvipa, port, request, minute))
        steps.append(Explained(policy.name, all(check.fits for check in checks), checks))
        if steps[-1].matches:
            judged = judge(policy, targets)
            names = tuple(row.name for row in judged.chosen)
            return Explanation(tuple(steps), policy.name, names, _reason(policy, judged))
    ready = tuple(row.name for row in targets if row.ready > 0)
    reason = "no policy is for it: any target" if ready else "no target is ready: refused"
    return Explanation(tuple(steps), None, ready, reason)


def _checks(
    policy: Policy, dvipa: Address, port: int, request: Request, minute: int | None
) -> Iterator[Check]:
    match = policy.match
    if match.dvipas:
        yield Check("dvipa", _listed(match.dvipas), str(dvipa), concerns(policy, dvipa))
    if match.ports:
        spans = _listed(
            f"{span.first}" if span.first == span.last else f"{span.first}-{span.last}"
            for span in match.ports
        )
        yield Check("port", spans, str(port), applies(policy, port))
    if match.clients:
        inside = any(request.client in prefix for prefix in match.clients)
        yield Check("clients", _listed(match.clients), str(request.client), inside)
    if match.dscps:
        yield Check("dscp", _listed(match.dscps), str(request.dscp), request.dscp in match.dscps)
    if match.interfaces:
        inside = request.interface in match.interfaces
        yield Check("interface", _listed(match.interfaces), request.interface or "?", inside)
    if match.devices:
        wanted = _listed(device.value for device in match.devices)
        yield Check("device", wanted, request.device.value, request.device in match.devices)
    if is_timed(policy):
        yield Check("time", times_of(match), moment(minute), is_open(policy, minute))


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def times_of(match: Match) -> str:
    """Days and hours of a policy."""
    days = " ".join(DAYS[day % len(DAYS)] for day in match.days)
    return f"{days} {_listed(match.hours)}".strip()


def moment(minute: int | None) -> str:
    """A minute of the week."""
    if minute is None:
        return "not known"
    day, at = divmod(minute, DAY_MINUTES)
    return f"{DAYS[day % len(DAYS)]} {at // 60:02}:{at % 60:02}"


def _reason(policy: Policy, judged: Judgement) -> str:
    at_least = "" if policy.threshold is None else f" with a weight of at least {policy.threshold}"
    if judged.meeting:
        return f"ready targets of its subset{at_least}"
    none = f"no ready target of its subset{at_least}" if judged.subset else "its subset is empty"
    if policy.otherwise is Otherwise.REFUSE:
        return f"{none}: refused"
    if policy.otherwise is Otherwise.ANY:
        return f"{none}: any target"
    if judged.chosen == judged.subset:
        return f"{none}, nor outside it: the best of the subset all the same"
    return f"{none}: the best outside it"
