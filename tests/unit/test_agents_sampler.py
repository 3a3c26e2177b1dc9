"""What is read of /proc and of cgroups, as files; nothing in them can harm the agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvipad.agents import proc
from dvipad.agents.cgroups import Cgroups
from dvipad.agents.sampler import Sampler, SamplerSettings
from dvipad.agents.workload import SERVERS_MAX, WorkloadAgent
from dvipad.wire.codec import encode
from dvipad.wire.messages import ServerWeight

STAT = "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\ncpu1 1 2 3\nprocs_running {running}\n"
PSI = "some avg10=0.00 avg60=0.00 avg300=0.00 total={some}\nfull avg10=0.00 total={full}\n"


class Machine:
    """/proc and a hierarchy of cgroups in a folder, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.root = folder / "proc", folder / "cgroup"
        (self.proc / "pressure").mkdir(parents=True)
        self.root.mkdir()
        self.now_s = 100.0
        self.stat()

    def stat(self, busy_s: float = 0, running: int = 1) -> None:
        text = STAT.format(busy=round(busy_s * 100), idle=1000, running=running)
        (self.proc / "stat").write_text(text)

    def group(self, name: str, **files: object) -> int:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file.replace("__", ".")).write_text(str(text))
        return folder.stat().st_ino

    def agent(self, **wanted: object) -> WorkloadAgent:
        made = SamplerSettings(proc=self.proc, **wanted)  # type: ignore[arg-type]
        return WorkloadAgent(Sampler(made, Cgroups(self.root), lambda: self.now_s), 1000)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def usage(seconds: float) -> str:
    return f"usage_usec {round(seconds * 1e6)}\nuser_usec 0\n"


def test_a_machine_that_is_half_busy(machine: Machine) -> None:
    agent = machine.agent()
    assert agent.look({}, None) is None
    machine.now_s += 2
    machine.stat(busy_s=2)
    told = agent.look({}, None)
    assert told is not None
    assert (told.host, told.millicpus, told.valid_ms, told.servers) == (32, 2000, 3000, ())


def test_pressure_and_memory_of_the_machine_count(machine: Machine) -> None:
    agent = machine.agent()
    for passed_s, stalled_us, left in ((0, 0, 100), (2, 1_000_000, 5)):
        machine.now_s += passed_s
        (machine.proc / "pressure/cpu").write_text(PSI.format(some=stalled_us, full=0))
        (machine.proc / "meminfo").write_text(f"MemTotal: 100 kB\nMemAvailable: {left} kB\n")
        told = agent.look({}, None)
    assert told is not None and told.host == 24  # 64 · (1 - 0.5 / 2) · 0.05 / 0.1


def test_a_server_has_what_its_cgroup_allows_and_its_own_work_does_not_count(
    machine: Machine,
) -> None:
    number = machine.group("web", cpu__stat=usage(0), cpu__max="50000 100000")
    agent = machine.agent()
    agent.look({(None, 80): {number}}, None)
    machine.now_s += 2
    machine.stat(busy_s=1)
    machine.group("web", cpu__stat=usage(0.5))
    told = agent.look({(None, 80): {number}, (None, 81): {number + 10_000}}, None)
    assert told is not None
    # The node: 1.5 of 2 CPUs are free, 0.25 are the server's. The server: half a CPU at most.
    assert told.host == 56
    assert told.servers == (ServerWeight(None, 80, 16),)


def test_a_node_that_is_a_cgroup(machine: Machine) -> None:
    """Its hog counts, and that of another cgroup does not."""
    agent = machine.agent(cgroup="/lab/t1", cpus=0.4)
    numbers = []
    for turn in (0, 1):
        machine.now_s += 2 * turn
        machine.group("lab/t1", cpu__stat=usage(0.6 * turn))
        numbers = [
            machine.group("lab/t1/server", cpu__stat=usage(0.2 * turn)),
            machine.group("lab/t1/hog", cpu__stat=usage(0.4 * turn)),
            machine.group("elsewhere", cpu__stat=usage(9 * turn)),
        ]
        told = agent.look({(None, 80): {numbers[0]}, (None, 81): {numbers[2]}}, 7)
    assert told is not None
    assert (told.host, told.millicpus, told.announced) == (32, 400, 7)
    assert told.servers == (ServerWeight(None, 80, 32),)


def test_a_job_that_waits_for_its_own_limit_is_in_nobodys_way(machine: Machine) -> None:
    agent = machine.agent(cgroup="/node", cpus=1.0)
    for turn in (0, 1):
        machine.now_s += 2 * turn
        machine.group(
            "node", cpu__stat=usage(0), cpu__pressure=PSI.format(some=2_000_000 * turn, full=0)
        )
        waited = PSI.format(some=500_000 * turn, full=0)
        number = machine.group("node/web", cpu__stat=usage(0), cpu__pressure=waited)
        known = agent.look({(None, 80): {number}}, None)
    assert known is not None and known.host == 56  # the server waited for a quarter of the time
    unknown = machine.agent(cgroup="/node", cpus=1.0)
    unknown.look({}, None)
    machine.now_s += 2
    machine.group("node", cpu__pressure=PSI.format(some=4_000_000, full=0))
    told = unknown.look({}, None)
    assert told is not None and told.host == 32


def test_without_psi_and_cgroups_what_there_is_counts(machine: Machine, tmp_path: Path) -> None:
    settings_ = SamplerSettings(proc=machine.proc)
    agent = WorkloadAgent(Sampler(settings_, Cgroups(None), lambda: machine.now_s), 1000)
    agent.look({(None, 80): {5}}, None)
    machine.now_s += 1
    machine.stat(busy_s=2, running=3)
    told = agent.look({(None, 80): {5}}, None)
    assert told is not None and told.host == 16  # nothing is free: half of a CPU


def test_nothing_to_read_says_nothing_but_what_is_announced(machine: Machine) -> None:
    (machine.proc / "stat").unlink()
    agent = machine.agent()
    assert [agent.look({}, None) for _ in range(3)] == [None] * 3
    assert agent.counters["unreadable"] == 3
    told = agent.look({}, 5)
    assert told is not None and (told.host, told.announced) == (None, 5)


def test_an_order_at_once_does_not_lose_what_was_measured(machine: Machine) -> None:
    agent = machine.agent()
    agent.look({}, None)
    machine.now_s += 1
    measured = agent.look({}, None)
    machine.now_s += 0.01
    told = agent.look({}, 20)
    assert measured is not None and told == replace(measured, announced=20)
    machine.now_s += 1
    assert agent.look({}, 20) == told


def test_more_servers_than_a_message_may_have(machine: Machine) -> None:
    number = machine.group("web", cpu__stat=usage(0))
    listeners = {(None, port): {number} for port in range(1, SERVERS_MAX + 100)}
    agent = machine.agent()
    agent.look(listeners, None)
    machine.now_s += 1
    told = agent.look(listeners, None)
    assert told is not None and len(told.servers) == SERVERS_MAX
    assert encode(told)


def test_a_cgroup_that_went_and_came_back_is_another_one(machine: Machine) -> None:
    groups = Cgroups(machine.root)
    number = machine.group("a")
    assert groups.name_of(number) == PurePosixPath("/a")
    (machine.root / "a").rmdir()
    assert groups.name_of(number) is None
    assert groups.name_of(machine.root.stat().st_ino) is None


texts = st.text(max_size=200) | st.lists(
    st.sampled_from(
        ["cpu", "cpu0", "some", "total=5", "procs_running", "-1", "9" * 40, "max", "\n", "0"]
    ),
    max_size=30,
).map(" ".join)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_rubbish_harms_nothing(machine: Machine, data: st.DataObject) -> None:
    number = machine.group("web")
    agent = machine.agent(**data.draw(st.sampled_from([{}, {"cgroup": "/web"}, {"cpus": 1.0}])))
    for _ in range(3):
        for path in (
            machine.proc / "stat",
            machine.proc / "meminfo",
            machine.proc / "pressure/io",
            *(machine.root / "web" / name for name in ("cpu.stat", "cpu.max", "cpu.pressure")),
            *(machine.root / "web" / name for name in ("memory.max", "memory.current")),
        ):
            path.write_text(data.draw(texts))
        machine.now_s += data.draw(st.sampled_from([0.0, 1.0]))
        told = agent.look({(None, 80): {number}}, None)
        assert told is None or encode(told)
    machine.stat()


@given(texts)
def test_readers_never_raise(text: str) -> None:
    proc.machine_time(text)
    proc.fields(text)
    assert proc.stalled_s(text, "some") is None or text
    limit = proc.cpu_limit(text)
    assert limit is None or limit > 0
