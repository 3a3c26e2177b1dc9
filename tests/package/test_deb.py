"""Installed, upgraded, removed and purged on a fresh Debian without network."""

from __future__ import annotations

from pathlib import Path

from tests.package.conftest import Root, install

PROFILE = """\
VIPADYNAMIC
  VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.100
  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 192.0.2.100 PORT 80 DESTIP ALL
ENDVIPADYNAMIC
"""
NODE = "node: vm1\nxcf: 192.0.2.1\nuplinks: [eth0]\nprofile: profile\n"


def test_commands_units_and_user_are_there(root: Root, package: Path) -> None:
    install(root, package)
    assert root.run("dvipad", "--version").stdout.startswith("dvipad ")
    assert "netstat vipadyn" in root.run("dvipactl", "--help").stdout
    (root.path / "etc/dvipad/profile").write_text(PROFILE)
    (root.path / "etc/dvipad/node.yaml").write_text(NODE)
    checked = root.run("dvipad", "--check", "/etc/dvipad/node.yaml")
    assert checked.stdout == "1 files, 0 errors, 0 warnings\n"
    assert root.run("getent", "passwd", "dvipad").stdout
    units = ("dvipad.service", "dvipad-web.service")
    for unit in units:
        path = f"/usr/lib/systemd/system/{unit}"
        verified = root.run("systemd-analyze", "verify", "--man=no", path, check=False)
        assert "dvipad" not in verified.stderr
    objects = "/usr/lib/dvipad/lib/python3.11/site-packages/dvipad/adapters/bpf/objects"
    assert len(list((root.path / objects.lstrip("/")).glob("*.bpf.o"))) == 3


def test_a_purge_leaves_nothing(root: Root, package: Path) -> None:
    before, users = root.files(), root.text("etc/passwd")
    install(root, package)
    (root.path / "etc/dvipad/node.yaml").write_text("no node file at all")
    root.run("dvipactl", "netstat", "vipadyn", check=False)
    root.run("dpkg", "--remove", "dvipad")
    assert root.text("etc/dvipad/node.yaml") == "no node file at all"
    root.run("dpkg", "--purge", "dvipad")
    assert root.files() == before
    assert root.text("etc/passwd") == users


def test_an_upgrade_keeps_the_configuration(root: Root, package: Path) -> None:
    install(root, package)
    (root.path / "etc/dvipad/node.yaml").write_text(NODE)
    install(root, package)
    assert root.text("etc/dvipad/node.yaml") == NODE
