"""The NFQUEUE rule: which commands, and what of their answers counts as ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from dvipad.adapters.commands import Outcome, RuleError
from dvipad.adapters.guard import guard_rules
from dvipad.adapters.rules import (
    COMMENT,
    Backend,
    nft_transaction,
    probe,
    queue_rules,
    xtables_rules,
)
from dvipad.adapters.xtables import Xtables, our_lines, table_is_unused

LISTED = """-P PREROUTING ACCEPT
-A PREROUTING -p udp -m comment --comment "not dvipad" -j ACCEPT
-A PREROUTING -m mark --mark 0x6d61/0x6d61 -m comment --comment dvipad -j NFQUEUE --queue-num 7
-A PREROUTING -m comment --comment
"""


class Host:
    """Answers commands; `works` says which of them succeed, by a word in them."""

    def __init__(self, works: Sequence[str], out: str = "") -> None:
        self.works = works
        self.out = out
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str], stdin: str) -> Outcome:
        self.commands.append(list(command))
        if any(word in command for word in self.works):
            return Outcome(0, self.out, "")
        return Outcome(1, "", "refused")


def test_only_lines_with_our_comment_are_ours() -> None:
    (ours,) = our_lines(LISTED, COMMENT)
    (rule,) = xtables_rules(Backend.IPTABLES_NFT, 0x6D61, 7, Host([])).rules
    assert ours == ["-A", "PREROUTING", *rule.words(COMMENT)]


@pytest.mark.parametrize(
    ("works", "backend"),
    [
        (["nft"], Backend.NFT),
        (["iptables-nft", "ip6tables-nft"], Backend.IPTABLES_NFT),
        (["iptables-legacy", "ip6tables-legacy"], Backend.IPTABLES_LEGACY),
        (["iptables-nft", "iptables-legacy", "ip6tables-legacy"], Backend.IPTABLES_LEGACY),
        (["iptables-legacy"], None),
    ],
)
def test_probe_takes_the_first_that_serves_both_families(
    works: list[str], backend: Backend | None
) -> None:
    host = Host(works)
    assert probe(host) is backend
    assert all(command[:2] == ["unshare", "--net"] for command in host.commands)


def test_failure_carries_the_words_of_the_command() -> None:
    with pytest.raises(RuleError, match="refused"):
        queue_rules(Backend.IPTABLES_LEGACY, 1, 2, Host([])).ensure()


def test_nft_transaction_replaces_the_table_and_never_bypasses() -> None:
    text = nft_transaction(0x6D61, 9)
    assert text.startswith("add table inet dvipad\ndelete table inet dvipad\n")
    assert "meta mark & 0x00006d61 == 0x00006d61 queue num 9\n" in text
    assert "bypass" not in text


def test_nft_rule_is_recognised_by_mark_and_queue() -> None:
    expression = [
        {"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, 5]}, "right": 5}},
        {"queue": {"num": 3}},
    ]
    listed = json.dumps({"nftables": [{"table": {}}, {"rule": {"expr": expression}}]})
    host = Host(["list"], listed)
    assert queue_rules(Backend.NFT, 5, 3, host).present()
    assert not queue_rules(Backend.NFT, 5, 4, host).present()
    queue_rules(Backend.NFT, 5, 3, host).ensure()
    assert all("list" in command for command in host.commands)


def test_the_guard_drops_before_the_mark_goes() -> None:
    drop, unmark = guard_rules(Xtables.NFT, 0x6D, Path("/pins/guard"), Host([])).rules
    assert drop.target == ("-j", "DROP")
    assert drop.match[-2:] == ("--object-pinned", "/pins/guard")
    assert "!" in drop.match
    assert "!" not in unmark.match
    assert unmark.target[1] == "MARK"


def test_a_table_counts_as_unused_only_when_nothing_is_in_it() -> None:
    chain: dict[str, dict[str, object]] = {"chain": {"name": "PREROUTING", "policy": "accept"}}
    assert table_is_unused([{"metainfo": {}}, {"table": {}}, chain])
    assert not table_is_unused([chain, {"rule": {}}])
    assert not table_is_unused([{"chain": {"name": "OUTPUT", "policy": "drop"}}])
    assert not table_is_unused([{"set": {}}])
