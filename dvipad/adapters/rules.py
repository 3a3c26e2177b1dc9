"""The one netfilter rule of the host that is ours: it hands marked SYNs to the queue worker.

The eBPF program marks a SYN that the worker shall decide; this rule, in the raw table where
nothing has looked at the packet yet, puts what is marked into the NFQUEUE. There is no bypass: a
marked SYN that nobody queued is dropped, never answered, and the client sends it again.

Three ways, the first that the kernel and the host have: an nftables table of our own (needs the
nft ``queue`` expression), ``iptables`` over nftables, ``iptables`` over its own tables. Bind the
queue first, and add the rule after.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

COMMENT: Final = "dvipad"
"""Marks our rule among the iptables rules of the host."""
COMMENT_WITH_TABLE: Final = "dvipad-and-table"
"""The same, and that there was no raw table before: it goes together with the rule."""
NFT_TABLE: Final = "dvipad"
COMMAND_TIMEOUT_S: Final = 10
"""A command that takes longer counts as failed (xtables waits this long for its lock)."""


class Backend(Enum):
    """How the rule gets into the kernel; in order of preference."""

    NFT = "nft"
    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"


_ELSEWHERE: Final = ("unshare", "--net")
_XTABLES: Final = {
    Backend.IPTABLES_NFT: ("iptables-nft", "ip6tables-nft"),
    Backend.IPTABLES_LEGACY: ("iptables-legacy", "ip6tables-legacy"),
}


class RuleError(OSError):
    """A command that changes the rules failed; the text is its own words."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command said. `code` 127: there is no such command."""

    code: int
    out: str
    err: str


Run: TypeAlias = Callable[[Sequence[str], str], Outcome]
"""Runs a command (arguments, standard input); never raises for a command that fails."""


def run_command(command: Sequence[str], stdin: str = "") -> Outcome:
    """Runs `command` with `stdin` and gives back what it said."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        return Outcome(127, "", f"{command[0]}: not installed")
    except subprocess.TimeoutExpired:
        return Outcome(124, "", f"{command[0]}: no answer within {COMMAND_TIMEOUT_S} s")
    return Outcome(done.returncode, done.stdout, done.stderr)


def nft_transaction(mark: int, queue: int) -> str:
    """The nft text that replaces our table with one that has the rule; one atomic run."""
    return (
        f"add table inet {NFT_TABLE}\n"
        f"delete table inet {NFT_TABLE}\n"
        f"table inet {NFT_TABLE} {{\n"
        "  chain prerouting {\n"
        "    type filter hook prerouting priority raw; policy accept;\n"
        f"    {_nft_rule(mark, queue)}\n"
        "  }\n"
        "}\n"
    )


def _nft_rule(mark: int, queue: int) -> str:
    return f"meta mark & {mark:#010x} == {mark:#010x} queue num {queue}"


def xtables_rule(mark: int, queue: int, comment: str) -> list[str]:
    """The rule's part of an iptables command line, after the chain."""
    return [
        *("-m", "mark", "--mark", f"{mark:#x}/{mark:#x}"),
        *("-m", "comment", "--comment", comment),
        *("-j", "NFQUEUE", "--queue-num", str(queue)),
    ]


def our_lines(rules: str) -> list[list[str]]:
    """Those of iptables -S `rules` that are ours, split into words."""
    split = (line.split() for line in rules.splitlines())
    return [words for words in split if _comment_of(words) in (COMMENT, COMMENT_WITH_TABLE)]


def _comment_of(words: list[str]) -> str | None:
    if "--comment" not in words[:-1]:
        return None
    return words[words.index("--comment") + 1].strip('"')


def probe(run: Run = run_command) -> Backend | None:
    """The first backend that works here, or None.

    Each is tried with the real rule in a network namespace of its own, which goes with the
    command: nothing but the kernel can tell whether it has what a command's text asks for.
    """
    if run([*_ELSEWHERE, "nft", "-f", "-"], nft_transaction(1, 0)).code == 0:
        return Backend.NFT
    for backend, commands in _XTABLES.items():
        rule = ["-t", "raw", "-A", "PREROUTING", *xtables_rule(1, 0, COMMENT)]
        if all(run([*_ELSEWHERE, command, *rule], "").code == 0 for command in commands):
            return backend
    return None


class Rules:
    """The rule for `mark` and `queue`, IPv4 and IPv6, by one backend.

    Raises :class:`RuleError` when a command fails.
    """

    def __init__(self, backend: Backend, mark: int, queue: int, run: Run = run_command) -> None:
        self._backend = backend
        self._mark = mark
        self._queue = queue
        self._run_command = run

    def present(self) -> bool:
        """Whether exactly this rule is in the kernel, for both families."""
        if self._backend is Backend.NFT:
            return self._nft_present()
        return all(self._xtables_present(command) for command in _XTABLES[self._backend])

    def ensure(self) -> None:
        """Puts the rule in, once; one of ours with another mark or queue goes. Idempotent."""
        if self._backend is Backend.NFT:
            if not self._nft_present():
                self._run(["nft", "-f", "-"], nft_transaction(self._mark, self._queue))
            return
        for command in _XTABLES[self._backend]:
            if not self._xtables_present(command):
                self._xtables_put(command)

    def remove(self) -> None:
        """Takes out what :meth:`ensure` put in, whichever mark and queue it has. Idempotent."""
        if self._backend is Backend.NFT:
            if self._probe(["nft", "list", "table", "inet", NFT_TABLE]):
                self._run(["nft", "delete", "table", "inet", NFT_TABLE])
            return
        for command in _XTABLES[self._backend]:
            self._xtables_remove(command)

    def _nft_present(self) -> bool:
        listed = self._run_command(["nft", "-j", "list", "table", "inet", NFT_TABLE], "")
        if listed.code != 0:
            return False
        rules = [each["rule"] for each in json.loads(listed.out)["nftables"] if "rule" in each]
        return len(rules) == 1 and _nft_matches(rules[0]["expr"], self._mark, self._queue)

    def _xtables_rules(self, command: str) -> list[list[str]]:
        listed = self._run_command([command, "-t", "raw", "-S", "PREROUTING"], "")
        return our_lines(listed.out) if listed.code == 0 else []

    def _xtables_present(self, command: str) -> bool:
        rules = self._xtables_rules(command)
        wanted = [
            ["-A", "PREROUTING", *xtables_rule(self._mark, self._queue, comment)]
            for comment in (COMMENT, COMMENT_WITH_TABLE)
        ]
        return len(rules) == 1 and rules[0] in wanted

    def _xtables_put(self, command: str) -> None:
        self._xtables_remove(command)
        made_table = self._backend is Backend.IPTABLES_NFT and not self._probe(
            ["nft", "list", "table", _nft_family(command), "raw"]
        )
        comment = COMMENT_WITH_TABLE if made_table else COMMENT
        rule = xtables_rule(self._mark, self._queue, comment)
        self._run([command, "-w", "-t", "raw", "-A", "PREROUTING", *rule])

    def _xtables_remove(self, command: str) -> None:
        made_table = False
        for words in self._xtables_rules(command):
            made_table = made_table or COMMENT_WITH_TABLE in [w.strip('"') for w in words]
            rest = [word.strip('"') for word in words[1:]]
            self._run([command, "-w", "-t", "raw", "-D", *rest])
        if made_table:
            self._delete_raw_table_if_unused(_nft_family(command))

    def _delete_raw_table_if_unused(self, family: str) -> None:
        listed = self._run_command(["nft", "-j", "list", "table", family, "raw"], "")
        if listed.code == 0:
            objects = json.loads(listed.out)["nftables"]
            if table_is_unused(objects):
                self._run(["nft", "delete", "table", family, "raw"])

    def _probe(self, command: Sequence[str]) -> bool:
        return self._run_command(command, "").code == 0

    def _run(self, command: Sequence[str], stdin: str = "") -> None:
        done = self._run_command(command, stdin)
        if done.code != 0:
            raise RuleError(f"{' '.join(command)}: {done.err.strip() or done.out.strip()}")


def table_is_unused(objects: list[dict[str, dict[str, object]]]) -> bool:
    """Whether a table (what ``nft -j list table`` says of it) only has base chains that accept."""
    for each in objects:
        kinds = set(each) - {"metainfo", "table"}
        if kinds - {"chain"}:
            return False
        if "chain" in each and each["chain"].get("policy") != "accept":
            return False
    return True


def _nft_family(command: str) -> str:
    return "ip6" if command.startswith("ip6") else "ip"


def _nft_matches(expressions: list[dict[str, object]], mark: int, queue: int) -> bool:
    return expressions == [
        {
            "match": {
                "op": "==",
                "left": {"&": [{"meta": {"key": "mark"}}, mark]},
                "right": mark,
            }
        },
        {"queue": {"num": queue}},
    ]
