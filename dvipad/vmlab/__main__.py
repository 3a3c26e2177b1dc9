"""End-to-end tests on a stock Debian 12 kernel, in an emulated machine.

    python -m dvipad.vmlab [--timeout-s N] [--slow N] [PYTEST_ARGUMENT...]

The machine sees this one's files read-only, so what runs there is this very tree; what it writes
is gone with it. Without arguments for pytest: the selection below.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from itertools import product
from typing import Final

from dvipad.config.words import Tunnel
from dvipad.lab.spec import SLOW_VARIABLE
from dvipad.vmlab.guest_kernel import GuestKernel, VmError, fetch
from dvipad.vmlab.job import FOLDER, places, python_job
from dvipad.vmlab.machine import started

VM_VARIABLE: Final = "DVIPAD_VM"
"""Set in the machine: only there are the tests of tests/vm collected."""
COPIED: Final = ("dvipad", "tests", "build/bpf", "pyproject.toml")
DEFAULT_TIMEOUT_S: Final = 3600.0
SESSION_SHARE: Final = 0.85
"""Of the time is for the tests: one that takes longer is the last, and what failed is shown."""
DEFAULT_SLOW: Final = 8.0
"""With less, heartbeats alone keep five daemons on two emulated processors too busy."""
SLOWEST: Final = 12
"""Tests whose times are told at the end."""
_QUEUE: Final = "tests/e2e/test_queue.py::test_"
_PLANE: Final = "tests/e2e/test_plane_traffic.py::test_"
_DEVICE: Final = "tests/e2e/test_tunnel_device.py::test_"
_TAKEOVER: Final = "tests/e2e/test_takeover.py::test_takeover_and_takeback_lose_nothing"
_TAKEOVERS: Final = ("ipip-v4", "ipip-device-v4", "gre-device-v6", "vxlan-v6")
_DEVICES: Final = ("ipip_device", "gre_device", "vxlan")
_ROUND_ROBIN: Final = "round_robin_is_exact_and_only_first_packets_reach_python"
TESTS: Final = (
    "tests/vm",
    *(f"{_DEVICE}what_goes_round_ends[{device}]" for device in _DEVICES),
    *(f"{_DEVICE}it_is_adopted_repaired_and_removed[{device}-4]" for device in _DEVICES),
    *(f"{_DEVICE}reverse_path_filters_let_clients_in[{device}]" for device in _DEVICES),
    *(f"{_DEVICE}nodes_with_and_without_it_understand_each_other[{each}-4-4]" for each in _DEVICES),
    *(f"{_PLANE}the_former_owner_relays_to_its_successor[{device}-4-4]" for device in _DEVICES),
    *(
        f"{_PLANE}connections_are_distributed_and_carry_data[{tunnel}-{families}]"
        for tunnel, families in product((each.name.lower() for each in Tunnel), ("4-4", "6-6"))
    ),
    f"{_PLANE}connections_are_distributed_and_carry_data[ipip_device-4-6]",
    f"{_PLANE}a_connection_survives_a_restart_of_the_daemon",
    *(f"{_TAKEOVER}[{each}]" for each in _TAKEOVERS),
    "tests/e2e/test_plane_policies.py::test_a_refusal_is_the_rst_of_tcp",
    "tests/e2e/test_plane_policies.py::test_a_policy_comes_before_the_ring",
    "tests/e2e/test_plane_balance.py::test_a_policy_counts_what_its_service_has",
    f"tests/e2e/test_distribution.py::test_{_ROUND_ROBIN}[ipip-v4]",
    "tests/e2e/test_crashes.py::test_under_load_nothing_fails[kill_worker]",
    "tests/e2e/test_rules.py",
    f"{_QUEUE}a_repeated_syn_goes_to_the_same_target",
    f"{_QUEUE}what_a_hung_worker_holds_is_decided_by_its_successor",
    f"{_QUEUE}what_is_for_this_node_goes_up_its_stack",
    f"{_QUEUE}syns_are_decided_in_turn",
    "tests/e2e/test_addresses.py",
    "tests/e2e/test_binds.py",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of pytest in the machine, or 1 when it did not get to its end."""
    parser = argparse.ArgumentParser(prog="dvipad.vmlab", description=__doc__, allow_abbrev=False)
    parser.add_argument("--timeout-s", type=float, default=DEFAULT_TIMEOUT_S, help="of it all")
    parser.add_argument("--slow", type=float, default=DEFAULT_SLOW, help=SLOW_VARIABLE + " there")
    arguments, words = parser.parse_known_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if os.geteuid() != 0:
            raise VmError("the machine shares this one's files: run it as root")
        kernel = fetch(FOLDER)
        return _run(kernel, arguments.timeout_s, arguments.slow, words or [*TESTS])
    except VmError as error:
        print(f"vmlab: FAILED {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vmlab: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _run(kernel: GuestKernel, timeout_s: float, slow: float, words: Sequence[str]) -> int:
    began = time.monotonic()
    variables = {VM_VARIABLE: "1", SLOW_VARIABLE: str(slow)}
    color = f"--color={'yes' if sys.stdout.isatty() else 'no'}"
    limit = f"--session-timeout={SESSION_SHARE * timeout_s:.0f}"
    shown = ("--verbose", f"--durations={SLOWEST}")
    command = [sys.executable, "-m", "dvipad.vmlab.guest", color, limit, *shown, *words]
    job = python_job(command, variables, timeout_s, COPIED)
    print(f"vmlab: booting Linux {kernel.version}, emulated; {timeout_s:g} s at most", flush=True)
    with started(kernel, job, places()) as machine:
        for line in machine.lines():
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
    if machine.status is None:
        raise VmError("the machine ended before its job did")
    verdict = "OK" if machine.status == 0 else f"FAILED pytest exit status {machine.status}"
    print(f"vmlab: {verdict} kernel={kernel.version} seconds={time.monotonic() - began:.0f}")
    return machine.status


if __name__ == "__main__":
    sys.exit(main())
