"""wrk as a client of the lab: its script, its command line, and what it counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dvipad.address import Address
from dvipad.lab.spec import LabError

_SCRIPT: Final = """\
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() servers = {} end
function response(status, headers, body)
  local name = status == 200 and body:match("^%w+") or "wrong-answer"
  servers[name] = (servers[name] or 0) + 1
end
function done(summary)
  for _, thread in ipairs(threads) do
    for name, count in pairs(thread:get("servers")) do print("server " .. name .. " " .. count) end
  end
  for _, kind in ipairs({"connect", "read", "write", "timeout"}) do
    print("errors " .. kind .. " " .. summary.errors[kind])
  end
  print("requests all " .. summary.requests)
  print("microseconds all " .. summary.duration)
end
"""


@dataclass(frozen=True, slots=True)
class WrkResult:
    """`servers`: name that the answers gave → how many; `errors`: kind → how many, if any."""

    servers: Mapping[str, int]
    errors: Mapping[str, int]
    requests: int
    seconds: float

    @property
    def rate_per_s(self) -> float:
        """Requests answered per second."""
        return self.requests / self.seconds


def url_of(address: Address, port: int) -> str:
    """The URL of a server."""
    return f"http://[{address}]:{port}/" if address.version == 6 else f"http://{address}:{port}/"


def command(
    url: str,
    folder: Path,
    *,
    connections: int,
    seconds: int,
    new_connections: bool,
    timeout_s: int = 2,
) -> list[str]:
    """The command line, its script written into `folder`; `new_connections`: one per request.

    An answer that takes longer than `timeout_s` is an error.
    """
    script = folder / "wrk.lua"
    script.write_text(_SCRIPT)
    close = ["-H", "Connection: close"] if new_connections else []
    load = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{timeout_s}s"]
    return ["wrk", *load, "-s", str(script), *close, url]


def parse(lines: Iterable[str]) -> WrkResult:
    """What wrk and its script printed; raises :class:`LabError` when the figures are not there."""
    printed = list(lines)
    found: dict[str, dict[str, int]] = {}
    for line in printed:
        words = line.split()
        if len(words) == 3 and words[0] in ("server", "errors", "requests", "microseconds"):
            counts = found.setdefault(words[0], {})
            counts[words[1]] = counts.get(words[1], 0) + int(float(words[2]))
    try:
        return WrkResult(
            servers=found.get("server", {}),
            errors={kind: count for kind, count in found["errors"].items() if count},
            requests=found["requests"]["all"],
            seconds=found["microseconds"]["all"] / 1e6,
        )
    except KeyError:
        raise LabError(f"wrk: {' '.join(printed) or 'it said nothing'}") from None
