"""`dvipad lab`: a whole cluster on one machine, in network namespaces that touch nothing else."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.spec import DEFAULT_PREFIX, TUNNELS, LabError, LabSpec
from dvipad.lab.system import require_root

_EPILOG: Final = """\
Hosts: client, lb1 (defines the DVIPA), lb2 (backs it up), t1 t2 t3 (targets), on one LAN,
192.0.2.0/24 and 2001:db8:2::/64; the DVIPA is 192.0.2.100 or 2001:db8:2::100, ports 80 and 7.

  dvipad lab up                              bring it up, with a daemon on every node
  dvipad lab exec t1 -- ip address           run a command on a host
  dvipad lab exec client -- ping 192.0.2.100
  dvipad lab fail lb1                        cut the power of lb1; heal lb1 gives it back
  dvipad lab cut lb1 t2                      nothing passes between lb1 and t2; join undoes it
  dvipad lab down                            leave nothing behind, also after a crash
"""


def parser_of() -> argparse.ArgumentParser:
    """The command line: also the source of man page and completion."""
    parser = argparse.ArgumentParser(
        prog="dvipad lab",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--prefix",
        default=os.environ.get("DVIPAD_LAB", DEFAULT_PREFIX),
        help="namespaces are called PREFIX-HOST (default: $DVIPAD_LAB, or %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_up(commands.add_parser("up", help="make the hosts and start their daemons"))
    execute = commands.add_parser("exec", help="run a command on a host")
    execute.add_argument("host", metavar="HOST")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD")
    status = commands.add_parser("status", help="show the hosts, their daemons, and what is cut")
    status.add_argument("--json", action="store_true", help="for programs")
    for name, text in (
        ("fail", "cut a host's power: link gone, processes killed, kernel state lost"),
        ("heal", "give a failed host its power back, and start its daemon"),
        ("log", "print what a host's daemon has printed"),
    ):
        commands.add_parser(name, help=text).add_argument("host", metavar="HOST")
    for name, text in (("cut", "drop all packets between two hosts"), ("join", "undo a cut")):
        pair = commands.add_parser(name, help=text)
        pair.add_argument("hosts", nargs=2, metavar="HOST")
        pair.add_argument(
            "--one-way", action="store_true", help="only from the first to the second"
        )
    loss = commands.add_parser("loss", help="lose packets from and to a host at random")
    loss.add_argument("host", metavar="HOST")
    loss.add_argument("percent", type=float, metavar="PERCENT", help="0 ends it")
    commands.add_parser("down", help="leave nothing of the lab behind")
    return parser


def _add_up(up: argparse.ArgumentParser) -> None:
    up.add_argument("--lbs", type=int, default=2, metavar="N", help="distributors (default: 2)")
    up.add_argument("--targets", type=int, default=3, metavar="N", help="targets (default: 3)")
    up.add_argument("--clients", type=int, default=1, metavar="N", help="clients (default: 1)")
    up.add_argument("--tunnel", choices=TUNNELS, default="ipip", help="default: ipip")
    up.add_argument("--family", type=int, choices=(4, 6), default=4, help="of the DVIPA")
    up.add_argument(
        "--xcf-family", type=int, choices=(4, 6), help="of the tunnels (default: the DVIPA's)"
    )
    up.add_argument("--weights", default="", metavar="N,N,…", help="one per target: weighted")
    up.add_argument("--ports", default="80,7", metavar="P,P,…", help="distributed (default: 80,7)")
    up.add_argument("--seed", action="store_true", help="nodes know one peer, and learn the others")
    up.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="[HOST=]FILE",
        help="a host's profile instead of the built-in one (default host: lb1)",
    )
    up.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="[HOST:]KEY.KEY=VALUE",
        help="a node setting, for all nodes or for one: --set timers.heartbeat_ms=50",
    )
    up.add_argument("--no-daemons", action="store_true", help="hosts and links only")


def spec_of(arguments: argparse.Namespace) -> LabSpec:
    """The lab that the options of `up` ask for; raises :class:`LabError` for bad values."""
    settings, host_settings = _settings(arguments.set)
    return LabSpec(
        prefix=arguments.prefix,
        lbs=arguments.lbs,
        targets=arguments.targets,
        clients=arguments.clients,
        tunnel=arguments.tunnel,
        family=arguments.family,
        xcf_family=arguments.xcf_family,
        ports=_numbers(arguments.ports, "--ports"),
        weights=_numbers(arguments.weights, "--weights"),
        seed=arguments.seed,
        profiles=dict(_profile(option) for option in arguments.profile),
        settings=settings,
        host_settings=host_settings,
    )


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(",") if word)
    except ValueError:
        raise LabError(f"{option} {text!r}: numbers with commas between them") from None


def _profile(option: str) -> tuple[str, str]:
    host, equals, name = option.partition("=")
    if not equals:
        host, name = "lb1", option
    try:
        return host, Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"--profile {option}: {error}") from None


def _settings(options: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    everywhere: dict[str, Any] = {}
    hosts: dict[str, dict[str, Any]] = {}
    for option in options:
        path, equals, text = option.partition("=")
        host, colon, key = path.rpartition(":")
        words = key.split(".")
        if not equals or not all(words):
            raise LabError(f"--set {option!r}: [HOST:]KEY.KEY=VALUE")
        place = hosts.setdefault(host, {}) if colon else everywhere
        for word in words[:-1]:
            place = place.setdefault(word, {})
            if not isinstance(place, dict):
                raise LabError(f"--set {option!r}: {word} has a value already")
        try:
            place[words[-1]] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise LabError(f"--set {option!r}: {error}") from None
    return everywhere, hosts


def _print_status(cluster: Cluster, as_json: bool) -> None:
    rows = cluster.status()
    if as_json:
        print(json.dumps({"hosts": rows, "cuts": sorted(cluster.cuts)}))
        return
    print(f"{'host':<9} {'power':<6} {'daemon':<8} {'loss':<6} addresses")
    for row in rows:
        power = "on" if row["power"] else "off"
        daemon = str(row["daemon"] or "-")
        loss = f"{row['loss_percent']:g}%"
        print(f"{row['host']:<9} {power:<6} {daemon:<8} {loss:<6} {' '.join(row['addresses'])}")
    for one, other in sorted(cluster.cuts):
        print(f"cut: {one} -> {other}")


def _execute(cluster: Cluster, host: str, argv: list[str]) -> int:
    command = argv[1:] if argv[:1] == ["--"] else argv
    if not command:
        raise LabError("exec: which command? dvipad lab exec HOST -- CMD")
    sys.stdout.flush()
    whole = cluster.command(host, command)
    os.execvpe(whole[0], whole, cluster.environment(host))


def _up(arguments: argparse.Namespace) -> None:
    cluster = Cluster(spec_of(arguments), daemons=not arguments.no_daemons)
    cluster.up()
    names = " ".join(host.name for host in cluster.spec.hosts())
    print(f"lab {arguments.prefix!r} is up: {names}; DVIPA {cluster.spec.dvipa()}")


def _change(cluster: Cluster, arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "exec":
            return _execute(cluster, arguments.host, arguments.argv)
        case "status":
            _print_status(cluster, arguments.json)
        case "fail":
            cluster.fail(arguments.host)
        case "heal":
            cluster.heal(arguments.host)
        case "log":
            log = cluster.paths.log(cluster.spec.host(arguments.host).name)
            sys.stdout.write(log.read_text(errors="replace") if log.exists() else "")
        case "cut":
            cluster.cut(*arguments.hosts, one_way=arguments.one_way)
        case "join":
            cluster.join(*arguments.hosts, one_way=arguments.one_way)
        case "loss":
            cluster.loss(arguments.host, arguments.percent)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one `dvipad lab` command; returns its exit status (2: it could not be done)."""
    arguments = parser_of().parse_args(argv)
    try:
        require_root()
        if arguments.command == "up":
            _up(arguments)
        elif arguments.command == "down":
            destroy(LabSpec(prefix=arguments.prefix).prefix)
        else:
            return _change(Cluster.attach(arguments.prefix), arguments)
    except LabError as error:
        print(f"dvipad lab: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
