"""`status`: what figures of 64 targets with 8 status objects each, once a second, cost.

A real distributor with a preference by a formula over all of them. The targets are sessions and no
more (`dvipad.lab.peers`): what they would do besides is none of the distributor's.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.figures import Figure, summary
from bench.progress import say
from bench.scale_meter import cpu_s
from dvipad.lab.cluster import Cluster
from dvipad.lab.peers import DEAD_MS
from dvipad.lab.spec import DVIPA_NUMBERS, LabError, LabSpec, lan_address
from dvipad.lab.traffic import Program

PEERS: Final = 64
OBJECTS: Final = 8
PORT: Final = 80
OWNER, HOST = "lb1", "client"
FIRST: Final = 11
"""Number of the first target's address."""
PROFILE: Final = f"""\
VIPADYNAMIC
  VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 {{dvipa}}
  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN {{dvipa}} PORT {PORT} DESTIP ALL
ENDVIPADYNAMIC
"""
SETTLE_S: Final = 2.0
WAIT_S: Final = 30.0
OVERHEAD: Final = 66
"""Bytes of Ethernet, IPv4 and TCP (with time stamps) around a message."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A round. Shares of a core that the distributor's control process takes: without figures, and
    with them; `mesh_kb_per_s`: all messages with figures, as they are on the link."""

    quiet: float
    busy: float
    messages_per_s: float
    mesh_kb_per_s: float


class Lab:
    """The distributor and its targets."""

    def __enter__(self) -> Lab:
        dvipa = lan_address(DVIPA_NUMBERS[0], 4)
        spec = LabSpec(
            prefix="bench-status",
            lbs=1,
            targets=0,
            profiles={OWNER: PROFILE.format(dvipa=dvipa)},
            settings={"timers": {"dead_ms": DEAD_MS}},
        )
        self.cluster = Cluster(spec)
        self.cluster.__enter__()
        try:
            self._set_up()
        except BaseException:
            self.cluster.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.peers.kill()
        self.cluster.__exit__()

    def _set_up(self) -> None:
        cluster, spec = self.cluster, self.cluster.spec
        addresses = [f"192.0.2.{FIRST + number}/24" for number in range(PEERS)]
        for address in addresses:
            cluster.run(HOST, ["ip", "address", "add", address, "dev", "eth0"])
        formula = " + ".join(f"object{number}.value" for number in range(OBJECTS))
        rule = {"name": "all", "by": "formula", "formula": f"64 - ({formula}) / {OBJECTS * 2}"}
        path = cluster.paths.host(OWNER) / "status.yaml"
        path.write_text(json.dumps({"preferences": [rule]}))
        answer = cluster.ask(OWNER, "obeyfile", path=str(path))
        if not answer["accepted"]:
            raise LabError(str(answer["problems"]))
        options = {
            "distributor": spec.xcf(spec.host(OWNER)),
            "first": addresses[0].partition("/")[0],
            "dvipa": spec.dvipa(),
            "cluster": cluster.ask(OWNER, "config")["node"]["cluster"],
            "peers": PEERS,
            "objects": OBJECTS,
            "port": PORT,
        }
        cluster.wait_until(self._owns, WAIT_S, "it owns the DVIPA")
        words = [f"--{name}={value}" for name, value in options.items()]
        self.peers = Program(cluster, HOST, "dvipad.lab.peers", *words)
        self.peers.expect("open", timeout_s=WAIT_S)
        cluster.wait_until(lambda: self._ready() == PEERS, WAIT_S, "all targets serve")

    def _owns(self) -> bool:
        return any(row["state"] == "ACTIVE" for row in self.cluster.view(OWNER)["dvipas"])

    def _ready(self) -> int:
        return sum(row["ready"] > 0 for row in self.cluster.view(OWNER)["targets"])

    def say(self, command: str) -> dict[str, Any]:
        """What the targets sent since the last command."""
        self.peers.command(command)
        sent = self.peers.expect("sent")
        if sent["ended"]:
            raise LabError(f"{sent['ended']} sessions ended")
        return sent

    def measure(self, seconds: int) -> Sample:
        """Quiet first, then with figures."""
        pids = [self.cluster.daemon_pid(OWNER)]
        shares = []
        for command in ("quiet", "figures"):
            self.say(command)
            time.sleep(SETTLE_S)
            self.say(command)
            before_s, began_s = cpu_s(pids), time.monotonic()
            time.sleep(seconds)
            elapsed_s = time.monotonic() - began_s
            shares.append((cpu_s(pids) - before_s) / elapsed_s)
        sent = self.say("quiet")
        known = self.cluster.ask(OWNER, "status")
        if len(known["figures"]) != PEERS or known["services"][0]["server"] == "":
            raise LabError("the distributor does not know all figures")
        weight = sent["bytes"] + OVERHEAD * sent["messages"]
        rate = sent["messages"] / elapsed_s
        return Sample(shares[0], shares[1], rate, weight / elapsed_s / 1000)


def run(rounds: int, seconds: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """`rounds`, each of `seconds` without and with figures."""
    samples: list[Sample] = []
    with Lab() as lab:
        for turn in range(1, rounds + 1):
            samples.append(lab.measure(seconds))
            say(f"status {turn}/{rounds}: {samples[-1]}")
    found = [
        *summary("status.cores", [each.busy for each in samples], "cores"),
        *summary("status.cores_for_figures", [s.busy - s.quiet for s in samples], "cores"),
        *summary("status.mesh_kb_per_s", [each.mesh_kb_per_s for each in samples], "kB/s"),
        *summary("status.messages_per_s", [s.messages_per_s for s in samples], "messages/s"),
    ]
    return found, [asdict(each) for each in samples]
