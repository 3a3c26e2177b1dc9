"""An agenda tells what a dictionary of times would, looked through from end to end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dvipad.core.agenda import Agenda

KEYS = st.sampled_from("abc")
changes = st.lists(
    st.tuples(KEYS, st.lists(st.integers(0, 20), max_size=3).map(tuple))
    | st.tuples(st.just("due"), st.integers(0, 20))
    | st.tuples(st.just("discard"), KEYS),
    max_size=40,
)


@given(changes)
def test_an_agenda_is_a_dictionary_of_times(changes: list[tuple[str, object]]) -> None:
    agenda: Agenda[str] = Agenda()
    model: dict[str, set[int]] = {}
    for what, value in changes:
        if what == "due":
            assert isinstance(value, int)
            due = {key for key, times in model.items() if any(time <= value for time in times)}
            assert set(agenda.due(value)) == due
            model = {key: {t for t in times if t > value} for key, times in model.items()}
        elif what == "discard":
            agenda.discard(str(value))
            model.pop(str(value), None)
        else:
            assert isinstance(value, tuple)
            agenda.set(what, *value)
            model[what] = set(value)
        known = [time for times in model.values() for time in times]
        assert agenda.next() == min(known, default=None)
        for key in "abc":
            assert (key in agenda) == bool(model.get(key))


def test_what_is_due_comes_in_the_order_of_time() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.set("late", 30)
    agenda.set("early", 10, 20)
    agenda.set("soon", 15)
    assert agenda.due(20) == ["early", "soon"]
    assert agenda.due(20) == []
    assert agenda.next() == 30
