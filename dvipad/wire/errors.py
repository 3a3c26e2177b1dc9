"""Errors of the other end: drop that peer, count why."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """What a peer did wrong: the keyword under which it is counted."""

    MAGIC = "magic"
    """The bytes are not a frame: another protocol, or a lost boundary."""
    VERSION = "version"
    """Another version of frames or of the protocol."""
    TOO_LONG = "too_long"
    """A frame, text, list or batch of connections longer than its limit."""
    JSON = "json"
    """The header of a frame is not a JSON object in UTF-8."""
    MISSING_FIELD = "missing_field"
    """A field that has no default is not there."""
    WRONG_TYPE = "wrong_type"
    """A field of another type than the message says."""
    WRONG_VALUE = "wrong_value"
    """A field of the right type with a value that cannot be."""
    UNEXPECTED = "unexpected"
    """A message that the state of the session does not allow."""
    CLUSTER = "cluster"
    """It belongs to another cluster."""
    OWN_NAME = "own_name"
    """It has the name of this node: a copied configuration, or this node itself."""
    NAME_TAKEN = "name_taken"
    """Another node of that name, at another address, is up."""
    STALE = "stale"
    """An older incarnation of a peer that is up."""
    DUPLICATE = "duplicate"
    """A second connection of a peer that is up; not an offence, and refused all the same."""
    TOO_MANY = "too_many"
    """One peer, or one connection before its Hello, more than there is room for."""


class RemoteProtocolError(Exception):
    """The other end broke the protocol, or may not take part: drop it.

    `reason` is the counted keyword, `detail` what exactly, for the log.
    """

    def __init__(self, reason: Fault, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
