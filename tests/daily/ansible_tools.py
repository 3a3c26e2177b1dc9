"""Ansible against the nodes of a lab: a control socket is a file, so every host is this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from dvipad.lab.cluster import Cluster

FOLDER: Final = Path(sys.executable).parent
COLLECTION: Final = Path(__file__).parents[2] / "ansible"
TIMEOUT_S: Final = 300
_RECAP: Final = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) .*?failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a playbook went. `recap`: host → (ok, changed, failed)."""

    status: int
    output: str
    recap: Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a module returned."""

    failed: bool
    values: Mapping[str, Any]


class Ansible:
    """The collection, installed in `home`, and the inventory of one lab."""

    def __init__(self, home: Path, cluster: Cluster | None = None) -> None:
        self.home = home
        self._cluster = cluster
        self._prefix = cluster.spec.prefix if cluster else ""
        self._inventory = home / "inventory.yml"
        hosts = {} if cluster is None else {node.name: {} for node in cluster.spec.nodes()}
        if cluster is not None:
            for name, values in hosts.items():
                values["dvipad_socket"] = str(cluster.paths.control(name))
        self._common: dict[str, object] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "dvipad_become": False,
            "dvipad_manage_services": False,
        }
        self._hosts: dict[str, dict[str, Any]] = hosts
        self.describe({}, {})

    def describe(self, hosts: Mapping[str, Mapping[str, object]], common: object) -> None:
        """More variables of some nodes, and of all of them."""
        assert isinstance(common, dict)
        every = {name: values | dict(hosts.get(name, {})) for name, values in self._hosts.items()}
        group = {"hosts": every, "vars": self._common | common}
        self._inventory.write_text(yaml.safe_dump({"dvipad": group}))

    def command(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run one of Ansible's commands to its end."""
        return self._run([str(FOLDER / argv[0]), *argv[1:]], {})

    def type(self, commands: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Commands in a shell of the control host; `./ansible` is the collection."""
        link = self.home / "ansible"
        if not link.exists():
            link.symlink_to(COLLECTION)
        return self._run(["bash", "-euo", "pipefail", "-c", commands], environment)

    def _run(self, argv: list[str], more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{FOLDER}:{os.environ.get('PATH', os.defpath)}",
            "ANSIBLE_HOME": str(self.home),
            "ANSIBLE_REMOTE_TEMP": str(self.home / "remote"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.home),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "LC_ALL": "C.UTF-8",
            "DVIPAD_LAB": self._prefix,
            **more,
        }
        return subprocess.run(
            argv,
            env=environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def play(self, playbook: str | Path, *options: str, **variables: object) -> Outcome:
        """Run a playbook: a path, or the name of one in the collection."""
        name = f"dvipad.cluster.{playbook}" if isinstance(playbook, str) else str(playbook)
        extra = ["-e", json.dumps(variables, default=str)]
        done = self.command("ansible-playbook", "-i", str(self._inventory), name, *extra, *options)
        rows = _RECAP.findall(done.stdout)
        recap = {host: (int(ok), int(changed), int(bad)) for host, ok, changed, bad in rows}
        return Outcome(done.returncode, done.stdout, recap)

    def module(self, host: str, name: str, *, check: bool = False, **arguments: object) -> Answer:
        """Run one module of the collection on `host` as Ansible would there, without Ansible."""
        assert self._cluster is not None
        control = str(self._cluster.paths.control(host))
        values = {"socket": control, **arguments, "_ansible_check_mode": check}
        done = subprocess.run(
            [sys.executable, "-m", f"ansible_collections.dvipad.cluster.plugins.modules.{name}"],
            env={**os.environ, "PYTHONPATH": str(self.home)},
            cwd=self.home,
            input=json.dumps({"ANSIBLE_MODULE_ARGS": values}),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.stdout, done.stderr
        return Answer(done.returncode != 0, json.loads(done.stdout))
