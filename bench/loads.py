"""What the client does, and what it counts: wrk, iperf3, and requests at a fixed rate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.build import c_program
from bench.rivals import BULK_PORT, CLIENT
from dvipad.address import Address
from dvipad.lab import wrk
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LabError

CONNECTIONS: Final = 64
SPARE_S: Final = 30.0
CONGESTION: Final = "cubic"
"""Linux's own. The machine may have BBR, which paces by guesses: that would measure those."""
WRITE: Final = "1M"
"""What one call of send() gets. iperf3's own 128 KiB are two large frames and a rest that depends
on the MSS: half a segment with 1,448 bytes, which waits for more; two whole ones with the 1,424 of
a DVIPA, which leave as a third frame. That measured the rest."""
LATENCY: Final = Path("latency.c")
AGAIN_S: Final = 60.0
_NOT_YET: Final = ("unable to connect", "busy running a test")

_SCRIPT: Final = """\
function done(summary)
  for _, kind in ipairs({"connect", "read", "write", "timeout", "status"}) do
    print("errors " .. kind .. " " .. summary.errors[kind])
  end
  print("requests all " .. summary.requests)
  print("microseconds all " .. summary.duration)
end
"""
"""Without a word about single answers: Lua would cost wrk more than the network does."""


def requests_per_s(
    cluster: Cluster, address: Address, port: int, seconds: int, *, new_connections: bool
) -> float:
    """wrk with 64 connections; `new_connections`: one for each request.

    Raises :class:`LabError` when one request failed.
    """
    script = cluster.paths.host(CLIENT) / "bench.lua"
    script.write_text(_SCRIPT)
    close = ["-H", "Connection: close"] if new_connections else []
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), *close]
    url = wrk.url_of(address, port)
    done = cluster.run(CLIENT, [*argv, url], timeout_s=seconds + SPARE_S)
    result = wrk.parse(done.stdout.splitlines())
    if result.errors or not result.requests:
        raise LabError(f"wrk to {url}: errors {result.errors} in {result.requests} requests")
    return result.rate_per_s


def bulk_gbit_per_s(
    cluster: Cluster, address: Address, seconds: int, streams: int, *, down: bool
) -> float:
    """iperf3: what the receiver got; `down`: the server sends.

    Its server listens anew after each test, and until then it refuses: that is asked again.
    """
    argv = ["iperf3", "-c", str(address), "-p", str(BULK_PORT), "-t", str(seconds)]
    argv += ["-P", str(streams), "-J", "-l", WRITE, "-C", CONGESTION, *(["-R"] if down else [])]
    report: dict[str, Any] = {}

    def measured() -> bool:
        nonlocal report
        done = cluster.run(CLIENT, argv, timeout_s=seconds + SPARE_S, check=False)
        report = parse_iperf(done.stdout)
        return not any(words in report.get("error", "") for words in _NOT_YET)

    cluster.wait_until(measured, AGAIN_S, f"iperf3 at {address} takes a test")
    try:
        return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9
    except KeyError:
        raise LabError(f"iperf3 to {address}: {report.get('error', report)}") from None


def parse_iperf(text: str) -> dict[str, Any]:
    """iperf3's JSON; raises :class:`LabError` for anything else."""
    try:
        report: dict[str, Any] = json.loads(text)
    except ValueError:
        raise LabError(f"iperf3: {text.strip() or 'it said nothing'}") from None
    return report


def latency_argv(address: Address, port: int, rate_per_s: float, seconds: int) -> list[str]:
    """The command line of latency.c."""
    return [str(c_program(LATENCY)), str(address), str(port), f"{rate_per_s:.0f}", str(seconds)]


def latency_us(
    cluster: Cluster, address: Address, port: int, rate_per_s: float, seconds: int
) -> Mapping[str, float]:
    """Connect and request at a fixed rate (latency.c): `p50_us`, `p99_us`, `max_us`.

    Raises :class:`LabError` when one request failed.
    """
    argv = latency_argv(address, port, rate_per_s, seconds)
    done = cluster.run(CLIENT, argv, timeout_s=seconds + SPARE_S)
    result = parse_latency(done.stdout)
    if result["failed"]:
        raise LabError(f"latency of {address}: {result['failed']:.0f} requests failed")
    return result


def parse_latency(text: str) -> dict[str, float]:
    """The line of latency.c as a mapping; raises :class:`LabError` when it is not there."""
    words = text.split()
    try:
        values = {key: float(value) for key, value in zip(words[::2], words[1::2], strict=True)}
        return {key: values[key] for key in ("started", "failed", "p50_us", "p99_us", "max_us")}
    except (ValueError, KeyError):
        raise LabError(f"latency: {text.strip() or 'it said nothing'}") from None
