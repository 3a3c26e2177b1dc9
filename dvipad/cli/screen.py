"""The picture of `dvipactl top`, from two looks at the daemon."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dvipad.cli.events import line

Row: TypeAlias = dict[str, Any]
SORTS: Final = ("dvipa", "node", "rate", "total")
SHOWN: Final = {
    "plane": ("queued", "chosen", "worker_budget", "worker_window", "worker_dead", "no_service",
              "collecting", "established_full", "no_target", "unseen", "fragment", "too_big"),
    "queue": ("packets", "truncated", "no_target", "errors", "restarts", "hung"),
    "runner": ("backlog", "failures"),
}  # fmt: skip
"""Counters that matter: who decides, what a flood does, what is dropped."""
_STYLES: Final = {"ACTIVE": "green", "BACKUP": "cyan", "MOVING": "yellow", "QUIESCING": "yellow",
                  "DEACTIVATED": "red", "dead": "red", "lost": "yellow", "warning": "yellow",
                  "error": "red", "critical": "red"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at the daemon at `at_s` of the monotonic clock, and the one before it."""

    at_s: float
    view: Row
    counters: Row
    events: list[Row]
    before: Sight | None

    def alone(self) -> Sight:
        """This look, without the one before it."""
        return replace(self, before=None)

    def targets(self) -> list[Row]:
        """The targets, with new connections per second; None for the first look."""
        before = self.before
        old = {_place(row): row["total"] for row in before.view["targets"]} if before else {}
        return [row | {"rate": self._rate(row["total"], old.get(_place(row)))}
                for row in self.view["targets"]]  # fmt: skip

    def counted(self) -> list[Row]:
        """The counters of `SHOWN` that the daemon has, with their growth per second."""
        old = self.before.counters if self.before else {}
        return [
            {"name": f"{group}.{name}", "value": values[name],
             "rate": self._rate(values[name], old.get(group, {}).get(name))}
            for group, names in SHOWN.items()
            for values in (self.counters.get(group, {}),)
            for name in names if name in values
        ]  # fmt: skip

    def as_json(self) -> Row:
        """All that is shown, for scripts."""
        view = {key: self.view[key] for key in ("name", "joined", "troubles", "members", "dvipas")}
        return view | {"targets": self.targets(), "counters": self.counted(), "events": self.events}

    def _rate(self, new: int, old: int | None) -> float | None:
        if old is None or self.before is None or new < old:  # a counter that began again
            return None
        return round((new - old) / max(self.at_s - self.before.at_s, 0.001), 1)


def _place(row: Row) -> tuple[str, int, str]:
    return row["dvipa"], row["port"], row["xcf"]


def screen(
    sight: Sight | None, sort: str, word: str, height: int | None, status: str = ""
) -> RenderableType:
    """The picture in at most `height` lines (None: as many as it takes); `status`: last line."""
    if sight is None:
        return Text(status)
    view = sight.view
    blocks: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = [
        (("NODE", "XCF", "LIFE", "RELEASE", "MESH", "TROUBLES"),
         [(row["name"], row["xcf"], row["life"], row["release"] or "",
           str(row["mesh_version"] or ""), ", ".join(row["troubles"]))
          for row in view["members"]]),
        (("DVIPA", "STATUS", "DIST", "OWNER", "EPOCH", "RANK"),
         [(row["dvipa"], row["status"], row["dist_status"], row["owner"] or "nobody",
           str(row["epoch"]), str(row["rank"])) for row in view["dvipas"]]),
        (("TARGET OF", "NODE", "READY", "TOTAL", "NEW/S"),
         [(f"{row['dvipa']}..{row['port']}", row["name"], str(row["ready"]), str(row["total"]),
           _rate(row["rate"])) for row in _sorted(sight.targets(), sort)]),
        (("COUNTER", "VALUE", "PER S"),
         [(row["name"], str(row["value"]), _rate(row["rate"])) for row in sight.counted()
          if row["value"]]),
        (("EVENTS",), [(line(row),) for row in reversed(sight.events)]),
    ]  # fmt: skip
    kept = [(head, [row for row in rows if _has(row, word)]) for head, rows in blocks]
    limits = _limits([len(rows) for _, rows in kept], height)
    parts: list[RenderableType] = [_title(view)]
    parts += [_table(head, rows, limit) for (head, rows), limit in zip(kept, limits, strict=True)]
    if status:
        parts.append(Text(status, style="reverse", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _title(view: Row) -> Text:
    state = "joined" if view["joined"] else "joining"
    troubles = ", ".join(view["troubles"])
    text = Text(f"{view['name']} {state}", style="bold", no_wrap=True, overflow="ellipsis")
    return text.append(f"  trouble: {troubles}", style="red") if troubles else text


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _sorted(rows: list[Row], sort: str) -> list[Row]:
    if sort == "node":
        return sorted(rows, key=lambda row: str(row["name"]))
    if sort in ("rate", "total"):
        return sorted(rows, key=lambda row: row[sort] or 0, reverse=True)
    return rows  # as the daemon orders them


def _has(row: tuple[str, ...], word: str) -> bool:
    return word.lower() in " ".join(row).lower()


def _limits(sizes: list[int], height: int | None) -> list[int]:
    """Rows of each block: the smallest get all that they want, the rest is shared."""
    if height is None:
        return sizes
    room = max(0, height - 2 - len(sizes))  # title, status, and a line of heads for each
    limits = [0] * len(sizes)
    for left, index in enumerate(sorted(range(len(sizes)), key=lambda index: sizes[index])):
        limits[index] = min(sizes[index], room // (len(sizes) - left))
        room -= limits[index]
    return limits


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], limit: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    hidden = len(rows) - limit
    for number, name in enumerate(head):
        more = f" ({limit} of {len(rows)})" if hidden and not number else ""
        table.add_column(name + more, no_wrap=True, overflow="ellipsis")
    for row in rows[:limit]:
        table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    return table


def _style(cell: str) -> str:
    words = cell.split(maxsplit=3)
    return _STYLES.get(cell, "") or (_STYLES.get(words[2], "") if len(words) > 3 else "")
