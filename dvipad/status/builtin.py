"""Status objects that come with dvipad. Each raises when its instance is down."""

from __future__ import annotations

import errno
import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final

from dvipad.status.local import Cgroup, Process
from dvipad.status.program import Program
from dvipad.status.trouble import Missing, Unusable

BODY_MAX: Final = 4 << 20
"""Bytes of an answer that are read."""
HOPS_MAX: Final = 30
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25

__all__ = ["KINDS", "Missing", "Unusable"]


def _ms(began_s: float) -> float:
    return (time.monotonic() - began_s) * 1000


def _get(url: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of `url`, past all proxies; raises ``OSError`` when there is no answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            return answer.status, answer.read(BODY_MAX)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""
    except urllib.error.URLError as error:
        if isinstance(error.reason, OSError):
            raise error.reason from None
        raise
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP: {type(error).__name__}") from None


class Http:
    """Response time and status of `url`; down unless the status is one of `expect`."""

    def __init__(self, options: Mapping[str, str], timeout_s: float) -> None:
        self._url, self._timeout_s = options["url"], timeout_s
        low, dash, high = options.get("expect", "200-399").partition("-")
        self._expected = range(int(low), int(high if dash else low) + 1)

    def read(self) -> Mapping[str, float]:
        """``time_ms``, ``status``."""
        began_s = time.monotonic()
        status, _ = _get(self._url, self._timeout_s)
        if status not in self._expected:
            raise OSError(f"HTTP status {status}")
        return {"time_ms": _ms(began_s), "status": status}


class Tcp:
    """Time that a TCP connection to `host` and `port` takes."""

    def __init__(self, options: Mapping[str, str], timeout_s: float) -> None:
        self._place = options.get("host", "127.0.0.1"), int(options["port"])
        self._timeout_s = timeout_s

    def read(self) -> Mapping[str, float]:
        """``time_ms``."""
        began_s = time.monotonic()
        with socket.create_connection(self._place, self._timeout_s):
            return {"time_ms": _ms(began_s)}


class Redis:
    """What a Redis at `url` says of itself."""

    def __init__(self, options: Mapping[str, str], timeout_s: float) -> None:
        redis = _library("redis", "redis")
        self._client = redis.Redis.from_url(
            options["url"], socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )

    def read(self) -> Mapping[str, float]:
        """``clients``, ``blocked``, ``requests_per_s``, ``time_ms``."""
        began_s = time.monotonic()
        said = self._client.info()
        return {
            "clients": said["connected_clients"],
            "blocked": said["blocked_clients"],
            "requests_per_s": said["instantaneous_ops_per_sec"],
            "time_ms": _ms(began_s),
        }


class Postgresql:
    """Sessions of a PostgreSQL server, by the connection string `dsn`."""

    _COUNT: Final = (
        "select count(*), count(*) filter (where state = 'active'), "
        "count(*) filter (where wait_event_type = 'Lock') "
        "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
    )

    def __init__(self, options: Mapping[str, str], timeout_s: float) -> None:
        self._psycopg = _library("psycopg", "postgresql")
        self._dsn, self._timeout_s = options["dsn"], timeout_s
        self._connection: Any = None

    def read(self) -> Mapping[str, float]:
        """``clients``, ``active``, ``waiting`` (for a lock), ``time_ms``."""
        began_s = time.monotonic()
        if self._connection is None or self._connection.closed:
            self._connection = self._psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=max(2, round(self._timeout_s)),
                options=f"-c statement_timeout={round(self._timeout_s * 1000)}",
            )
        try:
            clients, active, waiting = self._connection.execute(self._COUNT).fetchone()
        except Exception:
            self._connection.close()
            raise
        return {"clients": clients, "active": active, "waiting": waiting, "time_ms": _ms(began_s)}


class Prometheus:
    """A `metric` of an exporter at `url`, as ``name`` or ``name{label="value"}``: the sum of all
    samples with these labels; with `rate`, how much it grows in a second."""

    def __init__(self, options: Mapping[str, str], timeout_s: float) -> None:
        self._url, self._timeout_s = options["url"], timeout_s
        self._rate = options.get("rate", "false").lower() == "true"
        wanted = next(iter(self._samples(f"{options['metric']} 0\n")), None)
        if wanted is None:
            raise ValueError(f"{options['metric']} is no metric")
        self._name, self._labels = wanted.name, wanted.labels
        self._before: tuple[float, float] | None = None

    @staticmethod
    def _samples(text: str) -> list[Any]:
        from prometheus_client.parser import text_string_to_metric_families

        try:
            families = list(text_string_to_metric_families(text))
        except (ValueError, KeyError, IndexError) as error:
            raise Unusable(f"not the text format of Prometheus: {error}") from None
        return [sample for family in families for sample in family.samples]

    def read(self) -> Mapping[str, float]:
        """``value``; nothing at the first reading of a rate."""
        status, body = _get(self._url, self._timeout_s)
        if status != http.client.OK:
            raise OSError(f"HTTP status {status}")
        now_s = time.monotonic()
        found = [
            sample.value
            for sample in self._samples(body.decode(errors="replace"))
            if sample.name == self._name and self._labels.items() <= sample.labels.items()
        ]
        if not found:
            raise Unusable(f"there is no {self._name} with these labels")
        value = sum(found)
        if not self._rate:
            return {"value": value}
        before, self._before = self._before, (now_s, value)
        if before is None or value < before[1] or now_s <= before[0]:
            return {}
        return {"value": (value - before[1]) / (now_s - before[0])}


class Hops:
    """How many routers plus one are between this node and `host`: the smallest TTL with which a TCP
    connection to `port` (that of the mesh) is answered."""

    def __init__(self, options: Mapping[str, str], timeout_s: float) -> None:
        self._host, self._port = options["host"], int(options.get("port", "4780"))
        self._timeout_s = timeout_s

    def read(self) -> Mapping[str, float]:
        """``hops``."""
        family, kind, _, _, place = socket.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM
        )[0]
        give_up_s = time.monotonic() + self._timeout_s
        for hops in range(1, HOPS_MAX + 1):
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                break
            with socket.socket(family, kind) as probe:
                if family == socket.AF_INET:
                    probe.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
                    probe.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
                else:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
                    probe.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
                probe.settimeout(left_s)
                error = probe.connect_ex(place)
            if error in (0, errno.ECONNREFUSED):
                return {"hops": hops}
            if error not in (errno.EHOSTUNREACH, errno.ENETUNREACH):
                break
        raise TimeoutError(f"{self._host} does not answer")


def _library(module: str, extra: str) -> Any:
    try:
        return __import__(module)
    except ImportError:
        raise Missing(f"pip install 'dvipad[{extra}]'") from None


KINDS: Final[Mapping[str, Callable[[Mapping[str, str], float], Any]]] = {
    "http": Http,
    "tcp": Tcp,
    "process": Process,
    "cgroup": Cgroup,
    "redis": Redis,
    "postgresql": Postgresql,
    "prometheus": Prometheus,
    "hops": Hops,
    "exec": Program,
}
"""By name, as in `dvipad.config.kinds`."""
