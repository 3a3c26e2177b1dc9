"""Masks, addresses and interface names as statements list them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias

from dvipad.address import Address
from dvipad.config import keywords as k
from dvipad.config.cursor import Cursor
from dvipad.config.tokens import Token
from dvipad.config.values import (
    looks_like_address,
    read_address,
    read_ipv6_with_length,
    read_mask,
    read_name,
    why_not_unicast,
)

Reference: TypeAlias = Address | str
"""How a later statement names a DVIPA: by its address, or by its IPv6 interface name."""


@dataclass(frozen=True, slots=True)
class Operand:
    """One address of a definition. `prefix_length` None: none was given."""

    token: Token
    address: Address
    prefix_length: int | None
    interface: str | None = None


def read_unicast(cursor: Cursor, token: Token) -> Address | None:
    """The host address `token`; reports anything else."""
    address = read_address(token.text)
    if address is None:
        remedy = "Write an IPv4 address as 192.0.2.1 or an IPv6 address as 2001:db8::1."
        if "/" in token.text:
            remedy = f"No prefix length belongs here. {remedy}"
        cursor.error(token, "not an address", remedy)
        return None
    return address if check_unicast(cursor, token, address) else None


def check_unicast(cursor: Cursor, token: Token, address: Address) -> bool:
    """Reports an `address` that no host can have on a network."""
    what = why_not_unicast(address)
    if what is None:
        return True
    remedy = "Give the unicast address of a host."
    if read_mask(address) is not None:
        remedy = "A mask belongs behind MOVEABLE IMMEDIATE, before the addresses."
    cursor.error(token, f"is {what}", remedy)
    return False


def read_reference(cursor: Cursor, token: Token) -> Reference | None:
    """The address or interface name `token`; reports anything else."""
    if not looks_like_address(token.text):
        name = read_name(token.text)
        if name is not None and k.find(token.text, k.RESERVED) is None:
            return name
    return read_unicast(cursor, token)


def read_operands(
    cursor: Cursor, statement: Token, *, with_mask: bool, networks: bool = False
) -> list[Operand]:
    """``mask ipv4...`` (or ``ipv4...`` without mask), ``[intfname] ipv6[/len]...``.

    `networks`: the addresses are those of subnets. Every problem is reported; what could be
    read is returned, so that later statements find it.
    """
    first = cursor.token
    if cursor.ended():
        missing = "mask and address are" if with_mask else "the address is"
        cursor.error(statement, f"{missing} missing", _form(with_mask))
        return []
    interface = _read_interface(cursor)
    if interface is None and isinstance(read_address(first.text), IPv4Address):
        return _read_ipv4(cursor, with_mask=with_mask, networks=networks)
    return _read_ipv6(cursor, interface, networks=networks, with_mask=with_mask)


def _form(with_mask: bool) -> str:
    mask = "255.255.255.0 " if with_mask else ""
    return f"Write {mask}192.0.2.10 for IPv4, or NAME 2001:db8::10 for IPv6."


def _read_interface(cursor: Cursor) -> str | None:
    token, after = cursor.token, cursor.ahead()
    if looks_like_address(token.text) or ":" not in after.text:
        return None
    name = read_name(token.text)
    if name is None or k.find(token.text, k.RESERVED) is not None:
        remedy = "Give at most 16 letters and digits, starting with a letter, and no keyword."
        cursor.error(token, "not an interface name", remedy)
    cursor.advance()
    return name or token.upper


def _read_ipv4(cursor: Cursor, *, with_mask: bool, networks: bool) -> list[Operand]:
    prefix_length: int | None = None
    first = cursor.token
    if with_mask:
        prefix_length = read_mask(read_address(first.text))
        if prefix_length is None:
            remedy = "Write the mask before the addresses, as in 255.255.255.0 192.0.2.10."
            cursor.error(first, "not a mask", remedy)
        if prefix_length is not None or cursor.ahead().text[:1].isdigit():
            cursor.advance()
    operands, given = [], False
    for token in cursor.items(*_trailing(networks)):
        given = True
        address = _read_one(cursor, token, networks)
        if isinstance(address, IPv4Address):
            operands.append(Operand(token, address, prefix_length))
        elif address is not None:
            remedy = "Write a statement of its own for IPv6 addresses; they take no mask."
            cursor.error(token, "an IPv6 address among IPv4 addresses", remedy)
    if not given:
        cursor.error(first, "a mask without an address", _form(True))
    return operands


def _trailing(networks: bool) -> tuple[k.Keyword, ...]:
    """Options that follow the address of a VIPARANGE."""
    if not networks:
        return ()
    return tuple(entry.keyword for entry in k.UNSUPPORTED_IN_DEFINITIONS)


def _read_one(cursor: Cursor, token: Token, networks: bool) -> Address | None:
    address = read_address(token.text)
    if address is not None:
        return address if networks or check_unicast(cursor, token, address) else None
    if "/" in token.text:
        remedy = "Write the mask before the addresses: 255.255.255.0 192.0.2.10."
        if ":" in token.text:
            remedy = "Write 2001:db8::10/64, in a statement without IPv4 mask."
    else:
        options = (k.MOVEABLE, k.IMMEDIATE, k.WHENIDLE, k.NONDISRUPTIVE, k.DISRUPTIVE)
        words = (keyword.name for keyword in (*options, k.CLUSTERPORTS, *k.BOUNDARIES))
        otherwise = "Options come before mask and addresses; a new statement starts with its name."
        remedy = k.did_you_mean(token.text, words, otherwise)
    cursor.error(token, "not an address", remedy)
    return None


def _read_ipv6(
    cursor: Cursor, interface: str | None, *, networks: bool, with_mask: bool
) -> list[Operand]:
    operands: list[Operand] = []
    for token in cursor.items(*_trailing(networks)):
        pair = read_ipv6_with_length(token.text)
        if pair is None:
            _report_not_ipv6(cursor, token, after_ipv6=bool(operands), with_mask=with_mask)
            continue
        address, length = pair
        if not networks and not check_unicast(cursor, token, address):
            continue
        if interface is not None and operands:
            remedy = "Write a statement with another interface name for it."
            cursor.error(token, f"a second address for interface {interface}", remedy)
            continue
        operands.append(Operand(token, address, length, interface))
    return operands


def _report_not_ipv6(cursor: Cursor, token: Token, *, after_ipv6: bool, with_mask: bool) -> None:
    if after_ipv6 and isinstance(read_address(token.text), IPv4Address):
        remedy = "Write a statement of its own for IPv4 addresses."
        cursor.error(token, "an IPv4 address among IPv6 addresses", remedy)
        return
    if ":" in token.text:
        remedy = "Write it as 2001:db8::10 or, with the length of its prefix, 2001:db8::10/64."
        cursor.error(token, "not an IPv6 address", remedy)
        return
    words = (k.MOVEABLE, k.IMMEDIATE, k.WHENIDLE, k.CLUSTERPORTS, k.SYSPLEXPORTS, *k.BOUNDARIES)
    remedy = k.did_you_mean(token.text, (word.name for word in words), _form(with_mask))
    what = "not an address" if looks_like_address(token.text) else "not an option, nor an address"
    cursor.error(token, what, remedy)
