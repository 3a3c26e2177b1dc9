"""The NFQUEUE rule in a real kernel: put in once, taken out without a trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dvipad.adapters.nft_generation import generation
from dvipad.adapters.rules import Backend, probe, queue_rules
from tests.e2e.dvs_network import inside, namespace, run

pytestmark = pytest.mark.e2e

MARK = 0x64760001


def everything() -> tuple[str, ...]:
    """All rules of this namespace, but for the numbers that only ever grow."""
    legacy = [run(f"{command}-legacy-save", "-t", "raw") for command in ("iptables", "ip6tables")]
    lines = [line for text in legacy for line in text.splitlines() if not line.startswith("#")]
    return run("nft", "list", "ruleset"), *lines


@pytest.fixture
def elsewhere() -> Iterator[None]:
    with namespace() as name, inside(name):
        yield


def backends() -> list[Backend]:
    """The backends that this kernel can have."""
    best = probe()
    assert best is not None
    return [Backend.NFT] if best is Backend.NFT else [best, Backend.IPTABLES_LEGACY]


@pytest.mark.parametrize("backend", backends() if probe() else [])
def test_in_and_out_leaves_no_trace(elsewhere: None, backend: Backend) -> None:
    before = everything()
    rules = queue_rules(backend, MARK, 4780)
    assert not rules.present()
    rules.remove()
    assert everything() == before
    rules.ensure()
    once = everything()
    assert rules.present()
    rules.ensure()
    assert everything() == once
    assert "bypass" not in str(once)
    rules.remove()
    rules.remove()
    assert not rules.present()
    assert everything() == before


@pytest.mark.parametrize("backend", backends() if probe() else [])
def test_rules_of_the_host_stay(elsewhere: None, backend: Backend) -> None:
    command = "iptables-legacy" if backend is Backend.IPTABLES_LEGACY else "iptables-nft"
    theirs = ["-m", "mark", "--mark", "0x5", "-m", "comment", "--comment", "not dvipad"]
    run(command, "-t", "raw", "-A", "PREROUTING", *theirs, "-j", "ACCEPT")
    before = everything()
    rules = queue_rules(backend, MARK, 4780)
    rules.ensure()
    rules.remove()
    assert everything() == before


@pytest.mark.parametrize("backend", backends() if probe() else [])
def test_another_queue_replaces_the_rule(elsewhere: None, backend: Backend) -> None:
    queue_rules(backend, MARK, 1).ensure()
    queue_rules(backend, MARK, 2).ensure()
    assert queue_rules(backend, MARK, 2).present()
    assert not queue_rules(backend, MARK, 1).present()
    queue_rules(backend, MARK, 3).remove()
    assert not queue_rules(backend, MARK, 2).present()


def test_a_change_of_the_ruleset_has_another_generation(elsewhere: None) -> None:
    before = generation()
    assert before is not None
    assert generation() == before
    run("nft", "add", "table", "ip", "theirs")
    assert generation() != before
