"""One run of one fault: a cluster of its own, traffic, the fault, and what became of it all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.spec import LabError, LabSpec
from dvipad.lab.traffic import (
    GapProbe,
    GapReport,
    LongConnections,
    LongReport,
    NewConnections,
    NewReport,
)
from tests.chaos.matrix import Fault
from tests.chaos.results import Run
from tests.chaos.scene import POLL_S, WAIT_S, Scene

PORT: Final = 7
NEW_PORT: Final = 80
CALM_NEW: Final = 100
"""So many new connections are answered before anything happens."""
CALM_PENDING: Final = 5
FLOW_S: Final = 12.0
FULL_S: Final = 30.0
FULL_FOR_S: Final = 2.0
"""A cluster is whole when nothing lacked for so long."""
PROBE_QUIET_MS: Final = 200.0
RESETS: Final = ("ECONNRESET", "ECONNREFUSED", "EPIPE")
_LATE = re.compile(r"the loop was (\d+) ms late")


@dataclass(frozen=True, slots=True)
class Load:
    """The traffic of a run."""

    connections: int = 1000
    interval_ms: float = 500.0
    new_per_s: float = 200.0
    probe_ms: float = 10.0

    @property
    def flowing_ms(self) -> float:
        """A connection flows when something came back within this time."""
        return self.interval_ms + 1000.0


class Trial:
    """The traffic on a scene, and one fault."""

    def __init__(self, scene: Scene, fault: Fault, load: Load, running: ExitStack) -> None:
        self._scene = scene
        self._fault = fault
        self._load = load
        self._notes: list[str] = []
        self._broken: list[str] = []
        cluster, dvipa = scene.cluster, scene.dvipa
        self._long = running.enter_context(
            LongConnections(
                cluster,
                "client",
                dvipa,
                PORT,
                connections=load.connections,
                interval_ms=load.interval_ms,
            )
        )
        self._new = running.enter_context(
            NewConnections(cluster, "client", dvipa, NEW_PORT, rate=load.new_per_s)
        )
        self._probe = running.enter_context(GapProbe(cluster, "client", dvipa, PORT, load.probe_ms))

    def run(self) -> Run:
        """Break it, heal it, wait until it is whole; raises :class:`LabError` when it cannot."""
        fault, scene = self._fault, self._scene
        start = scene.epoch()
        self._calm()
        if fault.prepare is not None:
            fault.prepare(scene)
            self._await_flow(frozenset())
            self._calm()
        before = fault.same(scene) if fault.same is not None else None
        epoch = scene.epoch()
        plane = self._counters()
        foreseen = start if fault.prepare is None else start + 1
        if epoch != foreseen:
            self._notes.append(f"the DVIPA moved before the fault: epoch {epoch}, not {foreseen}")
        for program in (self._long, self._new, self._probe):
            program.phase("fault")
        began_s = time.monotonic()
        self._act("inject", self._inject)
        gap = self._probe.phase("heal")
        if fault.heal is not None:
            began_s = time.monotonic()
            self._act("heal", self._heal)
        full_s = self._await_full(began_s, before)
        back = self._probe.stop()
        moves = self._moves(epoch)
        after = self._counters()
        opened = self._new.stop()
        long = self._long.stop()
        run = self._judge(long, opened, gap, back)
        counters = {name: after[name] - plane.get(name, 0) for name in after}
        return replace(
            run,
            full_s=full_s,
            moves=moves,
            facts=tuple(scene.facts),
            notes=tuple(self._notes),
            broken=tuple(self._broken),
            counters={name: count for name, count in counters.items() if count},
        )

    # Steps

    def _calm(self) -> None:
        """Let traffic flow; what fails before anything is done is the lab's defect."""
        wanted = self._new.report().answered + CALM_NEW

        def is_calm() -> bool:
            report = self._new.report()
            return report.answered >= wanted and report.pending <= CALM_PENDING

        self._scene.cluster.wait_until(is_calm, WAIT_S, "new connections are answered at once")
        if self._long.report().lost() or (self._new.report().failed and not self._fault.prepare):
            raise LabError("connections fail before anything was done to them")

    def _act(self, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except LabError as error:
            self._broken.append(f"{what}: {error}")

    def _inject(self) -> None:
        fault, scene = self._fault, self._scene
        held_until_s = time.monotonic() + fault.hold_s
        fault.inject(scene)
        while time.monotonic() < held_until_s:
            time.sleep(POLL_S)
        if fault.owner is not None:
            scene.wait_for_owner(fault.owner)
        if fault.flows:
            self._await_flow(fault.dead | fault.mute)
            self._scene.cluster.wait_until(
                lambda: self._probe.report().quiet_ms < PROBE_QUIET_MS, WAIT_S, "the DVIPA answers"
            )

    def _heal(self) -> None:
        if self._fault.heal is not None:
            self._fault.heal(self._scene)

    def _await_flow(self, without: Collection[str]) -> None:
        end = time.monotonic() + FLOW_S
        while (quiet_ms := self._long.report().quiet_ms(without)) > self._load.flowing_ms:
            if time.monotonic() >= end:
                self._notes.append(f"silent for {quiet_ms:.0f} ms while the fault lasts")
                return
            time.sleep(2 * POLL_S)

    def _await_full(self, began_s: float, before: object) -> float | None:
        """Wait until all is as before and stays so; seconds since `began_s` until it was."""
        end = time.monotonic() + FULL_S
        bad_s, whole_s, lacking = time.monotonic(), None, ""
        while True:
            lacking = self._lacking(before)
            now_s = time.monotonic()
            if lacking:
                bad_s, whole_s = now_s, None
            elif self._quiet_ms() <= self._load.flowing_ms:
                whole_s = whole_s if whole_s is not None else now_s
                if now_s - whole_s >= FULL_FOR_S:
                    return bad_s - began_s
            if now_s >= end:
                break
            time.sleep(POLL_S)
        if lacking:
            self._broken.append(f"not whole again within {FULL_S:g} s: {lacking}")
            return None
        self._notes.append(f"silent for {self._quiet_ms():.0f} ms after all")
        return bad_s - began_s

    def _lacking(self, before: object) -> str:
        if lacking := self._scene.missing():
            return lacking
        same = self._fault.same
        if same is not None and (now := same(self._scene)) != before:
            return f"it is {now!r} and was {before!r}"
        return ""

    def _quiet_ms(self) -> float:
        return self._long.report().quiet_ms(self._fault.dead)

    # Figures

    def _counters(self) -> dict[str, int]:
        """The data plane's counters of the owner and the backups, `host.name` → count."""
        found: dict[str, int] = {}
        for name in self._scene.lbs:
            try:
                plane = self._scene.cluster.ask(name, "counters")["plane"]
            except LabError:
                continue
            found |= {f"{name}.{key}": int(value) for key, value in plane.items()}
        return found

    def _moves(self, epoch: int) -> int:
        moves = self._scene.epoch() - epoch
        if self._fault.moves is not None and moves != self._fault.moves:
            self._notes.append(f"the DVIPA moved {moves} times, not {self._fault.moves}")
        return moves

    def _judge(self, long: LongReport, opened: NewReport, gap: GapReport, back: GapReport) -> Run:
        fault = self._fault
        living = {name: row for name, row in long.servers.items() if name not in fault.dead}
        resets = int(sum(row["reset"] for row in living.values()))
        new_resets = sum(opened.failed.get(name, 0) for name in RESETS)
        lost = long.lost(without=fault.dead)
        corrupt = long.states.get("corrupt", 0)
        if fault.required:
            verdicts = {"lost": lost, "reset": resets, "with wrong data": corrupt}
            self._broken += [f"{n} {what}" for what, n in verdicts.items() if n]
            if new_resets and not fault.dead:
                self._broken.append(f"{new_resets} new connections reset")
        return Run(
            fault=fault.name,
            lost=lost,
            resets=resets + new_resets,
            new_started=opened.started,
            new_failed=dict(opened.failed),
            new_slowed=opened.slowed,
            gap_ms=gap.max_gap_ms,
            back_gap_ms=back.max_gap_ms,
            longest_gap_ms=long.max_gap_ms(without=fault.dead),
            own_stall_ms=max(gap.own_stall_ms, back.own_stall_ms, long.own_stall_ms),
            states=dict(long.states),
        )


def late_ms(cluster: Cluster) -> dict[str, int]:
    """Node → the most that its daemon's loop was late, by its own log."""
    found = {}
    for host in cluster.spec.nodes():
        log = cluster.paths.log(host.name)
        text = log.read_text(errors="replace") if log.exists() else ""
        found[host.name] = max((int(number) for number in _LATE.findall(text)), default=0)
    return {name: late for name, late in found.items() if late}


def run_once(
    fault: Fault, family: int, seed: int, load: Load, prefix: str, logs: Path | None = None
) -> Run:
    """One run in a fresh lab; never raises for what the lab or the product does.

    `logs`: where the daemons' logs are copied to.
    """
    spec = LabSpec(prefix=prefix, family=family, lbs=fault.lbs, ports=(NEW_PORT, PORT))
    destroy(spec.prefix)
    try:
        with Cluster(spec) as cluster, ExitStack() as running:
            run = _run_in(cluster, fault, seed, load, running)
            run = replace(run, family=family, seed=seed, late_ms=late_ms(cluster))
            if logs is not None:
                _keep_logs(cluster, logs)
            return run
    except LabError as error:
        first, *more = str(error).splitlines()
        why = f"{first} {more[-1].strip()}" if more else first
        return Run(fault=fault.name, family=family, seed=seed, broken=(f"no run: {why}",))


def _run_in(cluster: Cluster, fault: Fault, seed: int, load: Load, running: ExitStack) -> Run:
    scene = Scene(cluster, running, seed)
    scene.serve(*scene.targets)
    scene.wait_until_full()
    try:
        return Trial(scene, fault, load, running).run()
    except LabError as error:
        return Run(fault=fault.name, broken=(str(error),))


def _keep_logs(cluster: Cluster, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for host in cluster.spec.nodes():
        log = cluster.paths.log(host.name)
        if log.exists():
            (folder / f"{host.name}.log").write_bytes(log.read_bytes())
