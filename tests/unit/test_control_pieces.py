"""Answers of the control socket are made in pieces."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.control import PIECE, pieces

scalars = st.none() | st.booleans() | st.integers() | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(values)
def test_pieces_are_the_whole_answer(value: Any) -> None:
    text = "".join(pieces(value))
    assert json.loads(text) == value
    assert "\n" not in text


@given(st.integers(0, 3 * PIECE), st.dictionaries(st.text(), scalars))
def test_a_long_list_is_many_pieces(count: int, row: dict[str, Any]) -> None:
    answer = {"ok": True, "rows": [row] * count}
    found = list(pieces(answer))
    assert json.loads("".join(found)) == answer
    longest = len(json.dumps([row] * PIECE, separators=(",", ":")))
    assert max(map(len, found)) <= longest + len('"rows":')
