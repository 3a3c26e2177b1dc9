"""Clusters for the end-to-end tests; each test gets namespaces of its own, and leaves none."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.nursery import Nursery
from dvipad.lab.spec import LabSpec

MakeCluster = Callable[..., Cluster]

_NUMBERS: Final = itertools.count()
_FAILED: Final = pytest.StashKey[bool]()
_HERE: Final = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there are no network namespaces: say so, test by test."""
    if os.geteuid() == 0:
        return
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="end-to-end tests need root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Remember whether a test failed, so that its daemons' logs can be shown."""
    report: Any = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What the daemons of the tests' clusters are forked from."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def make_cluster(request: pytest.FixtureRequest, nursery: Nursery) -> Iterator[MakeCluster]:
    """Makes clusters that are up: `make_cluster(daemons=False, targets=2, …)`, see LabSpec."""
    made: list[Cluster] = []

    def make(*, daemons: bool = True, **options: Any) -> Cluster:
        options.setdefault("prefix", f"e{os.getpid()}-{next(_NUMBERS)}")
        cluster = Cluster(LabSpec(**options), daemons=daemons, nursery=nursery)
        made.append(cluster)
        cluster.up()
        return cluster

    yield make
    for cluster in made:
        if request.node.stash.get(_FAILED, False):
            _show_logs(cluster)
        cluster.down()


def _show_logs(cluster: Cluster) -> None:
    for host in cluster.spec.nodes():
        print(f"--- daemon of {host.name}\n{cluster.paths.log_tail(host.name)}")
