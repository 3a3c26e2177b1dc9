"""A Prometheus on a host of the lab: Debian's own, with the configuration that comes with dvipad.

Its times are shortened, so that what takes minutes in a cluster takes seconds in a lab.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import yaml

from dvipad.config.web import DEFAULT_WEB_PORT
from dvipad.lab.cluster import Cluster

CONFIG: Final = Path(__file__).resolve().parents[2] / "config" / "prometheus"
RULES: Final = "dvipad.rules.yml"
FASTER: Final = 30
"""An hour of the rules is two minutes of a lab."""
LEAST_S: Final = 4
"""A rate needs a few scrapes."""
PORT: Final = 9090
START_S: Final = 30.0
STOP_S: Final = 20.0

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_RANGE: Final = re.compile(r"\[(\d+)([smh])\]")
_PAUSE: Final = re.compile(r"^(\s*(?:for|interval): )(\d+)([smh])$", re.MULTILINE)


def faster(rules: str, factor: float = FASTER) -> str:
    """`rules` with all their times divided by `factor`; ranges stay long enough for a rate."""

    def length(found: re.Match[str]) -> str:
        seconds = int(found[1]) * _SECONDS[found[2]]
        return f"[{max(LEAST_S, round(seconds / factor))}s]"

    def pause(found: re.Match[str]) -> str:
        return f"{found[1]}{round(int(found[2]) * _SECONDS[found[3]] / factor * 1000)}ms"

    return _PAUSE.sub(pause, _RANGE.sub(length, rules))


def configuration(cluster: Cluster, nodes: Sequence[str]) -> str:
    """The sample `prometheus.yml`, for `nodes` of the lab, once a second."""
    sample: dict[str, Any] = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    second = f"{round(1000 * cluster.spec.slow)}ms"
    sample["global"] = {"scrape_interval": second, "evaluation_interval": second}
    (job,) = sample["scrape_configs"]
    job["static_configs"] = [
        {
            "targets": [_address(cluster, name)],
            "labels": {"cluster": cluster.spec.prefix, "instance": name},
        }
        for name in nodes
    ]
    return yaml.safe_dump(sample)


def _address(cluster: Cluster, name: str) -> str:
    host = cluster.spec.host(name).address(cluster.spec.family)
    return f"{f'[{host}]' if host.version == 6 else host}:{DEFAULT_WEB_PORT}"


class Prometheus:
    """One that runs on `host`, and is asked there."""

    def __init__(self, cluster: Cluster, host: str) -> None:
        self._cluster = cluster
        self._host = host

    def get(self, path: str, arguments: Mapping[str, object] | None = None) -> Any:
        """The ``data`` of an answer of its API; None when there is no answer."""
        query = f"?{urlencode(arguments)}" if arguments else ""
        argv = ["curl", "-gs", "-m", "20", f"http://127.0.0.1:{PORT}/api/v1/{path}{query}"]
        try:
            return json.loads(self._cluster.run(self._host, argv, check=False).stdout)["data"]
        except (ValueError, KeyError):
            return None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What `expression` is now."""
        found: list[dict[str, Any]] = (self.get("query", {"query": expression}) or {})["result"]
        return found

    def history(self, expression: str, start: float, end: float) -> list[float]:
        """All values of `expression` from `start` to `end`, every second."""
        asked = {"query": expression, "start": start, "end": end, "step": "1s"}
        rows = (self.get("query_range", asked) or {"result": []})["result"]
        return [float(value) for row in rows for _at, value in row["values"]]

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        rows = self.query('ALERTS{alertstate="firing"}')
        return {row["metric"]["alertname"] for row in rows}


@contextmanager
def prometheus(cluster: Cluster, host: str, nodes: Sequence[str]) -> Iterator[Prometheus]:
    """Runs one on `host` that scrapes `nodes`, with the rules that come with dvipad."""
    folder = cluster.paths.host(host) / "prometheus"
    folder.mkdir()
    (folder / "prometheus.yml").write_text(configuration(cluster, nodes))
    rules = faster((CONFIG / RULES).read_text(), FASTER / cluster.spec.slow)
    (folder / RULES).write_text(rules)
    argv = ["prometheus", f"--config.file={folder}/prometheus.yml"]
    argv += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{PORT}"]
    with (folder / "log").open("w") as log:
        process = cluster.popen(host, argv, stdout=log, stderr=log)
    made = Prometheus(cluster, host)
    try:
        cluster.wait_until(lambda: made.get("status/runtimeinfo"), START_S, "Prometheus answers")
        yield made
        process.terminate()
        process.wait(STOP_S)
    finally:
        process.kill()
        process.wait()
