"""Which SYNs go to the queue worker, and what it sees of the maps."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from dvipad.adapters.bpf.tc import test_run
from dvipad.adapters.bpf.worker_view import WorkerView
from dvipad.address import pack
from dvipad.core.policy_rows import Request
from tests.e2e.dvs_network import inside
from tests.e2e.plane_network import PASS, Bench, bench, frame
from tests.e2e.plane_packets import (
    CLIENT,
    DVIPA,
    OWN,
    PORT,
    TARGETS,
    four,
    from_client,
    key,
    own,
    serve,
)

__all__ = ["four"]
pytestmark = pytest.mark.e2e


@pytest.fixture
def queued() -> Iterator[tuple[Bench, WorkerView]]:
    """A plane whose worker is fit."""
    with bench(str(OWN[4]), liveness_port=4999, window=4, stale_ms=60_000) as made:
        own(made)
        serve(made, TARGETS[4], offload=False)
        worker = WorkerView.open(made.plane.settings.pin_dir)
        with inside(made.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liveness:
            liveness.bind(("127.0.0.1", 4999))
            worker.beat(time.monotonic_ns())
            yield made, worker
        worker.close()


def test_a_syn_for_the_worker_is_marked_and_passes(queued: tuple[Bench, WorkerView]) -> None:
    made, worker = queued
    packet = frame(*from_client(6, "S"))
    result = made.run("ingress", packet)
    assert (result.verdict, result.packet, made.counted()) == (PASS, packet, {"queued": 1})
    assert struct.unpack_from("=I", result.context, 8) == (made.plane.settings.queue_mark,)
    assert worker.undecided() == 1
    chosen = worker.choose(pack(DVIPA[6]), PORT, lambda _: Request(CLIENT[6]))
    assert chosen is not None
    index = chosen.target
    assert worker.target(index) == TARGETS[4][0]
    worker.insert_embryonic(key(6), index, chosen.chooser)
    worker.done(1)
    assert worker.undecided() == 0
    assert worker.lookup_route(key(6)) == (index, False)
    made.ingress(*from_client(6, "A"))
    assert made.counted() == {"promoted": 1, "hit_embryonic": 1, "encapsulated": 1}
    assert made.plane.totals() == {(DVIPA[6], PORT, TARGETS[4][0]): 1}
    result = made.ingress(*from_client(4, "S"))
    assert made.counted() == {"queued": 1}


def test_the_kernel_chooses_when_the_worker_is_unfit(queued: tuple[Bench, WorkerView]) -> None:
    made, worker = queued
    for port in range(1, 5):
        made.ingress(*from_client(4, "S", port=port))
        assert made.counted() == {"queued": 1}
    made.ingress(*from_client(4, "S", port=5))
    assert made.counted() == {"worker_window": 1, "chosen": 1, "encapsulated": 1}
    worker.settle()
    worker.beat(time.monotonic_ns() - 61_000_000_000)
    made.ingress(*from_client(4, "S", port=6))
    assert made.counted() == {"worker_stale": 1, "chosen": 1, "encapsulated": 1}
    worker.beat(time.monotonic_ns())
    made.ingress(*from_client(4, "S", port=7))
    assert made.counted() == {"queued": 1}


def test_who_gives_up_waits_for_what_the_worker_has_in_hand(
    queued: tuple[Bench, WorkerView],
) -> None:
    made, worker = queued
    made.ingress(*from_client(4, "S"))
    assert worker.undecided() == 1
    decides = threading.Timer(0.005, worker.settle)
    decides.start()
    made.plane.await_worker()
    assert worker.undecided() == 0
    decides.join()
    made.ingress(*from_client(4, "S", port=2))
    made.plane.await_worker()
    assert worker.undecided() == 1, "a dead worker is not waited for for ever"


def test_a_cpu_with_more_syns_than_the_budget_hands_none_to_the_worker() -> None:
    with bench(str(OWN[4]), liveness_port=0, stale_ms=60_000, budget_per_s=100) as made:
        own(made)
        serve(made, TARGETS[4], offload=False)
        worker = WorkerView.open(made.plane.settings.pin_dir)
        worker.beat(time.monotonic_ns())
        program = made.plane.program_fd("dvipad_ingress")
        syns = [frame(*from_client(4, "S", port=1 + port)) for port in range(500)]
        with inside(made.netns):
            for syn in syns:  # 100 a second are allowed on a CPU
                test_run(program, syn)
                worker.settle()
        worker.close()
        assert made.plane.counters()["worker_budget"] > 450


def test_a_dead_worker_and_a_budget() -> None:
    with bench(str(OWN[4]), liveness_port=4998, stale_ms=60_000, budget_per_s=1) as made:
        own(made)
        serve(made, TARGETS[4], offload=False)
        worker = WorkerView.open(made.plane.settings.pin_dir)
        worker.beat(time.monotonic_ns())
        seen: dict[str, int] = {}
        for port in range(1, 9):
            made.ingress(*from_client(4, "S", port=port))
            for name, count in made.counted().items():
                seen[name] = seen.get(name, 0) + count
        worker.close()
        assert seen.keys() == {"worker_dead", "worker_budget", "chosen", "encapsulated"}
        assert seen["chosen"] == 8
