"""VIPADEFINE, VIPABACKUP, VIPARANGE, VIPADELETE and VIPAROUTE."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from dvipad.address import Address
from dvipad.config import keywords as k
from dvipad.config.cursor import Cursor
from dvipad.config.keywords import Keyword
from dvipad.config.model import Backup, Define, Moveable, Range, Route
from dvipad.config.operands import (
    Operand,
    Reference,
    read_operands,
    read_reference,
    read_unicast,
)
from dvipad.config.tokens import Token
from dvipad.config.values import (
    is_number,
    network_of,
    read_number,
    why_not_host,
    why_not_routable,
)

MIN_RANK: Final = 1
MAX_RANK: Final = 254


@dataclass(frozen=True, slots=True)
class Added:
    """A definition and the token of its address."""

    token: Token
    entry: Define | Backup | Range | Route


@dataclass(frozen=True, slots=True)
class Deleted:
    """VIPADELETE of a DVIPA by address or interface name."""

    token: Token
    reference: Reference


@dataclass(frozen=True, slots=True)
class RangeDeleted:
    """VIPARANGE DELETE or VIPAROUTE DELETE: the entry that is to go."""

    token: Token
    entry: Range | Route


Change: TypeAlias = Added | Deleted | RangeDeleted
"""What one statement does to the profile, for one of its addresses."""

_MODES: Final = {
    k.IMMEDIATE: Moveable.IMMEDIATE,
    k.WHENIDLE: Moveable.WHENIDLE,
    k.NONDISRUPTIVE: Moveable.NONDISRUPTIVE,
    k.DISRUPTIVE: Moveable.DISRUPTIVE,
}
_OWNED_MODES: Final = (k.IMMEDIATE, k.WHENIDLE)
_RANGE_MODES: Final = (k.NONDISRUPTIVE, k.DISRUPTIVE)


@dataclass(slots=True)
class _Options:
    """What stands before mask and addresses."""

    moveable: Moveable | None = None
    cluster_ports: bool = False


def _read_options(cursor: Cursor, modes: tuple[Keyword, ...]) -> _Options:
    options = _Options()
    while not cursor.ended():
        token = cursor.token
        if cursor.refuse_unsupported(k.UNSUPPORTED_IN_DEFINITIONS):
            continue
        match cursor.take(k.MOVEABLE, k.CLUSTERPORTS, k.SYSPLEXPORTS, *_MODES):
            case None:
                break
            case k.MOVEABLE:
                if options.moveable is not None:
                    cursor.error(token, "MOVEABLE is given twice", "Remove one of them.")
                options.moveable = _read_mode(cursor, token, modes)
            case k.CLUSTERPORTS | k.SYSPLEXPORTS as keyword:
                if options.cluster_ports:
                    cursor.error(token, f"{keyword.name} is given twice", "Remove one of them.")
                options.cluster_ports = True
            case keyword:
                remedy = f"Write MOVEABLE {keyword.name}."
                cursor.error(token, f"{keyword.name} without MOVEABLE", remedy)
    return options


def _read_mode(cursor: Cursor, moveable: Token, modes: tuple[Keyword, ...]) -> Moveable:
    token = cursor.token
    keyword = cursor.take(*_MODES)
    choices = " or ".join(f"MOVEABLE {mode.name}" for mode in modes)
    if keyword is None:
        cursor.error(moveable, "MOVEABLE does not say when", f"Write {choices}.")
    elif keyword not in modes:
        cursor.error(token, "not a way to move for this statement", f"Write {choices}.")
    else:
        return _MODES[keyword]
    return _MODES[modes[0]]


def parse_define(cursor: Cursor, statement: Token) -> list[Change]:
    """``VIPADEFINE [MOVEABLE IMMEDIATE|WHENIDLE] [CLUSTERPORTS] mask ip... | [intfname] ip/len``.

    Options may come in any order; `intfname` may be left out, and then several IPv6 addresses
    may be given.
    """
    options = _read_options(cursor, _OWNED_MODES)
    operands = read_operands(cursor, statement, with_mask=True)
    _check_subnet(cursor, operands)
    return [
        Added(
            operand.token,
            Define(
                operand.address,
                operand.prefix_length or operand.address.max_prefixlen,
                options.moveable or Moveable.IMMEDIATE,
                operand.interface,
                options.cluster_ports,
                position=statement.position,
            ),
        )
        for operand in operands
    ]


def parse_backup(cursor: Cursor, statement: Token) -> list[Change]:
    """``VIPABACKUP [rank] [MOVEABLE IMMEDIATE|WHENIDLE mask] ip... | [intfname] ip[/len]``."""
    rank = _read_rank(cursor)
    options = _read_options(cursor, _OWNED_MODES)
    moveable = options.moveable
    operands = read_operands(cursor, statement, with_mask=moveable is not None)
    if moveable is None and operands:
        cursor.warn(
            statement,
            "without MOVEABLE this node never creates the DVIPA, it only takes over one that"
            " another node has activated",
            "Write MOVEABLE IMMEDIATE and the mask if it shall serve when it starts first.",
        )
    _check_subnet(cursor, operands)
    changes: list[Change] = []
    for operand in operands:
        length = operand.prefix_length
        if moveable is None and length is not None:
            remedy = "Write MOVEABLE IMMEDIATE, or leave the length out."
            cursor.error(operand.token, "a prefix length without MOVEABLE", remedy)
        elif moveable is not None and length is None:
            length = operand.address.max_prefixlen
        entry = Backup(
            operand.address,
            rank,
            moveable,
            length,
            operand.interface,
            options.cluster_ports,
            position=statement.position,
        )
        changes.append(Added(operand.token, entry))
    return changes


def _read_rank(cursor: Cursor) -> int:
    token = cursor.token
    if not is_number(token.text.lstrip("+-")):
        return MIN_RANK
    cursor.advance()
    rank = read_number(token.text, MIN_RANK, MAX_RANK)
    if rank is None:
        remedy = f"Give a number from {MIN_RANK} to {MAX_RANK}; the highest takes over first."
        cursor.error(token, "not a rank", remedy)
    return rank or MIN_RANK


def _check_subnet(cursor: Cursor, operands: list[Operand]) -> None:
    """All addresses of one statement lie in one subnet (D1), and are addresses of hosts in it."""
    first = operands[0] if operands else None
    for operand in operands:
        if first is None or operand.prefix_length is None or first.prefix_length is None:
            continue
        what = why_not_host(operand.address, operand.prefix_length)
        if what is not None:
            remedy = "Give an address between the two, or another mask."
            cursor.error(operand.token, f"is {what}", remedy)
        subnet = network_of(first.address, first.prefix_length)
        if operand.address not in subnet:
            remedy = "Write a statement of its own for each subnet, or correct the mask."
            cursor.error(operand.token, f"not in the same subnet as {first.address}", remedy)


def parse_range(cursor: Cursor, statement: Token) -> list[Change]:
    """``VIPARANGE [DEFINE|DELETE] [MOVEABLE NONDISRUPTIVE|DISRUPTIVE] mask ip``.

    For IPv6 ``[intfname] ip/len`` stands in place of ``mask ip``. Host bits are cut off.
    """
    action = cursor.take(k.DEFINE, k.DELETE)
    options = _read_options(cursor, _RANGE_MODES)
    operands = read_operands(cursor, statement, with_mask=True, networks=True)
    for extra in operands[1:]:
        cursor.error(extra.token, "a second address", "Write a VIPARANGE for each subnet.")
    while cursor.refuse_unsupported(k.UNSUPPORTED_IN_DEFINITIONS):
        pass
    changes: list[Change] = []
    for operand in operands[:1]:
        if operand.prefix_length is None:
            remedy = "Write the length of the subnet's prefix behind it, as in 2001:db8::/64."
            cursor.error(operand.token, "a range without a prefix length", remedy)
            continue
        subnet = network_of(operand.address, operand.prefix_length)
        what = why_not_routable(subnet)
        if what is not None:
            remedy = "Give a subnet of addresses that hosts can have."
            cursor.error(operand.token, f"the range {subnet} covers {what}", remedy)
        entry = Range(
            subnet.network_address,
            operand.prefix_length,
            options.moveable or Moveable.NONDISRUPTIVE,
            operand.interface,
            options.cluster_ports,
            position=statement.position,
        )
        added = action is not k.DELETE
        changes.append(Added(operand.token, entry) if added else RangeDeleted(operand.token, entry))
    return changes


def parse_delete(cursor: Cursor, statement: Token) -> list[Change]:
    """``VIPADELETE ip... | intfname``."""
    changes: list[Change] = []
    seen = False
    for token in cursor.items(names=True):
        seen = True
        reference = read_reference(cursor, token)
        if reference is not None:
            changes.append(Deleted(token, reference))
    if not seen:
        remedy = "Name the addresses or the IPv6 interface to be deleted."
        cursor.error(statement, "deletes nothing", remedy)
    return changes


def parse_route(cursor: Cursor, statement: Token) -> list[Change]:
    """``VIPAROUTE [DEFINE|DELETE] dynxcfip target_ip``."""
    action = cursor.take(k.DEFINE, k.DELETE)
    addresses: list[tuple[Token, Address]] = []
    what = ("the XCF address of the target", "the address at which the target is reached")
    for part in what:
        if cursor.ended():
            remedy = "Write VIPAROUTE, the target's XCF address, and the address to send to."
            cursor.error(statement, f"{part} is missing", remedy)
            return []
        token = cursor.advance()
        address = read_unicast(cursor, token)
        if address is None:
            cursor.skip_statement()
            return []
        addresses.append((token, address))
    (token, xcf), (target_token, target) = addresses
    if isinstance(xcf, IPv4Address) is not isinstance(target, IPv4Address):
        remedy = "Give two IPv4 or two IPv6 addresses."
        cursor.error(target_token, f"not of the family of {xcf}", remedy)
    entry = Route(xcf, target, position=statement.position)
    return [RangeDeleted(token, entry) if action is k.DELETE else Added(token, entry)]
