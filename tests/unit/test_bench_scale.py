"""What `scale` reads, its arithmetic, its profiles, and small simulated clusters."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import scale_connections, scale_dvipas, scale_nodes
from bench.figures import Figure
from bench.scale_figures import sized
from bench.scale_load import totals
from bench.scale_meter import cost_us, cpu_s, map_memory, program_ids, resident_kb
from dvipad.config.profile import parse_profile
from dvipad.lab.spec import LabError

STATUS = """\
Name:\tpython
VmRSS:\t   70000 kB
RssAnon:\t   40000 kB
RssFile:\t   29000 kB
RssShmem:\t    1000 kB
"""
FDINFO = """\
pos:\t0
map_type:\t1
max_entries:\t4096
memlock:\t851968
map_id:\t17
frozen:\t0
"""


def test_resident_memory_is_what_is_anonymous_and_what_is_of_files() -> None:
    assert resident_kb(STATUS) == 69_000


def test_a_descriptor_is_a_map_or_not() -> None:
    assert map_memory(FDINFO) == (17, 851_968)
    assert map_memory("pos:\t0\nprog_id:\t3\nmemlock:\t4096\n") is None


def test_programs_of_a_hook() -> None:
    row = {"kind": "bpf", "options": {"bpf_name": "x", "prog": {"id": 12, "name": "x"}}}
    assert program_ids(json.dumps([{"kind": "bpf", "chain": 0}, row])) == [12]
    assert program_ids("") == []


@given(
    st.floats(1e-6, 1e-3),
    st.floats(0, 0.5),
    st.floats(0.1, 100),
    st.integers(1, 1_000_000),
)
def test_what_idling_takes_is_not_part_of_the_cost(
    each_s: float, idle_cores: float, elapsed_s: float, connections: int
) -> None:
    spent_s = each_s * connections + idle_cores * elapsed_s
    found = cost_us(spent_s, idle_cores, elapsed_s, connections)
    assert found == pytest.approx(each_s * 1e6, rel=1e-6)


def test_a_cost_needs_connections_and_processes_that_live() -> None:
    with pytest.raises(LabError, match="no connection"):
        cost_us(1.0, 0.0, 1.0, 0)
    with pytest.raises(LabError, match="ended"):
        cpu_s([2**22 + 1])


@given(st.lists(st.floats(0, 1e9), min_size=1), st.integers(1, 100_000))
def test_a_name_ends_in_the_size(values: list[float], size: int) -> None:
    names = [each.name for each in sized("x_us", size, values, "us")]
    assert names == [f"scale.x_us.{size}", f"scale.x_min_us.{size}", f"scale.x_max_us.{size}"]


def test_totals_are_the_sum_of_failures_and_the_least_part_of_the_worker() -> None:
    assert totals("x", [(100, 1, 100), (200, 2, 150)]) == [
        Figure("scale.failed.x", 3, "requests"),
        Figure("scale.queued.x", 0.75, "ratio"),
    ]


@given(st.integers(1, 300))
def test_profiles_define_and_distribute_every_dvipa(dvipas: int) -> None:
    texts = scale_dvipas.profiles(dvipas, ["192.0.2.11", "192.0.2.12"])
    primary, backup = (parse_profile(texts[name], name).profile for name in ("lb1", "lb2"))
    wanted = [ip_address("198.18.0.1") + index for index in range(dvipas)]
    assert [row.dvipa for row in primary.defines] == wanted
    assert [row.dvipa for row in primary.distributes] == wanted
    assert [row.dvipa for row in backup.backups] == wanted
    for row in primary.distributes:
        assert [span.first for span in row.ports] == list(scale_dvipas.PORTS)
        assert row.targets is not None
        assert len(row.targets) == 2


def of_dvipas(dvipas: int, connection_us: float) -> scale_dvipas.Sample:
    return scale_dvipas.Sample(dvipas, 2.0, 0.1, connection_us, 900.0, 100, 0, 100)


def test_a_connection_among_the_most_dvipas_is_compared_with_one_among_the_fewest() -> None:
    samples = [of_dvipas(n, us) for n, us in ((1, 80), (1000, 88), (1, 120), (1000, 99), (1, 90))]
    found = {each.name: each.value for each in scale_dvipas.figures(samples)}
    assert found["scale.conn_cost_us.1"] == 90
    assert found["scale.conn_cost_1000_vs_1"] == pytest.approx(93.5 / 90)
    assert "scale.conn_cost_1000_vs_1" not in {
        each.name for each in scale_dvipas.figures(samples[:1])
    }


def test_memory_with_the_most_connections_is_compared_with_the_fewest() -> None:
    def sample(held: int, owner_kb: int) -> scale_connections.Sample:
        resident = {"lb1": owner_kb, "t1": 1_000}
        maps = {"lb1": 1 << 20, "t1": 1 << 20}
        return scale_connections.Sample(held, resident, maps, [80.0], 10, 0, 10)

    samples = [sample(100, 1_000), sample(50_000, 1_400)]
    found = {each.name: each.value for each in scale_connections.figures(samples)}
    assert found["scale.rss_50000_vs_100"] == pytest.approx(1.2)
    assert found["scale.rss_distributor_50000_vs_100"] == pytest.approx(1.4)
    assert found["scale.maps_mb.100"] == 2


def test_a_connection_is_one_message_however_many_nodes_there_are() -> None:
    samples = [scale_nodes.Cluster(nodes, 3).measure() for nodes in (3, 5)]
    assert [each.per_connection("messages") for each in samples] == [1, 1]
    assert len({each.per_connection("bytes") for each in samples}) == 1
    for each in samples:
        assert each.counts["idle"].messages == each.counts["opened"].messages == 0
        assert each.counts["idle"].datagrams > 0
        assert each.takeover_ms >= 200
        assert set(each.counts["listener"].kinds) == {"SrvStat"}
