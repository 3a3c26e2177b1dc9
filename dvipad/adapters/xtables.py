"""Rules of ours in PREROUTING by iptables, over nftables or over its own tables.

A comment marks them. A second comment says that the table itself was not there before: then it
goes together with the last of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from dvipad.adapters.commands import ELSEWHERE, Run, must

CHAIN: Final = "PREROUTING"
WITH_TABLE: Final = "-and-table"
"""Ends the comment of rules that came with their table."""


class Xtables(Enum):
    """Which iptables: its commands for IPv4 and IPv6. In order of preference."""

    NFT = ("iptables-nft", "ip6tables-nft")
    LEGACY = ("iptables-legacy", "ip6tables-legacy")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule matches and what it does with it, in words of the command line."""

    match: tuple[str, ...]
    target: tuple[str, ...]

    def words(self, comment: str) -> list[str]:
        """The rule's part of a command line, after the chain."""
        return [*self.match, "-m", "comment", "--comment", comment, *self.target]


@dataclass(frozen=True, slots=True)
class XtablesRules:
    """`rules` in `table`, in this order, for both IP versions.

    Raises :class:`RuleError` when a command fails.
    """

    xtables: Xtables
    table: str
    comment: str
    rules: tuple[Rule, ...]
    run: Run

    @property
    def by_nftables(self) -> bool:
        """Whether they are part of the ruleset of nftables."""
        return self.xtables is Xtables.NFT

    def works(self) -> bool:
        """Whether kernel and host have all of it: tried out in a namespace of its own."""
        return all(
            self.run([*ELSEWHERE, command, *self._add(rule, self.comment)], "").code == 0
            for command in self.xtables.value
            for rule in self.rules
        )

    def present(self) -> bool:
        """Whether exactly these rules are in the kernel, for both families."""
        return all(self._present(command) for command in self.xtables.value)

    def ensure(self) -> None:
        """Puts the rules in, once; others with our comment go. Idempotent."""
        for command in self.xtables.value:
            if not self._present(command):
                self._remove(command)
                self._put(command)

    def remove(self) -> None:
        """Takes out all rules with our comment, whatever they say. Idempotent."""
        for command in self.xtables.value:
            self._remove(command)

    def _listed(self, command: str) -> list[list[str]]:
        listed = self.run([command, "-t", self.table, "-S", CHAIN], "")
        return our_lines(listed.out, self.comment) if listed.code == 0 else []

    def _present(self, command: str) -> bool:
        listed = self._listed(command)
        return any(
            listed == [["-A", CHAIN, *rule.words(comment)] for rule in self.rules]
            for comment in (self.comment, self.comment + WITH_TABLE)
        )

    def _add(self, rule: Rule, comment: str) -> list[str]:
        return ["-w", "-t", self.table, "-A", CHAIN, *rule.words(comment)]

    def _put(self, command: str) -> None:
        listing = ["nft", "list", "table", _nft_family(command), self.table]
        makes_table = self.xtables is Xtables.NFT and self.run(listing, "").code != 0
        comment = self.comment + WITH_TABLE if makes_table else self.comment
        for rule in self.rules:
            must(self.run, [command, *self._add(rule, comment)])

    def _remove(self, command: str) -> None:
        made_table = False
        for words in self._listed(command):
            made_table = made_table or self.comment + WITH_TABLE in words
            must(self.run, [command, "-w", "-t", self.table, "-D", *words[1:]])
        if made_table:
            self._delete_table_if_unused(_nft_family(command))

    def _delete_table_if_unused(self, family: str) -> None:
        listed = self.run(["nft", "-j", "list", "table", family, self.table], "")
        if listed.code == 0 and table_is_unused(json.loads(listed.out)["nftables"]):
            must(self.run, ["nft", "delete", "table", family, self.table])


def our_lines(listed: str, comment: str) -> list[list[str]]:
    """Those of iptables -S lines that have our comment, split into words."""
    split = ([word.strip('"') for word in line.split()] for line in listed.splitlines())
    return [words for words in split if _comment_of(words) in (comment, comment + WITH_TABLE)]


def _comment_of(words: Sequence[str]) -> str | None:
    if "--comment" not in words[:-1]:
        return None
    return words[words.index("--comment") + 1]


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
