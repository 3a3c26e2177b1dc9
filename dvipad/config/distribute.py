"""VIPADISTRIBUTE (D1, C1, C2, A4): its options, ports and targets."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import Final

from dvipad.config import keywords as k
from dvipad.config.cursor import Cursor
from dvipad.config.keywords import Keyword
from dvipad.config.model import (
    OWNER_RANK,
    DistMethod,
    Distribute,
    PortRange,
    TargetSpec,
)
from dvipad.config.operands import Reference, read_reference, read_unicast
from dvipad.config.statements import MAX_RANK, MIN_RANK
from dvipad.config.tokens import Token
from dvipad.config.values import is_number, looks_like_address, read_name, read_number

MAX_PORTS: Final = 64
"""Ports and ranges of one VIPADISTRIBUTE."""
MAX_TARGETS: Final = 32
"""Targets of one VIPADISTRIBUTE, as systems in a sysplex; of HOTSTANDBY 1 + 31."""
MAX_OPTLOCAL: Final = 16
MAX_AFFINITY_S: Final = 65_535
MAX_WEIGHT: Final = 99
DEFAULT_WEIGHT: Final = 10

_PORTS: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_UNRESOLVED: Final = IPv6Address(0)
_WEIGHTED: Final = (DistMethod.WEIGHTEDACTIVE, DistMethod.ROUNDROBIN)
"""Methods that look at WEIGHT; z/OS knows it for WEIGHTEDACTIVE only, with ROUNDROBIN it makes
weighted round robin here (D6)."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One VIPADISTRIBUTE as written; its DVIPA may still be an interface name.

    `targets_given` False: DELETE without DESTIP, which means all of the statement.
    """

    token: Token
    reference: Reference
    value: Distribute
    delete: bool
    targets_given: bool


@dataclass(slots=True)
class _Draft:
    """A VIPADISTRIBUTE while it is read."""

    value: Distribute
    standby_tokens: list[Token] = field(default_factory=list)
    weight_tokens: list[Token] = field(default_factory=list)
    role_tokens: list[Token] = field(default_factory=list)
    seen: set[Keyword] = field(default_factory=set)


def parse_distribute(cursor: Cursor, statement: Token) -> Distribution | None:
    """``VIPADISTRIBUTE [DEFINE|DELETE] [options] dvipa [PORT list] DESTIP ALL|list``."""
    delete = cursor.take(k.DEFINE, k.DELETE) is k.DELETE
    draft = _Draft(Distribute(_UNRESOLVED, position=statement.position))
    _read_options(cursor, draft)
    if cursor.ended() or k.find(cursor.token.text, (k.PORT, k.DESTIP)) is not None:
        remedy = "Write the DVIPA after the options: VIPADISTRIBUTE 192.0.2.10 PORT 80 DESTIP ALL."
        cursor.error(statement, "does not say which DVIPA", remedy)
        cursor.skip_statement()
        return None
    token = cursor.advance()
    reference = read_reference(cursor, token)
    port_token = cursor.token
    if cursor.take(k.PORT):
        draft.value = replace(draft.value, ports=_read_ports(cursor, port_token))
    targets_given = _read_destip(cursor, draft, statement, delete)
    cursor.expect_end((*k.DISTRIBUTE_OPTIONS, *(u.keyword for u in k.UNSUPPORTED_IN_DISTRIBUTE)))
    _check_standby(cursor, draft, delete)
    _check_weights(cursor, draft)
    if reference is None:
        return None
    return Distribution(token, reference, draft.value, delete, targets_given)


def _read_options(cursor: Cursor, draft: _Draft) -> None:
    while not cursor.ended():
        token = cursor.token
        keyword = cursor.take(*k.DISTRIBUTE_OPTIONS)
        if keyword is not None:
            if _family(keyword) in draft.seen:
                remedy = "Keep one of them."
                cursor.error(token, f"{_family(keyword).name} is given twice", remedy)
            draft.seen.add(_family(keyword))
            _OPTIONS[keyword](cursor, draft, token)
        elif cursor.refuse_unsupported(k.UNSUPPORTED_IN_DISTRIBUTE):
            continue
        elif _is_dvipa(cursor):
            break
        else:
            _report_unknown(cursor)


def _family(keyword: Keyword) -> Keyword:
    """The keyword that stands for `keyword` and for its opposite or its synonym."""
    families = {
        k.NOOPTLOCAL: k.OPTLOCAL,
        k.CLUSTERPORTS: k.SYSPLEXPORTS,
        k.NOAUTOSWITCHBACK: k.AUTOSWITCHBACK,
        k.NOHEALTHSWITCH: k.HEALTHSWITCH,
    }
    return families.get(keyword, keyword)


def _is_dvipa(cursor: Cursor) -> bool:
    """Whether the next word is the DVIPA and no misspelt option."""
    if looks_like_address(cursor.token.text):
        return True
    if k.find(cursor.token.text, (k.PORT, k.DESTIP)) is not None:
        return True
    if read_name(cursor.token.text) is None:
        return False
    after = cursor.ahead().text
    return not after or k.find(after, (k.PORT, k.DESTIP, *k.BOUNDARIES)) is not None


def _report_unknown(cursor: Cursor) -> None:
    token = cursor.advance()
    options = (*k.DISTRIBUTE_OPTIONS, k.PORT, k.DESTIP, *k.METHODS)
    otherwise = f"Options are {k.names(k.DISTRIBUTE_OPTIONS)}."
    remedy = k.did_you_mean(token.text, (option.name for option in options), otherwise)
    cursor.error(token, "not an option of VIPADISTRIBUTE", remedy)


def _read_method(cursor: Cursor, draft: _Draft, option: Token) -> None:
    token = cursor.token
    keyword = cursor.take(*k.METHODS)
    if keyword is not None:
        draft.value = replace(draft.value, method=DistMethod(keyword.name))
        return
    remedy = f"DISTMETHOD is one of {k.names(k.METHODS)}."
    if cursor.ended() or looks_like_address(token.text):
        cursor.error(option, "DISTMETHOD without a method", remedy)
        return
    remedy = k.did_you_mean(token.text, (method.name for method in k.METHODS), remedy)
    cursor.error(cursor.advance(), "not a distribution method", remedy)


def _read_optlocal(cursor: Cursor, draft: _Draft, option: Token) -> None:
    value = 1
    if is_number(cursor.token.text):
        token = cursor.advance()
        number = read_number(token.text, 0, MAX_OPTLOCAL)
        if number is None:
            remedy = "0: always local; 1: local while its weight is not zero; 2-16: a multiplier."
            cursor.error(token, f"not a number from 0 to {MAX_OPTLOCAL}", remedy)
        value = number or 0
    if value:
        remedy = "Write OPTLOCAL 0: connections of a target's own applications always stay there."
        cursor.warn(option, f"OPTLOCAL {value} is taken for OPTLOCAL 0", remedy)
    draft.value = replace(draft.value, optlocal=value)


def _read_affinity(cursor: Cursor, draft: _Draft, option: Token) -> None:
    remedy = f"Write TIMEDAFFINITY and seconds, 0 to {MAX_AFFINITY_S}; 0 switches it off."
    token = cursor.token
    if cursor.ended() or looks_like_address(token.text):
        cursor.error(option, "TIMEDAFFINITY without a time", remedy)
        return
    seconds = read_number(cursor.advance().text, 0, MAX_AFFINITY_S)
    if seconds is None:
        cursor.error(token, "not a time in seconds", remedy)
    draft.value = replace(draft.value, timed_affinity_s=seconds or 0)


def _standby(**change: bool) -> Callable[[Cursor, _Draft, Token], None]:
    def option(cursor: Cursor, draft: _Draft, token: Token) -> None:
        draft.standby_tokens.append(token)
        draft.value = replace(draft.value, **change)  # type: ignore[arg-type]

    return option


def _flag(**change: bool | None) -> Callable[[Cursor, _Draft, Token], None]:
    def option(cursor: Cursor, draft: _Draft, token: Token) -> None:
        draft.value = replace(draft.value, **change)  # type: ignore[arg-type]

    return option


_OPTIONS: Final[dict[Keyword, Callable[[Cursor, _Draft, Token], None]]] = {
    k.DISTMETHOD: _read_method,
    k.AUTOSWITCHBACK: _standby(auto_switch_back=True),
    k.NOAUTOSWITCHBACK: _standby(auto_switch_back=False),
    k.HEALTHSWITCH: _standby(health_switch=True),
    k.NOHEALTHSWITCH: _standby(health_switch=False),
    k.OPTLOCAL: _read_optlocal,
    k.NOOPTLOCAL: _flag(optlocal=None),
    k.TIMEDAFFINITY: _read_affinity,
    k.AUTOAFFINITY: _flag(auto_affinity=True),
    k.SYSPLEXPORTS: _flag(cluster_ports=True),
    k.CLUSTERPORTS: _flag(cluster_ports=True),
    k.PAUSE: _flag(paused=True),
    k.OFFLOAD: _flag(offload=True),
}


def _read_ports(cursor: Cursor, keyword: Token) -> tuple[PortRange, ...]:
    ports: list[PortRange] = []
    given = False
    remedy = "Write ports from 1 to 65535, as 80, or ranges, as 8000-8010, without blanks in them."
    for token in cursor.items(k.DESTIP):
        given = True
        match = _PORTS.fullmatch(token.text)
        if match is None:
            cursor.error(token, "not a port", remedy)
            continue
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= 65_535:
            cursor.error(token, "not a port or range of ports", remedy)
            continue
        if any(first <= other.last and other.first <= last for other in ports):
            cursor.error(token, "a port that is listed before", "Write each port once.")
            continue
        if len(ports) == MAX_PORTS:
            more = "Write ranges, or leave PORT out for all ports."
            cursor.error(token, f"more than {MAX_PORTS} ports and ranges", more)
        ports.append(PortRange(first, last))
    if not given:
        remedy = "List the ports, or leave the word PORT out to say so."
        cursor.warn(keyword, "PORT without ports: every port is distributed", remedy)
    return tuple(ports)


def _read_destip(cursor: Cursor, draft: _Draft, statement: Token, delete: bool) -> bool:
    destip = cursor.token
    if not cursor.take(k.DESTIP):
        if delete and cursor.ended():
            return False
        remedy = "Write DESTIP ALL, or DESTIP and the XCF addresses of the targets."
        if not cursor.ended():
            cursor.error(destip, "expected PORT or DESTIP here", remedy)
        else:
            cursor.error(statement, "DESTIP is missing", remedy)
        cursor.skip_statement()
        return False
    if cursor.take(k.ALL):
        if draft.value.method is DistMethod.HOTSTANDBY and not delete:
            remedy = "List one PREFERRED target and its BACKUP targets. (z/OS: EZZ0165I)"
            cursor.error(destip, "DESTIP ALL with HOTSTANDBY", remedy)
        return True
    targets = _read_targets(cursor, draft)
    if not targets and cursor.ended():
        remedy = "Write DESTIP ALL, or DESTIP and the XCF addresses of the targets."
        cursor.error(destip, "DESTIP without targets", remedy)
    draft.value = replace(draft.value, targets=tuple(targets))
    return True


def _read_targets(cursor: Cursor, draft: _Draft) -> list[TargetSpec]:
    targets: list[TargetSpec] = []
    for token in cursor.items():
        if k.find(token.text, k.DISTRIBUTE_OPTIONS) is not None:
            cursor.error(token, "an option among targets", "Write options before the DVIPA.")
            cursor.skip_statement()
            return targets
        address = read_unicast(cursor, token)
        spec = _read_target_options(cursor, draft)
        if address is None:
            continue
        if any(address == other.xcf for other in targets):
            cursor.error(token, "a target that is listed before", "Write each target once.")
            continue
        if targets and address.version != targets[0].xcf.version:
            remedy = "The XCF addresses of a cluster are all IPv4 or all IPv6."
            cursor.error(token, f"not of the family of {targets[0].xcf}", remedy)
        if len(targets) == MAX_TARGETS:
            remedy = "Use DESTIP ALL, or distribute other ports to other targets."
            cursor.error(token, f"more than {MAX_TARGETS} targets", remedy)
        targets.append(replace(spec, xcf=address))
    return targets


def _read_target_options(cursor: Cursor, draft: _Draft) -> TargetSpec:
    weight, standby_rank = DEFAULT_WEIGHT, None
    while not cursor.ended():
        token = cursor.token
        keyword = cursor.take(k.WEIGHT, k.PREFERRED, k.BACKUP)
        if keyword is None:
            break
        if keyword is k.WEIGHT:
            draft.weight_tokens.append(token)
            weight = _read_weight(cursor, token)
            continue
        draft.role_tokens.append(token)
        if standby_rank is not None:
            cursor.error(token, "a second role of this target", "Say PREFERRED or BACKUP, once.")
        standby_rank = OWNER_RANK
        if keyword is k.BACKUP:
            standby_rank = _read_standby_rank(cursor)
    return TargetSpec(_UNRESOLVED, weight, standby_rank)


def _read_weight(cursor: Cursor, keyword: Token) -> int:
    remedy = f"Write WEIGHT and a number from 1 to {MAX_WEIGHT}."
    token = cursor.token
    if cursor.ended() or looks_like_address(token.text):
        cursor.error(keyword, "WEIGHT without a number", remedy)
        return DEFAULT_WEIGHT
    weight = read_number(cursor.advance().text, 1, MAX_WEIGHT)
    if weight is None:
        cursor.error(token, "not a weight", remedy)
    return weight or DEFAULT_WEIGHT


def _read_standby_rank(cursor: Cursor) -> int:
    if not is_number(cursor.token.text):
        return MIN_RANK
    token = cursor.advance()
    rank = read_number(token.text, MIN_RANK, MAX_RANK)
    if rank is None:
        remedy = f"Give a number from {MIN_RANK} to {MAX_RANK}; the highest is used first."
        cursor.error(token, "not a rank", remedy)
    return rank or MIN_RANK


def _check_standby(cursor: Cursor, draft: _Draft, delete: bool) -> None:
    value = draft.value
    if value.method is not DistMethod.HOTSTANDBY:
        for token in (*draft.standby_tokens, *draft.role_tokens):
            remedy = "Write DISTMETHOD HOTSTANDBY, or remove it. (z/OS: EZZ0831I)"
            cursor.error(token, "without DISTMETHOD HOTSTANDBY", remedy)
        return
    if value.targets is None or delete:
        return
    preferred = sum(target.standby_rank == OWNER_RANK for target in value.targets)
    plain = [str(target.xcf) for target in value.targets if target.standby_rank is None]
    here = Token("HOTSTANDBY", value.position)
    remedy = "Mark one target as PREFERRED and each other one as BACKUP with its rank."
    if plain:
        message = f"targets that are neither PREFERRED nor BACKUP: {', '.join(plain)}"
        cursor.error(here, message, remedy)
    if preferred != 1:
        message = f"{preferred} PREFERRED targets instead of one"
        cursor.error(here, message, f"{remedy} (z/OS: EZZ0826I)")
    if len(value.targets) - preferred - len(plain) < 1:
        cursor.error(here, "no BACKUP target", f"{remedy} (z/OS: EZZ0827I)")


def _check_weights(cursor: Cursor, draft: _Draft) -> None:
    """A WEIGHT that the method does not look at is a warning, and not in the model."""
    value = draft.value
    if value.method in _WEIGHTED or value.targets is None:
        return
    for token in draft.weight_tokens:
        remedy = "Write DISTMETHOD WEIGHTEDACTIVE, or ROUNDROBIN. (z/OS: EZZ0799I)"
        cursor.warn(token, f"ignored with DISTMETHOD {value.method.value}", remedy)
    plain = tuple(replace(target, weight=DEFAULT_WEIGHT) for target in value.targets)
    draft.value = replace(value, targets=plain)
