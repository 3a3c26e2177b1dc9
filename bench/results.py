"""Where figures go: lines for people and scripts, JSON with the machine's description."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "bench" / "results"
PACKAGES: Final = ("keepalived", "haproxy", "nginx-light", "wrk", "iperf3", "nftables")


def machine() -> dict[str, Any]:
    """What a reader must know to judge the figures: processor, kernel, load, versions."""
    cpu_lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpu_lines if line.startswith("model name")]
    memory_kb = Path("/proc/meminfo").read_text().split()[1]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_mib": int(memory_kb) // 1024,
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "revision": _output(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
        "packages": dict(_versions()),
    }


def _versions() -> list[tuple[str, str]]:
    shown = _output(["dpkg-query", "--show", "--showformat=${Package} ${Version}\\n", *PACKAGES])
    words = (line.split() for line in shown.splitlines())
    return [(row[0], row[1]) for row in words if len(row) == 2]


def _output(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def document(
    name: str,
    described: Mapping[str, Any],
    options: Mapping[str, Any],
    figures: Sequence[Figure],
    samples: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The JSON of one benchmark: the figures, and every sample that they were made of."""
    return {
        "benchmark": name,
        "machine": dict(described),
        "options": dict(options),
        "figures": [{"name": f.name, "value": f.value, "unit": f.unit} for f in figures],
        "samples": [dict(sample) for sample in samples],
    }


def write(folder: Path, content: Mapping[str, Any], figures: Sequence[Figure]) -> Path:
    """Write `NAME-TIME.json` and `NAME-TIME.txt` (the lines) into `folder`; returns the first."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = folder / f"{content['benchmark']}-{stamp}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".txt").write_text("".join(f"{figure.line()}\n" for figure in figures))
    return path
