"""Three machines with systemd, from the .deb, set up by the README word for word.

The tests are steps of one story: each goes on where the one before it stopped.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest
import yaml

from dvipad.lab.spec import stretched
from dvipad.vmlab.disk import disk
from dvipad.vmlab.guest_kernel import fetch
from dvipad.vmlab.job import FOLDER, ROOT
from dvipad.vmlab.readme import commands
from dvipad.vmlab.segment import Segment, Shell, segment
from tests.machines.documents import run_later_blocks

NAMES: Final = ("vm1", "vm2", "vm3")
OWNER: Final = "vm1"
BACKUP: Final = "vm2"
DVIPA: Final = "192.0.2.100"
COMMANDS_AT_MOST: Final = 10
EXPOSURE_AT_MOST: Final = 3.0
DEADLINE_S: Final = 900.0
POLL_S: Final = 0.5
SLOW: Final = 20.0
"""Three emulated processors share this machine's: a loop there is often later than 300 ms, which
the default timers take for death. Appended to the README's node file, and not counted."""
NODE_FILE: Final = "/etc/dvipad/node.yaml"
CURL: Final = ("curl", "--silent", "--show-error", "--fail", "--max-time", "20", f"http://{DVIPA}/")
FILES: Final = """
find / -xdev -not -path '/tmp/*' -not -path '/var/log/*' -not -path '/var/cache/*' \
    -not -path '/var/tmp/*' -not -path '/var/lib/dpkg/*' -not -path '/var/lib/nginx*' \
    -not -path '/var/lib/systemd/*' -not -path '/var/lib/apt/*' -not -path '/root/*' \
    -not -name 'passwd-' -not -name 'group-' -not -name 'shadow-' -not -name 'gshadow-' | sort
cut -d : -f 1 /etc/passwd /etc/group
"""
"""Where other programs write all the time is not looked at."""
PACKAGED: Final = "cat /var/lib/dpkg/info/*.list"
OTHERS: Final = re.compile(
    r"nginx|tables|/__pycache__(/|$)|^/etc/(hosts|inputrc|networks|python3)|^/var/(www|lib/python)"
    r"|^/usr/local/lib/python|^(python3|www-data)$"
)
"""What the scripts of other packages make, and dpkg does not know."""
STATE: Final = """
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


def say(words: str) -> None:
    """Progress: this takes minutes."""
    print(f"machines: {words}", file=sys.stderr, flush=True)


@dataclass
class Cluster:
    """The machines; `files` and `state`: each one's before the package, and just after it."""

    lan: Segment
    files: dict[str, str] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def set_up(self, name: str) -> None:
        """What the README says, on one machine."""
        shell = self.lan.machines[name]
        self.files[name] = done(shell, FILES)
        for command in commands((ROOT / "README.md").read_text(), name):
            began = time.monotonic()
            status, output = shell.run(command)
            say(f"{name}: {command.splitlines()[0]} ({time.monotonic() - began:.0f} s)")
            if status != 0:
                self.failed.append(f"{name}: {command}: exit status {status}: {output}")
            if command.startswith(f"cat >{NODE_FILE}"):
                done(shell, f"cat >>{NODE_FILE} <<END\n{yaml.safe_dump(stretched(SLOW))}END")
            if name not in self.state:
                self.state[name] = shell.run(STATE)[1]

    def owner(self) -> str:
        """Who has the DVIPA, as the backup sees it."""
        _, output = self.lan.machines[BACKUP].run("dvipactl netstat vipadyn")
        found = re.search(r"Owner: (\w+)", output)
        return found[1] if found else ""


def done(shell: Shell, command: str) -> str:
    """What a command prints, which must succeed."""
    status, output = shell.run(command)
    assert status == 0, f"{command}: exit status {status}: {output}"
    return output


def at_once(step: Callable[[str], None], names: list[str]) -> None:
    """A step on several machines side by side."""
    threads = [threading.Thread(target=step, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def eventually(what: str, holds: Callable[[], bool]) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < DEADLINE_S, f"not after {DEADLINE_S:g} s: {what}"
        time.sleep(POLL_S)
    return time.monotonic() - began


@contextmanager
def requests(lan: Segment) -> Iterator[list[subprocess.CompletedProcess[str]]]:
    """One request after the other while the block runs; yields their outcomes so far."""
    outcomes: list[subprocess.CompletedProcess[str]] = []
    stop = threading.Event()

    def go() -> None:
        while not stop.is_set():
            outcomes.append(lan.client(CURL, DEADLINE_S))

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Fresh machines with addresses, the package in the home folder of root, and the README."""
    package = max((ROOT / "build" / "dist").glob("dvipad_*.deb"), key=lambda p: p.stat().st_mtime)
    kernel = fetch(FOLDER)
    image = disk(FOLDER, kernel)
    say(f"booting {len(NAMES)} machines, Linux {kernel.version}, emulated")
    began = time.monotonic()
    with segment(kernel, image, NAMES, "192.0.2.50/24", [package]) as lan:
        for number, shell in enumerate(lan.machines.values(), 1):
            done(shell, f"ip link set eth0 up; ip address add 192.0.2.{number}/24 dev eth0")
        say(f"booted after {time.monotonic() - began:.0f} s")
        made = Cluster(lan)
        at_once(made.set_up, [*NAMES])
        yield made


def test_the_readme_makes_a_cluster(cluster: Cluster) -> None:
    for name in NAMES:
        assert len(commands((ROOT / "README.md").read_text(), name)) <= COMMANDS_AT_MOST
    assert cluster.failed == []
    took_s = eventually("a page", lambda: "nginx" in cluster.lan.client(CURL, DEADLINE_S).stdout)
    say(f"the DVIPA answers after {took_s:.1f} s")
    eventually("its owner", lambda: cluster.owner() == OWNER)


def test_it_runs_as_its_own_user_and_is_little_exposed(cluster: Cluster) -> None:
    for name, shell in cluster.lan.machines.items():
        assert done(shell, "systemctl is-active dvipad dvipad-web") == "active\nactive", name
        user = done(shell, "ps -o user= -p $(systemctl show -P MainPID dvipad)")
        assert user.strip() == "dvipad"
        assert done(shell, "systemctl show -P NRestarts dvipad") == "0"
    shell = cluster.lan.machines["vm3"]
    output = done(shell, "systemd-analyze security --no-pager dvipad | tail -n 1")
    say(output)
    exposure = re.search(r"([0-9.]+) [A-Z]+", output)
    assert exposure and float(exposure[1]) <= EXPOSURE_AT_MOST


def test_commands_of_other_documents_run_there(cluster: Cluster) -> None:
    run_later_blocks(cluster.lan.machines[OWNER].run)
    eventually("a page", lambda: "nginx" in cluster.lan.client(CURL, DEADLINE_S).stdout)


@pytest.mark.parametrize("verb", ["reload", "kill -s KILL", "restart"])
def test_under_systemd_no_request_fails(cluster: Cluster, verb: str) -> None:
    shell = cluster.lan.machines[OWNER]
    main_pid = "systemctl show -P MainPID dvipad"
    before = done(shell, main_pid)
    with requests(cluster.lan) as outcomes:
        done(shell, f"systemctl {verb} dvipad")
        if verb != "reload":
            eventually("a new daemon", lambda: done(shell, main_pid) not in ("0", before))
        ready = "systemctl is-active dvipad && curl --silent --fail http://127.0.0.1:4781/readyz"
        eventually("ready", lambda: shell.run(ready)[0] == 0)
        eventually("the primary owns", lambda: cluster.owner() == OWNER)
        enough = len(outcomes) + 20
        eventually("more requests", lambda: len(outcomes) >= enough)
    bad = [f"{each.returncode} {each.stderr}" for each in outcomes if each.returncode != 0]
    say(f"systemctl {verb} dvipad: {len(outcomes)} requests, {len(bad)} failed")
    assert bad == []


def test_it_outlives_its_owner(cluster: Cluster) -> None:
    cluster.lan.power_off(OWNER)
    took_s = eventually("a page", lambda: "nginx" in cluster.lan.client(CURL, DEADLINE_S).stdout)
    say(f"{OWNER} is off; the DVIPA answers after {took_s:.1f} s")
    assert cluster.owner() == BACKUP


def test_a_purge_leaves_nothing(cluster: Cluster) -> None:
    left: dict[str, set[str]] = {}

    def purge(name: str) -> None:
        shell = cluster.lan.machines[name]
        done(shell, "DEBIAN_FRONTEND=noninteractive apt-get --yes purge dvipad")
        state = set(shell.run(STATE)[1].splitlines()) - set(cluster.state[name].splitlines())
        files = set(done(shell, FILES).splitlines()) - set(cluster.files[name].splitlines())
        packaged = done(shell, PACKAGED).splitlines()
        files -= {*packaged, *(f"/usr{path}" for path in packaged)}  # /lib is /usr/lib
        others = {line for line in files if OTHERS.search(line) and "dvipad" not in line}
        left[name] = state | (files - others)
        say(f"{name}: purged")

    at_once(purge, [*cluster.lan.machines])
    assert left == {BACKUP: set(), "vm3": set()}
