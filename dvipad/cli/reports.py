"""NETSTAT reports of z/OS as text, from the JSON that the daemon answers.

Fields and their order follow the long form of the reports (z/OS IP System Administrator's
Commands, NETSTAT VIPADCFG, VIPADYN, VDPT, VCRT).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from dvipad.config.model import OWNER_RANK
from dvipad.core.fitness import Fitness

Json: TypeAlias = Mapping[str, Any]

_WEIGHT_MARK = {"base": "B", "server": "S", "announced": "A", "figures": "F", "default": "?"}
"""Behind a weight: whose it is; ``?``: the target said nothing. None: WEIGHT of the profile."""
_DIST = {"none": "", "distributor": "Dist", "target": "Dest", "both": "Dist/Dest"}


def vipadcfg(profile: Json) -> list[str]:
    """Configuration: a section for each kind of statement that the profile has."""
    lines = ["Dynamic VIPA Information:"]
    for title, key, fields in (
        ("VIPA Backup", "backups", _backup),
        ("VIPA Define", "defines", _define),
        ("VIPA Range", "ranges", _range),
        ("VIPA Distribute", "distributes", _distribute),
        ("VIPA Route", "routes", _route),
    ):
        rows = profile[key]
        if rows:
            lines.append(f"  {title}:")
            for row in rows:
                lines += [f"    {line}" for line in fields(row)]
    return lines


def _prefixed(address: str, length: int | None) -> str:
    return address if length is None else f"{address}/{length}"


def _backup(row: Json) -> list[str]:
    return [
        f"IpAddr/PrefixLen: {_prefixed(row['dvipa'], row['prefix_length'])}",
        f"  Rank: {row['rank']}  Moveable: {(row['moveable'] or '').capitalize()}",
    ]


def _define(row: Json) -> list[str]:
    return [
        f"IpAddr/PrefixLen: {_prefixed(row['dvipa'], row['prefix_length'])}",
        f"  Moveable: {row['moveable'].capitalize()}",
    ]


def _range(row: Json) -> list[str]:
    return [
        f"IpAddr/PrefixLen: {_prefixed(row['network'], row['prefix_length'])}",
        f"  Moveable: {row['moveable'].capitalize()}",
    ]


def _route(row: Json) -> list[str]:
    return [f"DestXCF: {row['xcf']}", f"  TargetIp: {row['target']}"]


def _ports(ranges: Iterable[Json]) -> str:
    texts = [
        str(span["first"]) if span["first"] == span["last"] else f"{span['first']}-{span['last']}"
        for span in ranges
    ]
    return " ".join(texts) or "n/a"


def _distribute(row: Json) -> list[str]:
    lines = []
    targets = row["targets"]
    for target in targets if targets is not None else [None]:
        lines.append(f"Dest:      {row['dvipa']}..{_ports(row['ports'])}")
        lines.append(f"  DestXCF:   {'ALL' if target is None else target['xcf']}")
        weight = "" if target is None else f"  Weight: {target['weight']}"
        lines.append(
            f"    DistMethod: {row['method'].capitalize()}{weight}"
            f"  SysPt: {_yes(row['cluster_ports'])}  TimAff: {row['timed_affinity_s'] or 'No'}"
            f"  OptLoc: {'No' if row['optlocal'] is None else row['optlocal']}"
        )
    return lines


def _yes(flag: bool) -> str:
    return "Yes" if flag else "No"


def vipadyn(view: Json) -> list[str]:
    """Current DVIPAs of this node."""
    lines = [f"Trouble: {trouble}" for trouble in view["troubles"]]
    lines.append("Dynamic VIPA:")
    for row in view["dvipas"]:
        active = row["since_ms"] and datetime.fromtimestamp(
            (view["wall_ms"] - view["now_ms"] + row["since_ms"]) / 1000, UTC
        )
        lines += [
            f"  IpAddr/PrefixLen: {_prefixed(row['dvipa'], row['prefix_length'])}",
            f"    Status: {row['status'].capitalize():<10} Origin: {row['origin']:<11}"
            f" DistStat: {_DIST[row['dist_status']]}",
            f"    ActTime: {f'{active:%Y-%m-%d %H:%M:%S}Z' if active else 'n/a'}"
            f"  Moveable: {row['moveable'].capitalize()}",
            f"    Rank: {row['rank']}  Owner: {row['owner'] or 'nobody'}  Epoch: {row['epoch']}",
            *_last_decision(row["last_decision"]),
        ]
    lines.append(f"{len(view['dvipas'])} of {len(view['dvipas'])} records displayed")
    return lines


def sysplex(view: Json) -> list[str]:
    """Nodes of the cluster, as this one sees them."""
    state = "joined" if view["joined"] else "not joined"
    lines = [f"Sysplex Members seen by {view['name']} ({state}):"]
    for row in view["members"]:
        lines += [
            f"  Node: {row['name']:<12} XCF: {row['xcf']}",
            f"    Life: {row['life']:<5} Release: {row['release'] or 'n/a':<11}"
            f" MeshVersion: {row['mesh_version'] or 'n/a'}",
            *(f"    Trouble: {trouble}" for trouble in row["troubles"]),
        ]
    lines += [f"  Refused: {row['xcf']}: {row['reason']}" for row in view["refused"]]
    lines.append(f"{len(view['members'])} of {len(view['members'])} records displayed")
    return lines


def _last_decision(decision: Json | None) -> list[str]:
    if decision is None:
        return []
    at = datetime.fromtimestamp(decision["wall_ms"] / 1000, UTC)
    return [f"    Last: {at:%Y-%m-%d %H:%M:%S}Z {decision['trigger']}: {decision['action']}"]


def vdpt(view: Json) -> list[str]:
    """The destination port table; only a distributor has one."""
    lines = ["Dynamic VIPA Destination Port Table:"]
    for row in view["targets"]:
        fitness = Fitness(**row["fitness"])
        flags = row["method"].capitalize()
        if row["offload"]:
            flags += ",Offload"
        if row["standby_rank"] is not None:
            flags += ",Active" if row["active"] else ",Backup" if row["ready"] else ",Inactive"
        lines += [
            f"Dest:      {row['dvipa']}..{row['port']}",
            f"  DestXCF:   {row['xcf']}  Node: {row['name']}",
            f"  TotalConn: {row['total']:010d}  Rdy: {row['ready']:03d}"
            f"  WLM: {row['weight']:02d}{_WEIGHT_MARK.get(row['source'], '')}"
            f"  TSR: {fitness.tsr:03d}",
            f"  TCSR: {fitness.tcsr:03d}  CER: {fitness.cer:03d}  SEF: {fitness.sef:03d}"
            f"  W/Q: {round(row['weight'] * fitness.left / 100):02d}",
            *_active(row["connections"]),
            f"  DistMethod: {row['method'].capitalize()}{_standby(row['standby_rank'])}",
            f"  Flg: {flags}",
        ]
    lines.append(f"{len(view['targets'])} of {len(view['targets'])} records displayed")
    return lines


def _active(connections: int | None) -> list[str]:
    """Of methods that go by it."""
    return [] if connections is None else [f"  ActiveConn: {connections:010d}"]


def _standby(rank: int | None) -> str:
    """SrvType of a target of HOTSTANDBY."""
    if rank is None:
        return ""
    return "  SrvType: Preferred" if rank == OWNER_RANK else f"  SrvType: Backup  Rank: {rank}"


def vcrt(answer: Json) -> list[str]:
    """The connection routing table."""
    lines = ["Dynamic VIPA Connection Routing Table:"]
    for row in answer["rows"]:
        lines += [
            f"Dest:      {row['dvipa']}..{row['dvipa_port']}",
            f"  Source:    {row['client']}..{row['client_port']}",
            f"  DestXCF:   {row['target'] or 'gone'}  State: {_connection_state(row)}",
        ]
    lines.append(f"{len(answer['rows'])} of {answer['total']} records displayed")
    return lines


def _connection_state(row: Json) -> str:
    if row["closing"]:
        return "Closing"
    return "Established" if row["established"] else "Embryonic"
