"""The netfilter rule that hands marked SYNs to the queue worker.

The eBPF program marks a SYN that the worker shall decide; this rule, in the raw table where
nothing has looked at the packet yet, puts what is marked into the NFQUEUE. There is no bypass: a
marked SYN that nobody queued is dropped, never answered, and the client sends it again.

Three ways, the first that the kernel and the host have: an nftables table of our own (needs the
nft ``queue`` expression), ``iptables`` over nftables, ``iptables`` over its own tables. Bind the
queue first, and add the rule after.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from typing import Final

from dvipad.adapters.commands import ELSEWHERE, Run, must, run_command
from dvipad.adapters.xtables import Rule, Xtables, XtablesRules

COMMENT: Final = "dvipad"
"""Marks our rule among the iptables rules of the host."""
NFT_TABLE: Final = "dvipad"


class Backend(Enum):
    """How the rule gets into the kernel; in order of preference."""

    NFT = "nft"
    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"


_XTABLES: Final = {
    Backend.IPTABLES_NFT: Xtables.NFT,
    Backend.IPTABLES_LEGACY: Xtables.LEGACY,
}


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


def xtables_rules(backend: Backend, mark: int, queue: int, run: Run) -> XtablesRules:
    """The rule by iptables; not for :attr:`Backend.NFT`."""
    match = ("-m", "mark", "--mark", f"{mark:#x}/{mark:#x}")
    rule = Rule(match, ("-j", "NFQUEUE", "--queue-num", str(queue)))
    return XtablesRules(_XTABLES[backend], "raw", COMMENT, (rule,), run)


def probe(run: Run = run_command) -> Backend | None:
    """The first backend that works here, or None.

    Each is tried with the real rule in a network namespace of its own, which goes with the
    command: nothing but the kernel can tell whether it has what a command's text asks for.
    """
    if run([*ELSEWHERE, "nft", "-f", "-"], nft_transaction(1, 0)).code == 0:
        return Backend.NFT
    return next((each for each in _XTABLES if xtables_rules(each, 1, 0, run).works()), None)


class NftRules:
    """The rule for `mark` and `queue`, in an nftables table of its own, for both IP versions.

    Raises :class:`RuleError` when a command fails.
    """

    by_nftables = True

    def __init__(self, mark: int, queue: int, run: Run) -> None:
        self._mark = mark
        self._queue = queue
        self._run = run

    def present(self) -> bool:
        """Whether exactly this rule is in the kernel."""
        listed = self._run(["nft", "-j", "list", "table", "inet", NFT_TABLE], "")
        if listed.code != 0:
            return False
        rules = [each["rule"] for each in json.loads(listed.out)["nftables"] if "rule" in each]
        return len(rules) == 1 and _nft_matches(rules[0]["expr"], self._mark, self._queue)

    def ensure(self) -> None:
        """Puts the rule in, once; one of ours with another mark or queue goes. Idempotent."""
        if not self.present():
            must(self._run, ["nft", "-f", "-"], nft_transaction(self._mark, self._queue))

    def remove(self) -> None:
        """Takes out what :meth:`ensure` put in, whichever mark and queue it has. Idempotent."""
        table: Sequence[str] = ("table", "inet", NFT_TABLE)
        if self._run(["nft", "list", *table], "").code == 0:
            must(self._run, ["nft", "delete", *table])


def queue_rules(
    backend: Backend, mark: int, queue: int, run: Run = run_command
) -> NftRules | XtablesRules:
    """The rule for `mark` and `queue`, IPv4 and IPv6, by one backend."""
    if backend is Backend.NFT:
        return NftRules(mark, queue, run)
    return xtables_rules(backend, mark, queue, run)


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
