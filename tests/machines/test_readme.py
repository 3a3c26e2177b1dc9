"""Three machines with systemd, from the .deb, set up by the README word for word."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest

from dvipad.vmlab.disk import disk
from dvipad.vmlab.guest_kernel import fetch
from dvipad.vmlab.job import FOLDER, ROOT
from dvipad.vmlab.readme import commands
from dvipad.vmlab.segment import Segment, segment
from tests.machines.documents import run_later_blocks

NAMES: Final = ("vm1", "vm2", "vm3")
COMMANDS_AT_MOST: Final = 10
EXPOSURE_AT_MOST: Final = 3.0
DEADLINE_S: Final = 240.0
CURL: Final = ("curl", "--silent", "--fail", "--max-time", "10", "http://192.0.2.100/")
LEFT: Final = """
find / -xdev -not -path '/tmp/*' -not -path '/var/log/*' -not -path '/var/cache/*' \
    -not -path '/var/tmp/*' -not -path '/var/lib/dpkg/*' -not -path '/var/lib/nginx/*' \
    -not -path '/var/lib/systemd/*' -not -path '/var/lib/apt/*' -not -path '/root/*' \
    -not -name 'passwd-' -not -name 'group-' -not -name 'shadow-' -not -name 'gshadow-' | sort
cut -d : -f 1 /etc/passwd /etc/group
find /sys/fs/bpf /run/dvipad
tc filter show dev eth0 ingress
tc filter show dev eth0 egress
tc qdisc show
nft list ruleset
iptables-save
ip6tables-save
ip -brief address
ip rule
ip route show table all type local
ip tunnel
"""
"""What a node may leave on a host; where other programs write all the time is not looked at."""


def say(words: str) -> None:
    """Progress: this takes minutes."""
    print(f"vmlab: {words}", file=sys.stderr, flush=True)


@pytest.fixture(scope="module")
def lan() -> Iterator[Segment]:
    """Fresh machines with addresses, the package in the home folder of root."""
    package = max((ROOT / "build" / "dist").glob("dvipad_*.deb"), key=lambda p: p.stat().st_mtime)
    kernel = fetch(FOLDER)
    say(f"booting {len(NAMES)} machines, Linux {kernel.version}, emulated")
    with segment(kernel, disk(FOLDER, kernel), NAMES, "192.0.2.50/24", [package]) as made:
        for number, shell in enumerate(made.machines.values(), 1):
            shell.run(f"ip link set eth0 up; ip address add 192.0.2.{number}/24 dev eth0")
        yield made


def eventually_answers(lan: Segment) -> float:
    """Seconds until the DVIPA serves the page."""
    began = time.monotonic()
    while "nginx" not in lan.client(CURL, 30).stdout:
        assert time.monotonic() - began < DEADLINE_S, "the DVIPA does not answer"
    return time.monotonic() - began


def test_the_readme_makes_a_cluster_that_outlives_its_owner(lan: Segment) -> None:
    before = {name: shell.run(LEFT)[1] for name, shell in lan.machines.items()}
    readme = (ROOT / "README.md").read_text()
    failed: list[str] = []

    def set_up(name: str) -> None:
        todo = commands(readme, name)
        assert len(todo) <= COMMANDS_AT_MOST
        for command in todo:
            began = time.monotonic()
            status, output = lan.machines[name].run(command)
            say(f"{name}: {command.splitlines()[0]} ({time.monotonic() - began:.0f} s)")
            if status != 0:
                failed.append(f"{name}: {command}: exit status {status}: {output}")

    threads = [threading.Thread(target=set_up, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    say(f"the DVIPA answers after {eventually_answers(lan):.1f} s")

    for shell in lan.machines.values():
        assert shell.run("systemctl is-active dvipad") == (0, "active")
        assert shell.run("ps -o user= -p $(systemctl show -P MainPID dvipad)")[1] == "dvipad"
    _, output = lan.machines["vm3"].run("systemd-analyze security --no-pager dvipad | tail -n 1")
    say(output)
    exposure = re.search(r"([0-9.]+) [A-Z]+", output)
    assert exposure and float(exposure[1]) <= EXPOSURE_AT_MOST

    run_later_blocks(lan.machines["vm1"].run)
    say(f"the DVIPA answers after {eventually_answers(lan):.1f} s")

    lan.power_off("vm1")
    say(f"vm1 is off; the DVIPA answers after {eventually_answers(lan):.1f} s")
    assert "192.0.2.100" in lan.machines["vm2"].run("ip -brief address")[1]

    for name, shell in lan.machines.items():
        status, output = shell.run("DEBIAN_FRONTEND=noninteractive apt-get -y purge dvipad")
        assert status == 0, output
        shell.run("systemctl stop nginx")
        after = set(shell.run(LEFT)[1].splitlines())
        left = after - set(before[name].splitlines())
        assert left == set(), f"{name} has left of dvipad: {sorted(left)}"
        say(f"{name}: purged, nothing left")
