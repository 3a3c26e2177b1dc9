"""The benchmark's labs work, and what they measure is real; how fast is not asked here."""

from __future__ import annotations

import os

import pytest

from bench import loads, takeover, throughput
from bench.build import c_program
from bench.rivals import RIVALS, Labs, Rival
from bench.throughput import BULK
from dvipad.lab import network
from dvipad.lab.spec import LabError

pytestmark = pytest.mark.e2e

PREFIX = f"b{os.getpid()}"


def serve(rival: Rival) -> None:
    """Requests at a fixed rate, then bulk data, by way of `rival`."""
    try:
        address = rival.start(1)
        found = loads.latency_us(rival.cluster, address, rival.port(), 100, 1)
        assert found["started"] == 100 and 0 < found["p50_us"] <= found["p99_us"]
        rival.stop()
        if rival.name not in BULK.rivals:
            return
        assert loads.bulk_gbit_per_s(rival.cluster, rival.bulk(), 1, 1, down=False) > 0
    finally:
        rival.stop()


@pytest.mark.parametrize("family", [4, 6])
def test_every_rival_serves(family: int) -> None:
    c_program(loads.LATENCY)
    with Labs(family, 2, prefix=PREFIX) as labs:
        figures, samples = throughput.conn(labs, 1, 1)
        values = {figure.name: figure.value for figure in figures}
        assert {sample["rival"] for sample in samples} == set(throughput.CONN.rivals)
        assert all(value > 0 for value in values.values())
        assert "conn.nfqueue_vs_haproxy" in values
        for make in RIVALS.values():
            serve(make(labs))
        dvipa = labs.plain.spec.dvipa()
        with pytest.raises(LabError, match="unable to connect"):
            loads.requests_per_s(labs.plain, dvipa, 80, 1, new_connections=True)
    assert not network.existing(f"{PREFIX}-plain") and not network.existing(f"{PREFIX}-dvipad")


@pytest.mark.parametrize("name", ["dvipad", "keepalived_tuned"])
def test_a_takeover_is_measured(name: str) -> None:
    contender = next(one for one in takeover.CONTENDERS if one.name == name)
    sample = takeover.measure(contender, 4, PREFIX)
    assert 50 < sample.gap_ms < 5000
    assert sample.lost == (0 if name == "dvipad" else takeover.CONNECTIONS)
    assert not network.existing(PREFIX)
