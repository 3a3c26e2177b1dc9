"""nginx as a server of the lab: its configuration, and how to see that it listens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dvipad.address import Address

_LISTEN_STATE: Final = "0A"


def config_text(name: str, ports: Sequence[int], bind: Sequence[Address] = ()) -> str:
    """nginx.conf of a server that answers every request with `name`.

    It listens on `bind`, or on every address of both families; all its files are in its own folder.
    """
    places = [
        f"{f'[{address}]' if address.version == 6 else address}:{port}"
        for port in ports
        for address in bind
    ] or [place for port in ports for place in (f"0.0.0.0:{port}", f"[::]:{port} ipv6only=on")]
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n".join(
        [
            "daemon off;",
            "worker_processes 1;",
            "user root;",
            "pid nginx.pid;",
            "error_log error.log;",
            "events { worker_connections 8192; }",
            "http {",
            "  access_log off;",
            "  keepalive_requests 1000000;",
            *(f"  {kind}_temp_path {kind};" for kind in temporary),
            "  server {",
            *(f"    listen {place} backlog=4096;" for place in places),
            "    default_type text/plain;",
            f'    location / {{ return 200 "{name}\\n"; }}',
            "  }",
            "}",
            "",
        ]
    )


def listening_ports(table: str) -> set[int]:
    """The ports of the listeners in the text of /proc/net/tcp or tcp6."""
    rows = (line.split() for line in table.splitlines())
    return {
        int(row[1].rpartition(":")[2], 16)
        for row in rows
        if len(row) > 3 and row[3] == _LISTEN_STATE
    }
