"""Keywords of the profile, their shortest forms, and those that dvipad will not have.

A keyword is written here as in the syntax diagrams of z/OS: its capitals are its shortest
abbreviation, every longer prefix works too, in any case.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword's full name and the length of its shortest abbreviation."""

    name: str
    minimum: int

    def matches(self, word: str) -> bool:
        """Whether `word` is this keyword, possibly abbreviated, in any case."""
        long_enough = len(word) >= self.minimum and word.isascii()
        return long_enough and self.name.startswith(word.upper())


def _keyword(diagram: str) -> Keyword:
    capitals = re.match(r"[A-Z0-9]+", diagram)
    assert capitals is not None
    return Keyword(diagram.upper(), capitals.end())


VIPADYNAMIC: Final = _keyword("VIPADynamic")
ENDVIPADYNAMIC: Final = _keyword("ENDVIPADynamic")

VIPADEFINE: Final = _keyword("VIPADEFine")
VIPABACKUP: Final = _keyword("VIPABackup")
VIPADELETE: Final = _keyword("VIPADELete")
VIPADISTRIBUTE: Final = _keyword("VIPADISTribute")
VIPARANGE: Final = _keyword("VIPARange")
VIPAROUTE: Final = _keyword("VIPAROUTE")
VIPASMPARMS: Final = _keyword("VIPASMparms")

STATEMENTS: Final = (
    VIPADEFINE,
    VIPABACKUP,
    VIPADELETE,
    VIPADISTRIBUTE,
    VIPARANGE,
    VIPAROUTE,
)
BOUNDARIES: Final = (*STATEMENTS, VIPASMPARMS, VIPADYNAMIC, ENDVIPADYNAMIC)
"""Words that end the statement before them, wherever they stand."""

DEFINE: Final = _keyword("DEFINE")
DELETE: Final = _keyword("DELEte")
MOVEABLE: Final = _keyword("MOVEable")
IMMEDIATE: Final = _keyword("IMMEDiate")
WHENIDLE: Final = _keyword("WHENIDLE")
NONDISRUPTIVE: Final = _keyword("NONDISRUPTive")
DISRUPTIVE: Final = _keyword("DISRUPTive")
CLUSTERPORTS: Final = _keyword("CLUSTERPorts")
SYSPLEXPORTS: Final = _keyword("SYSPLEXPorts")

DISTMETHOD: Final = _keyword("DISTMethod")
ROUNDROBIN: Final = _keyword("ROUNDROBIN")
BASEWLM: Final = _keyword("BASEWLM")
SERVERWLM: Final = _keyword("SERVERWLM")
WEIGHTEDACTIVE: Final = _keyword("WEIGHTEDActive")
TARGCONTROLLED: Final = _keyword("TARGCONTROLLED")
HOTSTANDBY: Final = _keyword("HOTSTANDBY")
LEASTCONN: Final = _keyword("LEASTCONN")
METHODS: Final = (
    ROUNDROBIN,
    BASEWLM,
    SERVERWLM,
    WEIGHTEDACTIVE,
    TARGCONTROLLED,
    HOTSTANDBY,
    LEASTCONN,
)

AUTOSWITCHBACK: Final = _keyword("AUTOSWITCHBACK")
NOAUTOSWITCHBACK: Final = _keyword("NOAUTOSWITCHBACK")
HEALTHSWITCH: Final = _keyword("HEALTHSWITCH")
NOHEALTHSWITCH: Final = _keyword("NOHEALTHSWITCH")
STANDBY_OPTIONS: Final = (AUTOSWITCHBACK, NOAUTOSWITCHBACK, HEALTHSWITCH, NOHEALTHSWITCH)

OPTLOCAL: Final = _keyword("OPTLOCAL")
NOOPTLOCAL: Final = _keyword("NOOPTLOCAL")
TIMEDAFFINITY: Final = _keyword("TIMEDAFFinity")
AUTOAFFINITY: Final = _keyword("AUTOAFFinity")
PAUSE: Final = _keyword("PAUSE")
OFFLOAD: Final = _keyword("OFFLOAD")
DISTRIBUTE_OPTIONS: Final = (
    DISTMETHOD,
    *STANDBY_OPTIONS,
    OPTLOCAL,
    NOOPTLOCAL,
    TIMEDAFFINITY,
    AUTOAFFINITY,
    SYSPLEXPORTS,
    CLUSTERPORTS,
    PAUSE,
    OFFLOAD,
)

PORT: Final = _keyword("PORT")
DESTIP: Final = _keyword("DESTIP")
ALL: Final = _keyword("ALL")
WEIGHT: Final = _keyword("WEIGHT")
PREFERRED: Final = _keyword("PREFERRED")
BACKUP: Final = _keyword("BACKUP")


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A keyword of z/OS that dvipad will not have: why, and what to do instead.

    `arguments`: how many words after it belong to it. `pairs`: words that, each with a number
    behind it, belong to it.
    """

    keyword: Keyword
    remedy: str
    arguments: int = 0
    pairs: tuple[str, ...] = ()


_NO_TIERS: Final = (
    "Remove it: a VIPADISTRIBUTE of dvipad names all the targets itself, in one tier."
)
_NO_PROCESSORS: Final = (
    "Remove it: zAAP and zIIP processors exist on the mainframe only; WEIGHTEDACTIVE with"
    " WEIGHT says how much work a target takes."
)

UNSUPPORTED_IN_DEFINITIONS: Final = (
    Unsupported(_keyword("TIER1"), _NO_TIERS),
    Unsupported(_keyword("TIER2"), _NO_TIERS),
    Unsupported(_keyword("CPCSCOPE"), _NO_TIERS),
    Unsupported(
        _keyword("SERVICEMGR"),
        "Remove it: the Cisco service manager is gone; VIPADISTRIBUTE needs no help from routers.",
    ),
    Unsupported(
        _keyword("SAF"),
        "Remove it with its resource name: who may activate an address is decided by the"
        " permissions of the control socket.",
        arguments=1,
    ),
    Unsupported(_keyword("ZCX"), "Remove it: containers bind DVIPAs like any other process."),
)

UNSUPPORTED_IN_DISTRIBUTE: Final = (
    Unsupported(_keyword("PROCTYPE"), _NO_PROCESSORS, pairs=("CP", "ZAAP", "ZIIP")),
    Unsupported(_keyword("PROCXCOST"), _NO_PROCESSORS, pairs=("ZAAP", "ZIIP")),
    Unsupported(
        _keyword("ILWEIGHTING"),
        "Remove it: Linux has no importance levels; WEIGHTEDACTIVE with WEIGHT is the substitute.",
        arguments=1,
    ),
    Unsupported(_keyword("TIER1"), _NO_TIERS, arguments=1),
    Unsupported(_keyword("TIER2"), _NO_TIERS, arguments=1),
    Unsupported(
        _keyword("GRE"), "Remove it, and say 'tunnel: gre' in the node file: it holds for all."
    ),
    Unsupported(
        _keyword("ENCAP"), "Remove it, and say 'tunnel: ipip' in the node file: it holds for all."
    ),
    Unsupported(
        _keyword("CONTROLPORT"),
        "Remove it: targets report through the mesh, whose port is 'mesh: {port: ...}' of the"
        " node file.",
        arguments=1,
    ),
    Unsupported(
        _keyword("EXTTARG"), "Remove it, and run dvipad on the target: every target is a node."
    ),
)

FOREIGN_STATEMENTS: Final = {
    "IPCONFIG": "Remove it: the XCF address is 'xcf:' of the node file.",
    "IPCONFIG6": "Remove it: the XCF address is 'xcf:' of the node file.",
    "GLOBALCONFIG": "Remove it: how failures are detected is 'timers:' of the node file.",
    "TCPCONFIG": "Remove it: ephemeral ports are 'sysctl net.ipv4.ip_local_port_range' of Linux.",
    "PORT": "Remove it: Linux reserves no ports; AUTOAFFINITY is an option of VIPADISTRIBUTE here.",
    "SRCIP": "Remove it: a program chooses its source address itself, a host with 'ip route'.",
    "HOME": "Remove it: addresses of the host belong to the network configuration of Linux.",
    "DEVICE": "Remove it: interfaces belong to the network configuration of Linux.",
    "LINK": "Remove it: interfaces belong to the network configuration of Linux.",
    "INTERFACE": "Remove it: interfaces belong to the network configuration of Linux.",
    "BEGINROUTES": "Remove it: routes belong to the network configuration of Linux.",
    "INCLUDE": "Put the statements here: a node has one profile, in one file.",
}
"""Statements of a PROFILE.TCPIP around the block, and where dvipad has what they say."""

RESERVED: Final = (
    *BOUNDARIES,
    DEFINE,
    DELETE,
    MOVEABLE,
    IMMEDIATE,
    WHENIDLE,
    NONDISRUPTIVE,
    DISRUPTIVE,
    *DISTRIBUTE_OPTIONS,
    *METHODS,
    PORT,
    DESTIP,
    ALL,
    WEIGHT,
    PREFERRED,
    BACKUP,
    *(entry.keyword for entry in UNSUPPORTED_IN_DEFINITIONS),
    *(entry.keyword for entry in UNSUPPORTED_IN_DISTRIBUTE),
)
"""Words that cannot name an IPv6 interface."""


def find(word: str, keywords: Iterable[Keyword]) -> Keyword | None:
    """That one of `keywords` which `word` spells or abbreviates."""
    return next((keyword for keyword in keywords if keyword.matches(word)), None)


def find_unsupported(word: str, table: Iterable[Unsupported]) -> Unsupported | None:
    """That entry of `table` whose keyword `word` is."""
    return next((entry for entry in table if entry.keyword.matches(word)), None)


def did_you_mean(word: str, candidates: Iterable[str], otherwise: str) -> str:
    """A remedy that proposes the candidate most like `word`, or `otherwise` when none is."""
    close = difflib.get_close_matches(word.upper()[:40], list(candidates), 1, 0.6)
    return f"Did you mean {close[0]}? {otherwise}" if close else otherwise


def names(keywords: Iterable[Keyword]) -> str:
    """The full names of `keywords`, for a remedy."""
    return ", ".join(keyword.name for keyword in keywords)
