"""`dvipactl status`: status objects, their figures, and what follows from them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, Final

from dvipad.cli.ask import ask

_STATUS: Final = """\
Status objects of this node and what they read last; figures of all nodes that tell this one, as all
do that it distributes to; what its preferences make of the targets; and names in the DNS that
follow the preferred server or farm. A status object that failed takes its instance out; one that
says rubbish takes nothing out, and its figures count as not known."""


def add_parser(commands: Any, finish: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds ``status`` to the commands; `finish` adds what all commands have."""
    status = commands.add_parser(
        "status", help="status objects, and who is preferred", description=_STATUS
    )
    status.set_defaults(run=_status)
    finish(status)


def _status(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    answer = ask(arguments.socket, {"command": "status"})
    answer.pop("ok")
    lines = [line for row in answer["objects"] for line in _object(row)]
    lines += [
        f"Node: {name}  {_figures(found)}" for name, found in sorted(answer["figures"].items())
    ]
    lines += [line for row in answer["services"] for line in _service(row)]
    lines += [line for row in answer["names"] for line in _name(row)]
    counts = f"{len(answer['objects'])} status objects, {len(answer['names'])} names"
    return answer, [*lines, counts]


def _figures(found: Mapping[str, float]) -> str:
    return "  ".join(f"{name}: {value:g}" for name, value in sorted(found.items())) or "nothing"


def _object(row: Mapping[str, Any]) -> list[str]:
    place = "" if row["port"] is None else f"  Port: {row['dvipa'] or '*'}..{row['port']}"
    result = row["result"] or "not read yet"
    lines = [f"Object: {row['object']}  Kind: {row['kind']}{place}  Result: {result}"]
    lines.append(f"  {_figures(row['figures'])}  {row['age_s']:.1f} s ago")
    if row["detail"]:
        lines.append(f"  {row['detail']}")
    return lines


def _service(row: Mapping[str, Any]) -> list[str]:
    farm = f"  Farm: {row['farm']}" if row["farm"] else ""
    weights = "  ".join(
        f"{target['name']}: {target['weight']}" for target in row["targets"] if target["ready"]
    )
    return [
        f"Service: {row['dvipa']}..{row['port']}  Preference: {row['preference']}  "
        f"Preferred: {row['server'] or 'nobody'}{farm}",
        f"  Weights: {weights or 'no target is ready'}",
    ]


def _name(row: Mapping[str, Any]) -> list[str]:
    if not row["wanted"] and not row["error"]:
        return [f"Name: {row['name']}  another node keeps it, or no target was ready yet"]
    waits = "" if row["wanted"] == row["has"] else "  Zone: waits"
    lines = [f"Name: {row['name']}  Address: {row['wanted'] or 'none'}  Of: {row['who']}{waits}"]
    return lines if not row["error"] else [*lines, f"  {row['error']}"]
