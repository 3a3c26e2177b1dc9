"""From figures to weights: methods, farms, formulas, and what is not known."""

from __future__ import annotations

import math
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.config.model import By, FarmScore, Label, PortRange, Preference, Score
from dvipad.core.context import Context, NodeSettings
from dvipad.core.figures import UNIT, FigureTable
from dvipad.core.membership import Membership
from dvipad.core.preference import Rated, weigh
from dvipad.core.preferring import Preferences
from dvipad.core.source import Source
from dvipad.core.targets import DptRow
from dvipad.wire.messages import MAX_WEIGHT, Member, NodeFigures

FASTEST = Score(By.FASTEST, "web.time_ms")
FEWEST = Score(By.FEWEST_CLIENTS, "redis.clients")


def rated(name: str, of: str = "", **figures: float) -> Rated:
    return Rated(name, of, {name.replace("__", "."): value for name, value in figures.items()})


def weights(score: Score, *figures: float | None) -> tuple[int, ...]:
    targets = [
        Rated(f"t{index}", "", {} if value is None else {score.of: value})
        for index, value in enumerate(figures)
    ]
    return weigh(Preference("x", score), targets).weights


def test_the_smallest_is_the_best() -> None:
    assert weights(FASTEST, 9, 19, 999) == (64, 32, 1)
    assert weights(FEWEST, 0, 0, 1) == (64, 64, 32)
    assert weights(Score(By.CLOSEST, "way.hops"), 1, 3) == (64, 32)
    assert weights(Score(By.LEAST_LOADED, "cpu.percent"), 24, 99) == (64, 16)


def test_the_greatest_throughput_is_the_best() -> None:
    best = Score(By.BEST_THROUGHPUT, "web.value")
    assert weights(best, 100, 50, 0) == (64, 32, 1)
    assert weights(best, 0, 0) == (64, 64)


def test_what_is_not_known_is_average_and_nothing_known_is_equal() -> None:
    assert weights(FASTEST, 9, 19, None) == (64, 32, 48)
    assert weights(FASTEST, None, None) == (1, 1)
    found = weigh(Preference("x", FASTEST), [rated("t1", web__time_ms=1), rated("t2")])
    assert found.known == (True, False)


def test_nobody_is_no_trouble() -> None:
    assert weigh(Preference("x", FASTEST), []).weights == ()


@pytest.mark.parametrize(
    ("formula", "weight"),
    [
        ("64 - redis.clients / 10", 54),
        ("64 if redis.clients < 200 else 0", 64),
        ("max(0, min(64, 200 - redis.clients))", 64),
        ("redis.clients", 64),
        ("0 - redis.clients", 0),
        ("redis.clients % 7 + abs(-2)", 4),
        ("0.2", 1),
        ("40 if not redis.clients > 50 and web.time_ms < 9 else 20", 20),
    ],
)
def test_a_formula_is_the_weight(formula: str, weight: int) -> None:
    target = rated("t1", redis__clients=100, web__time_ms=3)
    assert weigh(Preference("x", Score(By.FORMULA, formula)), [target]).weights == (weight,)


@pytest.mark.parametrize(
    "formula",
    ["nobody.has + 1", "redis.clients / 0", "1e308 * 1e308", "redis.keys", "redis", "9 ** 9"],
)
def test_a_formula_without_a_value_is_as_if_nothing_was_known(formula: str) -> None:
    target = rated("t1", redis__clients=100)
    found = weigh(Preference("x", Score(By.FORMULA, formula)), [target])
    assert found.weights == (1,) and found.known == (False,)


def test_a_farm_is_compared_as_one_and_parts_its_share_by_a_rule_of_its_own() -> None:
    rule = Preference("x", FASTEST, farms=(FarmScore("east", FEWEST),))
    targets = [
        rated("e1", "east", web__time_ms=9, redis__clients=0),
        rated("e2", "east", web__time_ms=9, redis__clients=3),
        rated("w1", "west", web__time_ms=39),
        rated("w2", "west", web__time_ms=39),
    ]
    found = weigh(rule, targets)
    e1, e2, w1, w2 = found.weights
    assert (e1, e2, w1, w2) == (64, 16, 10, 10)
    assert found.farms["east"] == pytest.approx(1 / 10)
    assert (e1 + e2) / (w1 + w2) == pytest.approx(4, rel=0.05)


def test_a_target_of_no_farm_is_compared_with_farms_by_itself() -> None:
    rule = Preference("x", FASTEST, farms=(FarmScore("east", FEWEST),))
    targets = [
        rated("t1", web__time_ms=9),
        rated("e1", "east", web__time_ms=9),
        rated("e2", "east", web__time_ms=9),
    ]
    assert weigh(rule, targets).weights == (64, 32, 32)


figures = st.floats(0, 1e12)
targets = st.lists(
    st.builds(
        lambda farm, time, clients: Rated(
            "t", farm, {n: v for n, v in (("web.time_ms", time), ("redis.clients", clients)) if v}
        ),
        st.sampled_from(("", "east", "west")),
        st.none() | figures,
        st.none() | figures,
    ),
    max_size=8,
)
rules = st.builds(
    Preference,
    st.just("x"),
    st.sampled_from(
        (
            FASTEST,
            FEWEST,
            Score(By.BEST_THROUGHPUT, "redis.clients"),
            Score(By.FORMULA, "redis.clients - web.time_ms"),
        )
    ),
    farms=st.sampled_from(((), (FarmScore("east", FEWEST),))),
)


@given(rules, targets)
def test_weights_are_always_0_to_64(rule: Preference, ready: list[Rated]) -> None:
    found = weigh(rule, ready)
    assert len(found.weights) == len(ready)
    assert all(type(weight) is int and 0 <= weight <= MAX_WEIGHT for weight in found.weights)
    assert all(value is None or math.isfinite(value) for value in found.farms.values())


@given(st.permutations([1.0, 5.0, 20.0, 100.0]))
def test_who_is_better_does_not_get_less(times: list[float]) -> None:
    found = weights(FASTEST, *times)
    ordered = sorted(zip(times, found, strict=True))
    assert [weight for _, weight in ordered] == sorted(found, reverse=True)


# -- preferences of a node -------------------------------------------------------------------------

DVIPA = ip_address("192.0.2.100")


def row(name: str, ready: int = 1, farm: str = "") -> DptRow:
    labels = (Label("farm", farm),) if farm else ()
    return DptRow(name, ip_address("192.0.2.1"), ready, 1, labels=labels)


class Known:
    """Preferences of lb1, and what t1 and t2 say."""

    def __init__(self, *rules: Preference) -> None:
        context = Context(NodeSettings("lb1", DVIPA), Membership("lb1", 300, 4000))
        for name in ("t1", "t2"):
            context.membership.up(Member(name, DVIPA, 1), 0)
        self.table = FigureTable(context)
        self.preferences = Preferences(self.table)
        self.preferences.follow(rules)

    def say(self, name: str, figure: str, value: float) -> None:
        said = NodeFigures(name, (figure,), (round(value * UNIT),))
        assert self.table.heard(name, said)

    def weights(self, *rows: DptRow) -> dict[str, tuple[int, Source]] | None:
        return self.preferences.weigh(DVIPA, 80, rows)


def test_the_first_preference_that_is_for_a_service_governs_it() -> None:
    other = Preference("other", FEWEST, (ip_address("192.0.2.101"),))
    ports = Preference("ports", FEWEST, (), (PortRange(443, 443),))
    mine = Preference("mine", FASTEST, (DVIPA,), (PortRange(80, 81),))
    known = Known(other, ports, mine, Preference("late", FEWEST))
    assert known.preferences.of(DVIPA, 80) == mine
    assert known.preferences.of(DVIPA, 443) == ports
    assert Known(other, ports).weights(row("t1")) is None


def test_weights_come_from_figures_of_those_that_are_ready() -> None:
    known = Known(Preference("x", FASTEST))
    known.say("t1", "web.time_ms", 9)
    assert known.weights(row("t1"), row("t2"), row("t3", ready=0)) == {
        "t1": (64, Source.FIGURES),
        "t2": (64, Source.DEFAULT),
    }


def test_a_small_change_moves_no_weight() -> None:
    known = Known(Preference("x", FASTEST))
    rows = row("t1"), row("t2")
    for time_ms, weight in ((19, 32), (20, 32), (25, 25)):
        known.say("t1", "web.time_ms", 9)
        known.say("t2", "web.time_ms", time_ms)
        found = known.weights(*rows)
        assert found and found["t2"][0] == weight


def test_of_equals_the_preferred_one_stays() -> None:
    known = Known(Preference("x", FASTEST))
    best = known.preferences.best
    rows = [DptRow(name, DVIPA, 1, 5) for name in ("t1", "t2")]
    assert best(DVIPA, 80, rows).server == "t1"
    better = [rows[0], DptRow("t2", DVIPA, 1, 6)]
    assert best(DVIPA, 80, better).server == "t2"
    assert best(DVIPA, 80, rows).server == "t2"
    assert best(DVIPA, 80, [DptRow("t1", DVIPA, 0, 9)]).server == ""


def test_the_preferred_farm_is_the_best_on_average() -> None:
    known = Known()
    rows = [
        DptRow(name, DVIPA, 1, weight, labels=(Label("farm", farm),))
        for name, weight, farm in (("t1", 60, "east"), ("t2", 2, "east"), ("t3", 40, "west"))
    ]
    assert known.preferences.best(DVIPA, 80, rows).farm == "west"


def test_what_cannot_be_used_is_ignored_and_counted() -> None:
    known = Known()
    for said in (
        NodeFigures("stranger", ("a.b",), (1,)),
        NodeFigures("t1", (), (1,)),
        NodeFigures("t1", ("a.b", "a.c"), (1,)),
    ):
        assert known.table.heard("t1", said) is None
    assert known.table.ignored == 3
    assert known.table.heard("t1", NodeFigures("t1", ("a.b",), (1500,)))
    assert known.table.heard("t1", NodeFigures("t1", (), (None,)))
    assert known.table.of("t1") == {}
    assert known.table.heard("t1", NodeFigures("t1", (), (2500,)))
    assert known.table.of("t1") == {"a.b": 2.5}
    assert known.table.heard("t1", NodeFigures("t1", (), ()))
    assert known.table.of("t1") == {}
