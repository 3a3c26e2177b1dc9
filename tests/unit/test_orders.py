"""The operator's orders: what they mean together, and where they are kept."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.orders_file import NAME, OrdersFile
from dvipad.core.orders import WHOLE_TARGET, Orders, Verb

DVIPA = ip_address("192.0.2.100")
UNDOES = {
    Verb.DEACTIVATE: Verb.REACTIVATE,
    Verb.QUIESCE: Verb.RESUME,
    Verb.PAUSE: Verb.UNPAUSE,
    Verb.LEAVEGROUP: Verb.JOINGROUP,
}


@given(st.sampled_from(list(UNDOES)), st.integers(0, 65535))
def test_each_order_is_undone_by_its_counterpart(verb: Verb, port: int) -> None:
    ordered = Orders().with_order(verb, DVIPA, port)
    assert ordered != Orders()
    assert ordered.with_order(UNDOES[verb], DVIPA, port) == Orders()


def test_what_is_refused() -> None:
    assert not Orders().refuses(80)
    assert Orders(quiesced=frozenset({80})).refuses(80)
    assert not Orders(quiesced=frozenset({80})).refuses(81)
    assert Orders(paused=frozenset({WHOLE_TARGET})).refuses(81)
    assert Orders(outside=True).refuses(81)


def test_an_order_for_a_dvipa_needs_one() -> None:
    with pytest.raises(ValueError, match="needs a DVIPA"):
        Orders().with_order(Verb.DEACTIVATE, None, WHOLE_TARGET)


def test_they_outlive_the_daemon_and_a_pause_outlives_the_host(tmp_path: Path) -> None:
    run, state = tmp_path / "run", tmp_path / "state"
    activated = Orders().activate(DVIPA).activated
    orders = Orders(frozenset({DVIPA}), frozenset({80}), frozenset({81}), True, activated)
    OrdersFile(run, state).save(orders)
    assert OrdersFile(run, state).load() == orders
    (run / NAME).unlink()
    assert OrdersFile(run, state).load() == replace(Orders(), paused=frozenset({81}))


def test_a_file_from_before_activations_is_read(tmp_path: Path) -> None:
    text = '{"deactivated": [], "quiesced": [80], "paused": [], "outside": false}'
    (tmp_path / NAME).write_text(text)
    assert OrdersFile(tmp_path, tmp_path / "none").load() == Orders(quiesced=frozenset({80}))


_REST = '"deactivated": [], "quiesced": [], "paused": [], "outside": false'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"deactivated": ["x"]}',
        '{"deactivated": [], "quiesced": [true]}',
        f'{{{_REST}, "activated": ["192.0.2.1"]}}',
        f'{{{_REST}, "activated": [["192.0.2.1", true]]}}',
    ],
)
def test_a_broken_file_is_set_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    assert OrdersFile(tmp_path, tmp_path / "none").load() == Orders()
    assert not (tmp_path / NAME).exists()
    assert (tmp_path / "orders.broken").read_text() == text
