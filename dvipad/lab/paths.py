"""Where a lab keeps its files: everything under /run/dvipad-lab/<prefix>."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dvipad.lab.spec import LabError
from dvipad.lab.system import run

ROOT: Final = Path("/run/dvipad-lab")
LOG_TAIL_LINES: Final = 15


@dataclass(frozen=True, slots=True)
class LabPaths:
    """The files of the lab `prefix`."""

    prefix: str

    @property
    def top(self) -> Path:
        """The lab's folder."""
        return ROOT / self.prefix

    @property
    def state(self) -> Path:
        """The specification, cuts and losses, for other processes that use the lab."""
        return self.top / "lab.json"

    @property
    def bpffs(self) -> Path:
        """The mount that holds the pins of all nodes."""
        return self.top / "bpf"

    def host(self, name: str) -> Path:
        """The folder of one host."""
        return self.top / "hosts" / name

    def node_file(self, name: str) -> Path:
        """The YAML file of one node."""
        return self.host(name) / "node.yaml"

    def profile(self, name: str) -> Path:
        """The profile of one node."""
        return self.host(name) / "profile"

    def log(self, name: str) -> Path:
        """What the node's daemon printed."""
        return self.host(name) / "daemon.log"

    def run(self, name: str) -> Path:
        """The daemon's own run folder: what a real host has in /run/dvipad."""
        return self.host(name) / "run"

    def control(self, name: str) -> Path:
        """The daemon's control socket."""
        return self.run(name) / "control.sock"

    def pid_file(self, name: str) -> Path:
        """Holds the daemon's process id."""
        return self.host(name) / "daemon.pid"

    def pins(self, name: str) -> Path:
        """The node's folder in the bpffs."""
        return self.bpffs / name

    def read_pid(self, name: str) -> int | None:
        """The process id that was written when the daemon was started."""
        try:
            return int(self.pid_file(name).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def log_tail(self, name: str) -> str:
        """The last lines of the daemon's log."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def load(self) -> dict[str, Any]:
        """The saved state; raises :class:`LabError` when there is no such lab."""
        try:
            state: dict[str, Any] = json.loads(self.state.read_text())
        except FileNotFoundError:
            raise LabError(f"there is no lab {self.prefix!r}; make one: dvipad lab up") from None
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state in one step."""
        new = self.state.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.replace(self.state)

    def mount(self) -> None:
        """Mount the bpffs, once for all nodes, where every namespace sees it."""
        self.bpffs.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(self.bpffs):
            run(["mount", "-t", "bpf", "bpf", str(self.bpffs)])

    def remove(self) -> None:
        """Remove pins, mount and files; what is not there is no error."""
        while os.path.ismount(self.bpffs):
            for pins in self.bpffs.iterdir():
                remove_pins(pins)
            run(["umount", str(self.bpffs)])
        shutil.rmtree(self.top, ignore_errors=True)
        with suppress(OSError):  # another lab is still in it, or it is gone
            ROOT.rmdir()


def remove_pins(folder: Path) -> None:
    """Remove a node's pins: the kernel then lets go of its maps and links."""
    shutil.rmtree(folder, ignore_errors=True)
