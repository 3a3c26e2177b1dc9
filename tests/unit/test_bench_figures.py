"""The benchmark's arithmetic, its lines, and what it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import loads, rebuild, results, takeover, throughput
from bench.figures import Figure, compare, number, summary
from bench.insn import whole
from bench.takeover import Sample
from dvipad.lab.spec import LabError

floats = st.floats(-1e12, 1e12)


@given(floats)
def test_a_number_reads_as_it_is_and_never_has_an_exponent(value: float) -> None:
    text = number(value)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=1e-3, abs=1e-8)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (200, "200"), (0.91237, "0.9124"), (12345.6, "12346"), (306.04, "306")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_a_line_has_three_words() -> None:
    assert Figure("conn.route", 7638.9, "conn/s").line() == "conn.route 7639 conn/s"
    for name, unit in (("two words", "ms"), ("x", ""), ("x\n", "ms")):
        with pytest.raises(ValueError, match="not a word"):
            Figure(name, 1, unit)


@given(st.lists(floats, min_size=1))
def test_a_median_lies_within_its_spread(samples: list[float]) -> None:
    middle, low, high = summary("takeover.x_ms", samples, "ms")
    assert low.value <= middle.value <= high.value
    names = [figure.name for figure in (middle, low, high)]
    assert names == ["takeover.x_ms", "takeover.x_min_ms", "takeover.x_max_ms"]


def test_only_what_was_measured_is_compared() -> None:
    pairs = [("dvipad", "route"), ("dvipad", "absent"), ("absent", "route"), ("dvipad", "idle")]
    found = compare("latency.p99_", {"dvipad": 3.0, "route": 2.0, "idle": 0.0}, pairs)
    assert found == [Figure("latency.p99_dvipad_vs_route", 1.5, "ratio")]


def sample(contender: str, gap_ms: float, lost: int) -> Sample:
    return Sample(contender, gap_ms, lost, 1, 2, 500.0, 4.0)


def test_a_takeover_is_judged_by_its_median_and_its_worst_loss() -> None:
    samples = [
        sample("dvipad", 300.0, 0),
        sample("keepalived_default", 2500.0, 200),
        sample("keepalived_tuned", 290.0, 198),
        sample("dvipad", 320.0, 1),
        sample("keepalived_default", 2700.0, 200),
        sample("keepalived_tuned", 280.0, 199),
        sample("dvipad", 990.0, 0),
    ]
    values = {figure.name: figure.value for figure in takeover.figures(samples)}
    assert values["takeover.dvipad_ms"] == 320.0
    assert values["takeover.dvipad_max_ms"] == 990.0
    assert values["takeover.dvipad_lost"] == 1
    assert values["takeover.keepalived_default_ms"] == 2600.0
    assert values["takeover.keepalived_tuned_ms"] == 285.0
    assert values["takeover.keepalived_lost"] == 199
    assert values["takeover.dvipad_vs_keepalived_default"] == pytest.approx(320 / 2600)
    assert "takeover.dvipad_tuned_vs_keepalived_tuned" not in values


def test_ratios_are_of_medians() -> None:
    rates = {"direct": (100.0, 110.0, 500.0), "route": (90.0, 100.0, 95.0)}
    rates |= dict.fromkeys(("dvipad", "haproxy", "dnat"), (50.0, 60.0, 55.0))
    samples = [
        {"rival": rival, "round": i, "values": {"rate": rate}}
        for rival, row in rates.items()
        for i, rate in enumerate(row)
    ]
    found = throughput.figures({"rate": "keepalive."}, throughput.KEEPALIVE, samples)
    values = {figure.name: figure.value for figure in found}
    assert values["keepalive.direct"] == 110.0
    assert values["keepalive.route_min"] == 90.0
    assert values["keepalive.dvipad_vs_route"] == pytest.approx(55 / 95)


def test_what_is_printed_is_what_is_kept(tmp_path: Path) -> None:
    figures = [Figure("conn.route", 7638.9, "conn/s"), Figure("conn.x_vs_y", 0.5, "ratio")]
    options = {"rounds": 1}
    content = results.document("conn", results.machine(), options, figures, [{"round": 1}])
    path = results.write(tmp_path / "new", content, figures)
    assert json.loads(path.read_text()) == content
    lines = path.with_suffix(".txt").read_text().splitlines()
    assert lines == ["conn.route 7639 conn/s", "conn.x_vs_y 0.5 ratio"]
    assert content["machine"]["cores"] >= 1 and content["machine"]["kernel"]


def test_the_latency_program_is_understood() -> None:
    line = "started 10 failed 1 p50_us 12.5 p99_us 99.0 max_us 100.0\n"
    assert loads.parse_latency(line)["p99_us"] == 99.0
    for wrong in ("", "started", "started ten", "started 1 failed 0"):
        with pytest.raises(LabError, match="latency"):
            loads.parse_latency(wrong)
    with pytest.raises(LabError, match="iperf3: Segmentation fault"):
        loads.parse_iperf("Segmentation fault\n")


def rebuilt(crt_ms: float, entries: int, lost: int) -> rebuild.Sample:
    return rebuild.Sample(
        connections=100,
        opening_ms=1000.0,
        detect_ms=300.0,
        claim_ms=1.0,
        crt_ms=crt_ms,
        total_gap_ms=300.0 + crt_ms,
        answer_gap_ms=350.0,
        entries=entries,
        lost=lost,
        takeback_gap_ms=20.0,
        takeback_lost=0,
    )


def test_a_rebuild_is_judged_by_its_worst_round() -> None:
    samples = [rebuilt(100.0, 100, 0), rebuilt(300.0, 99, 1), rebuilt(120.0, 100, 0)]
    values = {figure.name: figure.value for figure in rebuild.figures(samples)}
    assert values["rebuild.crt_ms"] == 120.0
    assert (values["rebuild.crt_min_ms"], values["rebuild.crt_max_ms"]) == (100.0, 300.0)
    assert values["rebuild.total_gap_ms"] == 420.0
    assert (values["rebuild.entries"], values["rebuild.lost"]) == (99, 1)
    assert values["rebuild.takeback_lost"] == 0


def test_the_last_decision_to_take_over_counts() -> None:
    line = 'WARNING dvipa=192.0.2.100 trigger="owner lost" action="{}" from=BACKUP to=TAKEOVER'
    log = "\n".join(
        [
            "23:00:00.000 " + line.format("take over"),
            "23:59:59.500 " + line.format("take over"),
            "23:59:59.900 " + line.format("complete"),
        ]
    )
    assert rebuild.decided_s(log, 1000.0, 86_399.75) == pytest.approx(999.75)
    assert rebuild.decided_s(log, 1000.0, 0.25) == pytest.approx(999.25), "midnight in between"
    with pytest.raises(LabError, match="not decided"):
        rebuild.decided_s("", 1000.0, 0.0)


def test_a_whole_connection_is_what_the_box_does_for_it() -> None:
    samples = {
        "replay.drop": [40.0, 41.0, 47.0],
        "replay.ipvs": [70.0],
        "replay.offload": [55.0],
        "ended": [3.0],
        "real.direct": [160.0],
        "real.offload": [190.0],
        "real.nfqueue": [290.0],
        "real.haproxy": [360.0],
    }
    values = {figure.name: figure.value for figure in whole.figures(samples)}
    assert (values["insnconn.ipvs"], values["insnconn.offload"]) == (30.0, 18.0)
    assert (values["insnconn.nfqueue"], values["insnconn.haproxy"]) == (118.0, 200.0)
    assert values["insnconn.nfqueue_vs_haproxy"] == 0.59
    assert values["insnconn.spread"] == pytest.approx(0.025)
