"""Any two profiles A and B, any traffic: a reload from A to B disturbs nothing (D11)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from .scenario import Fault, Kind, make_scenario
from .traffic import Phase
from .world import World


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), at_ms=st.integers(1_200, 2_400), data=st.data())
def test_connections_that_both_profiles_allow_are_untouched(
    seed: int, at_ms: int, data: st.DataObject
) -> None:
    """Every node follows B at once, or some do: no connection is reset, or stands still.

    Both profiles always leave a node that may own the DVIPA, and a target with connections
    stays one until they end, so both allow every connection.
    """
    scenario = make_scenario(seed)
    names = [plan.name for plan in scenario.hosts]
    some = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    world = World(
        replace(
            scenario, faults=(Fault(at_ms, Kind.RELOAD, tuple(some), 0),), fail_percent=0, ranged=()
        )
    )
    world.run()  # raises when a connection is lost
    phases = {connection.phase for connection in world.traffic.connections}
    assert Phase.RESET not in phases
