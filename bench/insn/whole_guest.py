"""Runs in the emulated machine: what a whole short connection costs the box in the middle.

python -m bench.insn.whole_guest ROUNDS

Prints `insnconn PATH INSTRUCTIONS` for each round. Two ways of counting, because a box that ends
connections cannot be fed with recorded frames:

- `replay.PATH`: the client's frames of a connection, from the first SYN to the last ACK, are sent
  as in `guest`, and dropped in front of the server; `replay.drop` is their base line.
- `real.PATH`: a real client and a real server, all that the machine does for a connection;
  `real.direct` has no box in between.
- `ended`: what the distributor does when a target says that connections are over.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.build import FOLDER
from bench.haproxy import config_text
from bench.insn.frames import BOX, BOX_INSIDE, CLIENT, DVIPA, PORT, SERVER, key, mac
from bench.insn.guest import (
    FOREVER_NS,
    MODULES,
    attach,
    dropped,
    inside,
    ipvs,
    namespace,
    row_of_hosts,
    run,
    send,
)
from bench.insn.kinds import CONNECTIONS, WHOLE
from dvipad.adapters.bpf.layout import Role
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.bpf.settings import PlaneSettings
from dvipad.adapters.queue import QueueSettings, QueueSupervisor
from dvipad.adapters.rules import Backend, queue_rules

SHORT: Final = FOLDER / "short"
NEAR: Final = ("198.19.0.1", "198.19.0.2")
"""Client and server on the wire between them, by which servers answer directly."""
QUEUE: Final = 4780
READY_S: Final = 120.0
WARM: Final = 50
"""Connections before those that count: caches, and the worker's code."""


@contextmanager
def planes(offload: bool) -> Iterator[DataPlane]:
    """Our data plane on the box, and on the server as a target."""
    with ExitStack() as stack:
        with namespace("d"):
            owner = DataPlane.open(
                PlaneSettings(
                    BOX_INSIDE,
                    ("d0", "d1"),
                    pin_dir=Path("/run/insn-box"),
                    mtu=1500,
                    budget_per_s=1_000_000,
                )
            )
        stack.callback(_destroy, owner, "d")
        with namespace("b"):
            target = DataPlane.open(
                PlaneSettings(SERVER, ("b0", "b1"), pin_dir=Path("/run/insn-target"), mtu=1500)
            )
        stack.callback(_destroy, target, "b")
        target.set_members(frozenset({BOX_INSIDE}))
        target.set_dvipa(DVIPA, Role.HIDDEN, 1)
        owner.set_members(frozenset({SERVER}))
        owner.set_dvipa(DVIPA, Role.OWNER, 1)
        owner.set_service(DVIPA, PORT, (SERVER,), offload=offload)
        owner.renew_lease(FOREVER_NS)
        yield owner


def _destroy(plane: DataPlane, name: str) -> None:
    with namespace(name):
        plane.destroy()


@contextmanager
def offloaded() -> Iterator[None]:
    """The kernel decides."""
    with planes(offload=True):
        yield


@contextmanager
def queued() -> Iterator[None]:
    """The queue worker decides every connection."""
    with planes(offload=False) as owner, ExitStack() as stack:
        with namespace("d"):
            settings = QueueSettings(owner.settings.pin_dir, Path("/run/insn-queue"), QUEUE)
            supervisor = QueueSupervisor.start(settings)
            stack.callback(supervisor.stop)
            supervisor.wait_ready(READY_S)
            queue_rules(Backend.NFT, owner.settings.queue_mark, QUEUE).ensure()
        yield
        counters = owner.counters()
        if counters["queued"] < counters["chosen"]:
            raise RuntimeError(f"the kernel chose, not the worker: {counters}")


@contextmanager
def haproxy() -> Iterator[None]:
    """HAProxy on the box, in tcp mode, one thread."""
    config = Path("/run/haproxy.cfg")
    config.write_text(config_text({PORT: [SERVER]}, 4, 1))
    argv = ["ip", "netns", "exec", "d", "haproxy", "-db", "-f", str(config)]
    with subprocess.Popen(argv) as process:
        try:
            until = time.monotonic() + READY_S
            while f":{PORT}" not in inside("d", "ss", "-Hltn"):
                if time.monotonic() > until or process.poll() is not None:
                    raise RuntimeError("HAProxy does not listen")
            yield
        finally:
            process.kill()


@contextmanager
def nothing() -> Iterator[None]:
    """No box."""
    yield


@contextmanager
def wire_between() -> Iterator[None]:
    """A wire from the client to the server, who knows the DVIPA and answers by it."""
    run("ip", "link", "add", "a1", "netns", "a", "type", "veth", "peer", "b1", "netns", "b")
    lines = {
        "a": (
            f"addr add {NEAR[0]}/24 dev a1",
            "link set a1 up",
            f"route add {DVIPA} dev a0",
            f"neigh add {DVIPA} lladdr {mac('d0').hex(':')} dev a0 nud permanent",
        ),
        "b": (
            f"addr add {NEAR[1]}/24 dev b1",
            "link set lo up",
            "link set b1 up",
            f"addr add {DVIPA}/32 dev lo",
            f"route add {CLIENT}/32 via {NEAR[0]} dev b1",
        ),
    }
    for name, text in lines.items():
        for line in text:
            run("ip", "-n", name, *line.split())
    yield


@contextmanager
def served() -> Iterator[None]:
    """A server that answers."""
    argv = ["ip", "netns", "exec", "b", str(SHORT), "serve", str(PORT)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


REPLAYED: Final[dict[str, Callable[[], AbstractContextManager[None]]]] = {
    "drop": dropped,
    "ipvs": ipvs,
    "offload": offloaded,
}
REAL: Final[dict[str, tuple[Callable[[], AbstractContextManager[None]], str]]] = {
    "direct": (nothing, NEAR[1]),
    "haproxy": (haproxy, str(BOX)),
    "offload": (offloaded, str(DVIPA)),
    "nfqueue": (queued, str(DVIPA)),
}
"""Path → what is in the middle, and whom the client calls."""


def replay(name: str, rounds: int) -> None:
    """Recorded frames: what the box does with them."""
    with ExitStack() as stack:
        stack.enter_context(row_of_hosts())
        stack.enter_context(wire_between())
        attach("a", "a0", "egress", "headroom")
        stack.enter_context(REPLAYED[name]())
        if name != "drop":
            attach("b", "b0", "ingress", "sink")
        for turn in range(rounds):
            frames = CONNECTIONS * WHOLE.frames_each
            each = send(FOLDER / WHOLE.file(turn), frames) * WHOLE.frames_each
            print(f"insnconn replay.{name} {each}", flush=True)


def real(name: str, rounds: int) -> None:
    """Real connections: what the whole machine does for them."""
    middle, address = REAL[name]
    with ExitStack() as stack:
        stack.enter_context(row_of_hosts())
        stack.enter_context(wire_between())
        stack.enter_context(served())
        stack.enter_context(middle())
        ask = (str(SHORT), "ask", address, str(PORT))
        inside("a", *ask, str(WARM))
        for _ in range(rounds):
            print(f"insnconn real.{name} {inside('a', *ask, str(CONNECTIONS))}", end="", flush=True)


def ended(rounds: int) -> None:
    """TERMCONN: entries are compared and deleted."""
    with row_of_hosts(), wire_between(), planes(offload=True) as owner:
        keys = b"".join(key(port) for port in range(1_024, 1_024 + CONNECTIONS))
        for _ in range(rounds):
            owner.insert_connections(SERVER, keys, b"")
            began = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            owner.end_connections(SERVER, keys)
            each = (time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) - began) / CONNECTIONS
            print(f"insnconn ended {each}", flush=True)


def main() -> int:
    """Measure everything."""
    rounds = int(sys.argv[1])
    for module in (*MODULES, "nfnetlink_queue", "nft_queue"):
        run("modprobe", module)
    for name in REPLAYED:
        replay(name, rounds)
    ended(rounds)
    for name in REAL:
        real(name, rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
