"""`python -m bench [NAME…]`: run benchmarks, print their figures, and keep them."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeAlias

from bench import choice, flood, rebuild, results, scale, scrape, status, takeover, throughput
from bench.figures import Figure
from bench.insn import host as insn
from bench.insn import whole
from bench.progress import say
from bench.rivals import Labs
from dvipad.lab.spec import LabError

QUIET_LOAD: Final = 0.5
Outcome: TypeAlias = tuple[list[Figure], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for; `seconds`: of one measurement of a load."""

    rounds: int
    seconds: int
    family: int
    targets: int
    connections: int
    direct: str


def _on_labs(load: Callable[[Labs, int, int], Outcome]) -> Callable[[Options], Outcome]:
    def run(options: Options) -> Outcome:
        with Labs(options.family, options.targets, options.direct) as labs:
            return load(labs, options.rounds, options.seconds)

    return run


BENCHMARKS: Final[Mapping[str, Callable[[Options], Outcome]]] = {
    "takeover": lambda options: takeover.run(options.rounds, options.family),
    "rebuild": lambda options: rebuild.run(options.rounds, options.family, options.connections),
    "conn": _on_labs(throughput.conn),
    "keepalive": _on_labs(throughput.keepalive),
    "bulk": _on_labs(throughput.bulk),
    "latency": _on_labs(throughput.latency),
    "flood": lambda options: flood.run(options.rounds, options.seconds, options.family),
    "choice": lambda options: choice.run(options.rounds, options.seconds, options.family),
    "scale": lambda options: scale.run(options.rounds, options.seconds),
    "scrape": lambda options: scrape.run(options.rounds),
    "status": lambda options: status.run(options.rounds, options.seconds),
    "insn": lambda options: insn.run(options.rounds),
    "insnconn": lambda options: whole.run(options.rounds),
}


def _interrupt(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of one measurement")
    parser.add_argument("--family", type=int, choices=(4, 6), default=4)
    parser.add_argument(
        "--targets", type=int, default=3, help="servers (not for takeover, rebuild)"
    )
    direct = "off: dvipad's tunnel for every packet (conn, keepalive, bulk, latency)"
    parser.add_argument("--direct", choices=("auto", "off"), default="auto", help=direct)
    parser.add_argument("--connections", type=int, default=rebuild.CONNECTIONS, help="of rebuild")
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="folder to write to")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit status 1 when something did not work: then there are no figures of it."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    strangers = set(arguments.names) - set(BENCHMARKS)
    if strangers:
        parser.error(f"no benchmark {', '.join(sorted(strangers))}; {', '.join(BENCHMARKS)}")
    asked = {name: getattr(arguments, name) for name in Options.__dataclass_fields__}
    if min(value for value in asked.values() if isinstance(value, int)) < 1:
        parser.error("rounds, seconds, targets and connections are 1 or more")
    options = Options(**asked)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        for name in arguments.names or BENCHMARKS:
            described = results.machine()
            if described["load_before"] > QUIET_LOAD:
                say(f"the machine is not quiet: load {described['load_before']:.1f}")
            figures, samples = BENCHMARKS[name](options)
            for figure in figures:
                print(figure.line(), flush=True)
            content = results.document(name, described, asked, figures, samples)
            path = results.write(arguments.results, content, figures)
            say(f"written to {os.path.relpath(path)}")
    except KeyboardInterrupt:
        say("interrupted")
        return 1
    except (LabError, OSError, subprocess.SubprocessError) as error:
        say(f"FAILED {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
