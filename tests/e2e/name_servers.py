"""Name servers of Debian for the tests: a zone that takes signed updates."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dvipad.address import Address
from dvipad.lab.cluster import Cluster

ZONE: Final = "example.org"
KEY: Final = "dvipad"
SECRET: Final = "c2VjcmV0IG9mIHRoZSB0ZXN0cyBvZiBkdmlwYWQu"
HOST: Final = "client"
READY_S: Final = 10.0

_ZONE_FILE: Final = """\
$TTL 60
@ IN SOA ns.example.org. admin.example.org. 1 3600 600 86400 60
@ IN NS ns.example.org.
ns IN A 192.0.2.201
"""
_KEY_FILE: Final = f'key "{KEY}" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n'
_NAMED: Final = """\
include "{folder}/key";
options {{
    directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/session";
    listen-on {{ any; }}; listen-on-v6 {{ any; }};
    recursion no; dnssec-validation no; empty-zones-enable no;
}};
controls {{ }};
zone "example.org" {{
    type primary; file "{folder}/zone"; allow-update {{ key {key}; }};
}};
"""
_KNOT: Final = """\
server:
    rundir: {folder}
    listen: [0.0.0.0@53, ::@53]
database:
    storage: {folder}
key:
  - id: {key}
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: update
    key: {key}
    action: update
zone:
  - domain: example.org
    storage: {folder}
    file: zone
    zonefile-sync: -1
    acl: update
"""
SERVERS: Final = {
    "bind9": (_NAMED, ("named", "-g", "-c")),
    "knot": (_KNOT, ("knotd", "-c")),
}


class NameServer:
    """One of `SERVERS` on the client's host; it may die, and come back."""

    def __init__(self, cluster: Cluster, kind: str, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        text, words = SERVERS[kind]
        configuration = folder / "conf"
        configuration.write_text(text.format(folder=folder, key=KEY, secret=SECRET))
        self.key = folder / "key"
        self.key.write_text(_KEY_FILE)
        (folder / "zone").write_text(_ZONE_FILE)
        self._words = [*words, str(configuration)]
        self._process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._cluster.spec.host(HOST).address(self._cluster.spec.family)

    def start(self) -> None:
        """It answers when this returns."""
        with (self._folder / "log").open("a") as log:
            self._process = self._cluster.popen(HOST, self._words, stdout=log, stderr=log)
        self._cluster.wait_until(
            lambda: self.dig("ns.example.org") == "192.0.2.201", READY_S, "the name server answers"
        )

    def die(self) -> None:
        """At once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def dig(self, name: str, kind: str = "A") -> str:
        """The answer that a client gets now; empty: none."""
        command = ["dig", "+short", "+tries=1", "+time=1", f"@{self.address}", name, kind]
        done = subprocess.run(
            self._cluster.command(HOST, command), capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def ttl(self, name: str) -> int:
        """The TTL of the answer."""
        command = ["dig", "+noall", "+answer", "+tries=1", "+time=1", f"@{self.address}", name]
        return int(self._cluster.run(HOST, command).stdout.split()[1])


@contextmanager
def name_server(cluster: Cluster, kind: str) -> Iterator[NameServer]:
    """It runs meanwhile. Its files are in memory: how long a disk takes says nothing."""
    with tempfile.TemporaryDirectory(prefix="dvipad-zone-", dir="/dev/shm") as folder:
        made = NameServer(cluster, kind, Path(folder))
        made.start()
        try:
            yield made
        finally:
            made.die()
