"""Keeps names in zones of running name servers, by dynamic update (RFC 2136) with TSIG (S5).

Updates for one name server are sent one after another, in the order in which they were wanted. One
that fails is tried again until the server takes it, and those behind it wait. Of a name only the
address that was wanted last is ever sent: what was wanted before it would be gone at once.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

AGAIN_S: Final = (0.2, 0.5, 1.0, 2.0)
"""Pauses before an update is tried again; the last one for ever."""
_KEY: Final = re.compile(
    r'key\s+"?([^"\s{]+)"?\s*\{[^}]*?algorithm\s+"?([a-zA-Z0-9-]+)"?\s*;'
    r'[^}]*?secret\s+"?([A-Za-z0-9+/=]+)"?\s*;',
    re.DOTALL,
)

Order: TypeAlias = Mapping[str, Any]
Server: TypeAlias = tuple[str, int]


class UpdateError(Exception):
    """The name server did not take the update; the text says why."""


class Zones:
    """`say` is told what became of each name."""

    def __init__(self, say: Callable[[Mapping[str, Any]], None]) -> None:
        self._say = say
        self._queues: dict[Server, dict[str, Order]] = {}
        self._tasks: dict[Server, asyncio.Task[None]] = {}

    def want(self, order: Order) -> None:
        """A name is to have an address from now on."""
        server = (order["server"], order["server_port"])
        queue = self._queues.setdefault(server, {})
        queue.pop(order["name"], None)
        queue[order["name"]] = order
        if server not in self._tasks or self._tasks[server].done():
            self._tasks[server] = asyncio.get_running_loop().create_task(self._work(queue))

    def forget(self, name: str) -> None:
        """Another node keeps that name from now on."""
        for queue in self._queues.values():
            queue.pop(name, None)

    async def _work(self, queue: dict[str, Order]) -> None:
        """Send what is in `queue`, the first in it first."""
        tries = 0
        while queue:
            name, order = next(iter(queue.items()))
            began_s = time.monotonic()
            try:
                await update(order)
            except UpdateError as error:
                self._told(order, len(queue), str(error), 0.0)
                await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
                tries += 1
                continue
            tries = 0
            if queue.get(name) is order:
                del queue[name]
            self._told(order, len(queue), "", time.monotonic() - began_s)

    def _told(self, order: Order, waiting: int, error: str, took_s: float) -> None:
        self._say(
            {
                "name": order["name"],
                "address": order["address"],
                "error": error,
                "waiting": waiting,
                "took_s": took_s,
            }
        )


async def update(order: Order) -> None:
    """Replace the addresses of a name by one; raises `UpdateError`."""
    import dns.asyncquery
    import dns.exception
    import dns.rcode
    import dns.tsig
    import dns.update

    try:
        family = "AAAA" if ":" in order["address"] else "A"
        message = dns.update.UpdateMessage(order["zone"], **_signed(order["key"]))
        for each in ("A", "AAAA"):
            message.delete(f"{order['name']}.", each)
        message.add(f"{order['name']}.", order["ttl"], family, order["address"])
        answer = await dns.asyncquery.tcp(
            message, order["server"], order["timeout_s"], order["server_port"]
        )
    except (OSError, EOFError, LookupError, ValueError, dns.exception.DNSException) as error:
        raise UpdateError(f"{type(error).__name__}: {error}".rstrip(": ")) from None
    if answer.rcode() != dns.rcode.NOERROR:
        raise UpdateError(f"the name server answers {dns.rcode.to_text(answer.rcode())}")


def _signed(path: str | None) -> dict[str, Any]:
    """How a message is signed with the key in the file `path`, as tsig-keygen writes it."""
    if path is None:
        return {}
    import dns.tsigkeyring

    found = _KEY.search(Path(path).read_text(errors="replace"))
    if found is None:
        raise ValueError(f"{path} has no key as tsig-keygen writes it")
    name, algorithm, secret = found.groups()
    keyring = dns.tsigkeyring.from_text({name: (algorithm.lower(), secret)})
    return {"keyring": keyring}
