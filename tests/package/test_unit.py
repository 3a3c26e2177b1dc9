"""The units under a real systemd, on this machine's kernel."""

from __future__ import annotations

from pathlib import Path

from tests.package.booted import booted
from tests.package.conftest import Root, install

NODE = "node: vm1\nxcf: 192.0.2.1\nuplinks: [eth0]\nprofile: profile\n"
PROFILE = """\
VIPADYNAMIC
  VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.100
ENDVIPADYNAMIC
"""
MAIN_PID = "systemctl show -P MainPID dvipad"


def test_the_daemon_runs_as_its_user_in_its_sandbox(root: Root, package: Path) -> None:
    install(root, package)
    (root.path / "etc/dvipad/node.yaml").write_text(NODE)
    (root.path / "etc/dvipad/profile").write_text(PROFILE)
    with booted(root.path) as machine:
        machine.run("systemctl enable --now dvipad dvipad-web")
        machine.eventually("dvipactl netstat vipadyn | grep -o 'Status: Active'", "Status: Active")
        assert machine.run(f"stat --format=%U /proc/$({MAIN_PID})") == "dvipad"
        pins = f"nsenter --target=$({MAIN_PID}) --mount ls /sys/fs/bpf"
        assert machine.run(pins) == "dvipad"  # and nobody else's
        machine.run("systemctl reload dvipad")
        assert machine.run("systemctl show -P NRestarts dvipad") == "0"

        machine.run(f"kill -STOP $({MAIN_PID})")  # what does not answer is started again
        machine.eventually("systemctl show -P NRestarts dvipad", "1")
        machine.eventually("systemctl is-active dvipad dvipad-web", "active\nactive")

        machine.run("dpkg --purge dvipad")
        assert "dvipad" not in machine.run("ls /sys/fs/bpf /run")
        assert "192.0.2.100" not in machine.run("ip address")


def test_a_node_file_with_errors_waits_for_somebody(root: Root, package: Path) -> None:
    install(root, package)
    (root.path / "etc/dvipad/node.yaml").write_text("node: [")
    with booted(root.path) as machine:
        machine.run("systemctl start dvipad", check=False)
        assert machine.run("systemctl is-active dvipad", check=False) == "failed"
        assert machine.run("systemctl show -P NRestarts -P ExecMainStatus dvipad") == "0\n2"
