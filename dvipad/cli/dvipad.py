"""The command ``dvipad``: checks and shows configuration, runs the daemon, keeps the lab."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, TextIO, cast

from dvipad.config.check import CheckedNode, CheckedPolicies, CheckedProfile, load_files
from dvipad.config.errors import errors
from dvipad.config.show import show_node, show_profile
from dvipad.config.show_policies import show_policies

OK: Final = 0
REFUSED: Final = 2
"""Exit status when a configuration has an error, or the command line has."""

_WORK: Final = {
    "run": ("dvipad.daemon", "main"),
    "web": ("dvipad.web.server", "main"),
    "cleanup": ("dvipad.cleanup", "cleanup"),
}
"""Commands that take a node file, and what does them: imported when it is needed."""

_EPILOG: Final = """\
files:
  A name that ends in .yaml or .yml is a node file: who this node is, its uplinks, its peers; or, if
  it has a list of policies, says which targets serve which requests (dvipad.policies(5));
  if it has objects, preferences or dns, it is a status file (dvipad.status(5)).
  Any other name is a profile: which addresses (DVIPAs) this node owns, backs up, distributes.
  A node file is checked together with the profile, the policies and the status file that it names.

examples:
  dvipad --check /etc/dvipad/node.yaml       is it all right? (changes nothing, needs no root)
  dvipad --check lb1.yaml lb2.yaml t1.yaml   and do these nodes fit together?
  dvipad --show /etc/dvipad/profile          print it as understood: defaults, no abbreviations
  dvipad run /etc/dvipad/node.yaml           run the daemon in the foreground (needs root)
  dvipad web /etc/dvipad/node.yaml           page and metrics of that daemon, by HTTP (port 4781)
  dvipad cleanup /etc/dvipad/node.yaml       after it stopped: leave nothing of it on this host
  dvipad convert keepalived.conf --out new   a profile and a node file that say the same
  dvipad lab up                              a whole cluster on this host, in network namespaces
  dvipad lab --help                          what else the lab can do

a first profile, for the node that owns the address:
  VIPADYNAMIC
    VIPADEFINE 255.255.255.0 192.0.2.100             ; I am its primary
    VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 192.0.2.100
      PORT 80 443 DESTIP ALL                         ; to every node that listens
  ENDVIPADYNAMIC
and for the node that takes it over when the first one dies:
  VIPADYNAMIC
    VIPABACKUP 100 MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.100
  ENDVIPADYNAMIC

exit status: 0 all right (warnings do not count), 2 problems; each is printed as
  FILE:LINE:COLUMN: error: what is wrong: 'the text'
      what to do about it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command with `argv` (default: that of the process); returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        _never_fail_on_characters(stream)
    try:
        if arguments[:1] == ["lab"]:
            return _lab(arguments[1:])
        status = _command(parser_of().parse_args(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, as in `dvipad --show | head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return status


def _never_fail_on_characters(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def parser_of() -> argparse.ArgumentParser:
    """The command line: also the source of man page and completion."""
    parser = argparse.ArgumentParser(
        prog="dvipad",
        description="One IP address for a whole cluster of Linux servers, that never goes away.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dvipad {_version()}")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--check",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="report all problems of these files, and change nothing",
    )
    group.add_argument(
        "--show",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="print what these files mean, in the language they are written in",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser("run", help="run the daemon of a node, in the foreground")
    run.add_argument("node", type=Path, metavar="NODE.yaml", help="the node file")
    serve = commands.add_parser(
        "web", help="serve the page and the metrics of a running node, over HTTP"
    )
    serve.add_argument("node", type=Path, metavar="NODE.yaml", help="the node file")
    clean = commands.add_parser(
        "cleanup", help="remove what a stopped daemon left: hidden addresses, eBPF programs, rules"
    )
    clean.add_argument("node", type=Path, metavar="NODE.yaml", help="the node file")
    translate = commands.add_parser(
        "convert",
        help="make a profile and a node file of keepalived.conf, haproxy.cfg, ipvsadm-save -n",
        description="Prints a profile and a node file that say what these files of one host say; "
        "on standard error each line that is not in them, and what to do about it.",
        epilog="exit status: 0 converted, 2 nothing found, or a file cannot be read or written",
    )
    translate.add_argument("files", nargs="+", type=Path, metavar="FILE", help="of one host")
    translate.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write profile and node.yaml there"
    )
    commands.add_parser("lab", help="a cluster in network namespaces of this host", add_help=False)
    return parser


def _version() -> str:
    try:
        return version("dvipad")
    except PackageNotFoundError:
        return "(not installed)"


def _command(options: argparse.Namespace) -> int:
    if options.check:
        return _check(options.check)
    if options.show:
        return _show(options.show)
    if options.command == "convert":
        converter = importlib.import_module("dvipad.convert.command")
        return cast(int, converter.main(options.files, options.out))
    if options.command in _WORK:
        module, function = _WORK[options.command]
        work = getattr(importlib.import_module(module), function)
        return cast(int, work(options.node))
    parser_of().print_help(sys.stderr)
    return REFUSED


def _lab(arguments: list[str]) -> int:
    lab = importlib.import_module("dvipad.lab.cli")
    return cast(int, lab.main(arguments))


def _check(paths: list[Path]) -> int:
    report = load_files(paths)
    for problem in report.problems:
        print(problem, file=sys.stderr)
    found = len(errors(report.problems))
    warnings = len(report.problems) - found
    print(f"{len(paths)} files, {found} errors, {warnings} warnings")
    return OK if report.accepted else REFUSED


def _show(paths: list[Path]) -> int:
    report = load_files(paths)
    for problem in report.problems:
        print(problem, file=sys.stderr)
    for file in report.files:
        profile_only = isinstance(file, CheckedProfile)
        if len(report.files) > 1:
            print(f"{';' if profile_only else '#'} {str(file.path)!a}")
        if isinstance(file, CheckedProfile):
            if file.profile is not None:
                print(show_profile(file.profile), end="")
        elif isinstance(file, CheckedNode) and file.node is not None:
            print(show_node(file.node), end="")
        elif isinstance(file, CheckedPolicies) and file.policies is not None:
            print(show_policies(file.policies), end="")
    return OK if report.accepted else REFUSED


if __name__ == "__main__":
    sys.exit(main())
