"""`dvipactl support-bundle`: everything for a bug report, in one file without secrets."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from dvipad import __version__
from dvipad.cli.ask import Refused, ask
from dvipad.cli.progress import Progress
from dvipad.cli.redact import redact

COMMAND_S: Final = 10.0
"""A command that takes longer is ended, and what it said until then is lost."""
CRT_ROWS: Final = 1_000
FILE_MAX: Final = 8 * 1024 * 1024
"""Characters of one file of the bundle, at the most: the last ones."""
DEFAULT_NODE: Final = Path("/etc/dvipad/node.yaml")
COMMANDS: Final = {
    "kernel": "uname -a",
    "packages": "dpkg-query -W iproute2 iptables nftables bpftool libbpf1",
    "ip-address": "ip -d -s address",
    "ip-route-4": "ip -4 route show table all",
    "ip-route-6": "ip -6 route show table all",
    "ip-rule-4": "ip -4 rule",
    "ip-rule-6": "ip -6 rule",
    "ip-neighbours": "ip -s neigh",
    "sockets": "ss -tlnpe",
    "socket-totals": "ss -s",
    "tc": "tc -s qdisc show",
    "nft": "nft list ruleset",
    "iptables": "iptables-save -c",
    "ip6tables": "ip6tables-save -c",
    "bpf-programs": "bpftool prog list",
    "bpf-maps": "bpftool map list",
    "bpf-net": "bpftool net show",
    "sysctl-ip": "sysctl -a -r net.ipv[46].(conf|ip_|tcp_)",
    "sysctl-core": "sysctl -a -r (net.core|kernel.unpriv|net.netfilter.nf_conntrack_[mc])",
    "netstat": "nstat -asz",
    "unit": "systemctl status --no-pager --full dvipad dvipad-web",
    "journal": "journalctl --no-pager -n 5000 -u dvipad -u dvipad-web",
}
"""Name of the file, and the command whose output it has."""
REPORTS: Final[dict[str, dict[str, Any]]] = {
    "view": {"command": "view"},
    "counters": {"command": "counters"},
    "config": {"command": "config"},
    "policies": {"command": "policies"},
    "status": {"command": "status"},
    "events": {"command": "events", "after": 0},
    "crt": {"command": "crt", "limit": CRT_ROWS},
}
_CLIENTS: Final = ("ip-neighbours",)
_EPILOG: Final = f"""\
In the bundle: versions, configuration, what the daemon reports (view, counters, policies, status,
events, the first {CRT_ROWS} connections), addresses, routes, rules, neighbours, filters, eBPF
programs, sysctls, and the journal of the units. It says so where the daemon does not answer, or a
command is missing. Values of keys that are called secret, password, token, key …, PEM blocks and
logins of URLs are removed.

  dvipactl support-bundle
  dvipactl support-bundle --no-addresses /tmp/bug.tar.gz    without addresses of clients

exit status: 0 written, also when the daemon is dead; 1 the file cannot be written; 2 wrong usage
"""


def add_parser(commands: Any, finish: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds ``support-bundle`` to the commands; `finish` adds what all commands have."""
    parser = commands.add_parser(
        "support-bundle",
        help="everything for a bug report, secrets removed",
        description="Writes a .tar.gz with everything for a bug report; secrets are removed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        metavar="FILE.tar.gz",
        help="default: dvipad-HOST-TIME.tar.gz in this directory",
    )
    parser.add_argument(
        "--node",
        type=Path,
        default=DEFAULT_NODE,
        metavar="NODE.yaml",
        help="the node file (%(default)s)",
    )
    parser.add_argument(
        "--no-addresses", action="store_true", help="leave addresses of clients out"
    )
    parser.set_defaults(run=_run)
    finish(parser)


def _run(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    path: Path = arguments.file or Path(f"dvipad-{platform.node()}-{stamp}.tar.gz")
    names = []
    try:
        with _private(path) as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
            for name, text in contents(arguments.socket, arguments.node, arguments.no_addresses):
                data = redact(text)[-FILE_MAX:].encode(errors="replace")
                entry = tarfile.TarInfo(f"dvipad-support/{name}")
                entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(data))
                names.append(name)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; name another file") from error
    return {"file": str(path), "contents": names}, [f"{path}: {len(names)} files"]


def _private(path: Path) -> io.BufferedWriter:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.fdopen(descriptor, "wb")


def contents(socket: Path, node: Path, no_addresses: bool) -> Iterator[tuple[str, str]]:
    """Name and text of each file, secrets included."""
    with Progress() as progress:
        yield "version.txt", f"dvipad {__version__}\nPython {platform.python_version()}\n"
        files: dict[str, str | None] = {}
        for name, request in REPORTS.items():
            progress.say(f"support bundle: {name}")
            text, answer = _report(socket, request, no_addresses)
            if name == "config" and answer:
                files = {key: answer["node"][key] for key in ("profile", "policies", "status")}
            yield f"daemon/{name}.json", text
        yield "config/node.yaml", _file(node)
        for key, path in files.items():
            if path is not None:
                yield f"config/{key}", _file(Path(path))
        yield "os-release", _file(Path("/etc/os-release"))
        for name, command in COMMANDS.items():
            if no_addresses and name in _CLIENTS:
                continue
            progress.say(f"support bundle: {command}")
            yield f"host/{name}.txt", output(command.split())
        for device in sorted(entry.name for entry in Path("/sys/class/net").iterdir()):
            for side in ("ingress", "egress"):
                command = f"tc -s filter show dev {device} {side}"
                yield f"host/tc-{device}-{side}.txt", output(command.split())


def _report(
    socket: Path, request: dict[str, Any], no_addresses: bool
) -> tuple[str, dict[str, Any] | None]:
    try:
        answer = ask(socket, request)
    except Refused as error:
        return f"the daemon does not answer: {error}\n", None
    if no_addresses:
        for row in answer.get("rows", ()):
            row["client"] = "left out"
    return json.dumps(answer, indent=1), answer


def _file(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        return f"{path}: {error.strerror}\n"


def output(command: list[str], timeout_s: float = COMMAND_S) -> str:
    """The command and what it says; one that is missing or takes too long is a line, too."""
    head = f"$ {' '.join(command)}\n"
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        return f"{head}not installed: {command[0]}\n"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{head}{error}\n"
    failed = f"exit status {done.returncode}\n" if done.returncode else ""
    return f"{head}{done.stdout}{done.stderr}{failed}"
