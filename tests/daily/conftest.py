"""The clusters of the end-to-end tests."""

from __future__ import annotations

from tests.e2e.conftest import make_cluster, nursery, pytest_runtest_makereport

__all__ = ["make_cluster", "nursery", "pytest_runtest_makereport"]
