"""The faults: each as data, what is done, how it ends, and what is expected meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from dvipad.config.node import TimersConfig
from dvipad.lab import faults
from tests.chaos.scene import WAIT_S, Scene, hold

Act: TypeAlias = Callable[[Scene], None]

STALL_S: Final = 5.0
CUT_S: Final = 4.0
LOSS_S: Final = 8.0
LOSS_PERCENT: Final = 20.0
FLAPS: Final = 3
LATE_S: Final = (-1.5, 0.5)
"""A daemon needs about a second to start."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the matrix.

    `prepare` comes before anything is measured, `inject` is the fault, `heal` ends it. `hold_s`:
    how long it lasts after `inject`. `owner`: who must own the DVIPA before it is healed; None:
    not said. `moves`: by how much the DVIPA's epoch grows until all is as before; None: not said.
    `dead`: targets whose connections cannot live. `mute`: targets whose connections are silent
    until the fault is over. `required`: False when no distributor nor backup remains: shown only.
    `same`: must give afterwards what it gave before; `flows`: data is expected before it is healed.
    """

    name: str
    inject: Act
    heal: Act | None = None
    prepare: Act | None = None
    hold_s: float = 0.0
    owner: str | None = "lb1"
    moves: int | None = 0
    lbs: int = 2
    dead: frozenset[str] = frozenset()
    mute: frozenset[str] = frozenset()
    required: bool = True
    flows: bool = True
    same: Callable[[Scene], object] | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A fault that is not injected, and why."""

    name: str
    reason: str


def _power_cut(*names: str) -> Act:
    return lambda scene: scene.power_cut(*names)


def _power_up(*names: str) -> Act:
    return lambda scene: scene.power_up(*names)


def _is_dead(scene: Scene, name: str) -> Callable[[], bool]:
    return lambda: not scene.cluster.daemon_alive(name)


def _kill_daemon(scene: Scene, name: str) -> None:
    """SIGKILL for a daemon and its worker, as when the kernel runs out of memory."""
    scene.cluster.signal_daemon(name, signal.SIGKILL, workers=True)
    scene.cluster.wait_until(_is_dead(scene, name), WAIT_S, f"the daemon of {name} is dead")


def _kill(name: str) -> Act:
    return lambda scene: _kill_daemon(scene, name)


def _kill_and_restart(name: str) -> Act:
    def act(scene: Scene) -> None:
        _kill_daemon(scene, name)
        scene.restart(name)

    return act


def _kill_and_restart_late(name: str) -> Act:
    """It comes back when a backup takes over: a little before, meanwhile, or a little later."""

    def act(scene: Scene) -> None:
        _kill_daemon(scene, name)
        hold(TimersConfig().restart_grace_ms / 1000 + scene.random.uniform(*LATE_S))
        scene.restart(name)

    return act


def _restart(name: str) -> Act:
    return lambda scene: scene.restart(name)


def _signal_worker(number: signal.Signals) -> Act:
    def act(scene: Scene) -> None:
        before = scene.worker_pid("lb1")
        os.kill(before, number)
        scene.cluster.wait_until(
            lambda: scene.worker_pid("lb1") not in (0, before), WAIT_S, "a new queue worker"
        )

    return act


def _stall(*, workers: bool) -> Act:
    def act(scene: Scene) -> None:
        scene.cluster.signal_daemon("lb1", signal.SIGSTOP, workers=workers)
        hold(STALL_S)

    return act


def _wake(scene: Scene) -> None:
    scene.cluster.signal_daemon("lb1", signal.SIGCONT, workers=True)


def _flap(down_s: float, times: int) -> Act:
    def act(scene: Scene) -> None:
        for number in range(times):
            if number:
                hold(down_s)
            faults.set_link(scene.cluster, "lb1", up=False)
            hold(down_s)
            faults.set_link(scene.cluster, "lb1", up=True)

    return act


def _lose_mesh(scene: Scene) -> None:
    faults.lose_mesh(scene.cluster, LOSS_PERCENT)


def _lose_mesh_of(name: str) -> Act:
    return lambda scene: faults.lose_mesh(scene.cluster, 100.0, hosts=(name,))


def _mend(scene: Scene) -> None:
    faults.mend(scene.cluster)


def _cut_one_way(one: str, other: str) -> Act:
    return lambda scene: faults.partition(scene.cluster, [one], [other], one_way=True)


def _isolate(*names: str) -> Act:
    return lambda scene: faults.partition(scene.cluster, names, scene.others(*names))


def _split_nodes(scene: Scene) -> None:
    """Nodes lose each other, the client sees all of them."""
    faults.partition(scene.cluster, ["lb1", "t1"], ["lb2", "t2", "t3"])


def _stop(*names: str) -> Act:
    def act(scene: Scene) -> None:
        for name in names:
            scene.cluster.stop_daemon(name)

    return act


def _restart_one_by_one(scene: Scene) -> None:
    for name in scene.shuffled():
        scene.cluster.stop_daemon(name)
        scene.restart(name)
        scene.wait_until_full()


def _kill_all_and_restart(scene: Scene) -> None:
    for name in scene.nodes:
        scene.cluster.signal_daemon(name, signal.SIGKILL, workers=True)
    for name in scene.nodes:
        scene.cluster.wait_until(_is_dead(scene, name), WAIT_S, f"the daemon of {name} is dead")
    scene.restart(*scene.shuffled())


def _stop_all(scene: Scene) -> None:
    _stop(*scene.shuffled())(scene)


def _start_all(scene: Scene) -> None:
    scene.restart(*scene.shuffled())


def _take_lb1_away(scene: Scene) -> None:
    scene.power_cut("lb1")
    scene.wait_for_owner("lb2")


MATRIX: Final = (
    Fault("daemon-kill-restart", _kill_and_restart("lb1")),
    Fault("daemon-kill-restart-late", _kill_and_restart_late("lb1"), owner=None, moves=None),
    Fault("daemon-kill-for-good", _kill("lb1"), _restart("lb1"), owner="lb2", moves=2),
    Fault("worker-kill", _signal_worker(signal.SIGKILL)),
    Fault("worker-stall", _signal_worker(signal.SIGSTOP)),
    Fault("owner-power-cut", _power_cut("lb1"), _power_up("lb1"), owner="lb2", moves=2),
    Fault("backup-power-cut", _power_cut("lb2"), _power_up("lb2"), hold_s=2),
    Fault(
        "target-power-cut",
        _power_cut("t1"),
        _power_up("t1"),
        hold_s=2,
        dead=frozenset({"t1"}),
    ),
    Fault("link-flap-100ms", _flap(0.1, 1)),
    Fault("link-flap-1s", _flap(1.0, FLAPS), owner=None, moves=None),
    Fault("mesh-loss-20", _lose_mesh, _mend, hold_s=LOSS_S),
    Fault("mesh-filtered", _lose_mesh_of("lb1"), _mend, hold_s=CUT_S, owner="lb2", moves=2),
    Fault(
        "host-loss-20",
        lambda scene: scene.cluster.loss("lb1", LOSS_PERCENT),
        lambda scene: scene.cluster.loss("lb1", 0),
        hold_s=LOSS_S,
        owner=None,
        moves=None,
        flows=False,
    ),
    Fault(
        "cut-owner-to-backup",
        _cut_one_way("lb1", "lb2"),
        _mend,
        hold_s=CUT_S,
        owner=None,
        moves=None,
    ),
    Fault(
        "cut-backup-to-owner",
        _cut_one_way("lb2", "lb1"),
        _mend,
        hold_s=CUT_S,
        owner=None,
        moves=None,
    ),
    Fault("partition-owner", _isolate("lb1"), _mend, hold_s=CUT_S, owner="lb2", moves=2),
    Fault(
        "partition-owner-target",
        _isolate("lb1", "t1"),
        _mend,
        hold_s=CUT_S,
        owner="lb2",
        moves=2,
        mute=frozenset({"t1"}),
    ),
    Fault(
        "partition-client-sees-both",
        _split_nodes,
        _mend,
        hold_s=CUT_S,
        owner="lb2",
        moves=2,
        mute=frozenset({"t1", "t2", "t3"}),
    ),
    Fault(
        "owner-target-power-cut",
        _power_cut("lb1", "t1"),
        _power_up("lb1", "t1"),
        owner="lb2",
        moves=2,
        dead=frozenset({"t1"}),
    ),
    Fault(
        "owner-backup-power-cut",
        _power_cut("lb1", "lb2"),
        _power_up("lb1", "lb2"),
        owner="lb3",
        moves=2,
        lbs=3,
    ),
    Fault("target-daemon-kill-restart", _kill_and_restart("t1")),
    Fault("target-daemon-kill-for-good", _kill("t1"), _restart("t1"), hold_s=CUT_S),
    Fault("owner-daemon-stall-5s", _stall(workers=False), _wake, owner="lb2", moves=2),
    Fault("owner-all-stall-5s", _stall(workers=True), _wake, owner="lb2", moves=2),
    Fault(
        "rules-flushed",
        lambda scene: faults.flush_rules(scene.cluster, "lb1"),
        same=lambda scene: faults.queue_rules(scene.cluster, "lb1"),
    ),
    Fault(
        "address-deleted",
        lambda scene: faults.remove_address(scene.cluster, "lb1", scene.dvipa),
        same=lambda scene: faults.devices_of(scene.cluster, "lb1", scene.dvipa),
    ),
    Fault(
        "address-deleted-on-target",
        lambda scene: faults.remove_address(scene.cluster, "t1", scene.dvipa),
        same=lambda scene: faults.devices_of(scene.cluster, "t1", scene.dvipa),
    ),
    Fault(
        "filter-deleted",
        lambda scene: faults.remove_filters(scene.cluster, "lb1"),
        same=lambda scene: faults.filters(scene.cluster, "lb1"),
    ),
    Fault(
        "filter-deleted-on-target",
        lambda scene: faults.remove_filters(scene.cluster, "t1"),
        same=lambda scene: faults.filters(scene.cluster, "t1"),
    ),
    Fault("clean-stop", _stop("lb1"), _restart("lb1"), owner="lb2", moves=2),
    Fault("takeback", _power_up("lb1"), prepare=_take_lb1_away, owner=None, moves=1),
    Fault("restart-one-by-one", _restart_one_by_one, moves=2),
    Fault("kill-all-restart", _kill_all_and_restart, owner=None, moves=None),
    Fault(
        "stop-all-restart",
        _stop_all,
        _start_all,
        owner=None,
        moves=None,
        flows=False,
        required=False,
    ),
)

SKIPPED: Final = (
    Skipped(
        "wall-clock-jump",
        "the wall clock is the whole machine's; tests/chaos/test_clock.py shows that no decision "
        "reads it",
    ),
)
