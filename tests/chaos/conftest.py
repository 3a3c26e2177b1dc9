"""Without root there are no network namespaces: say so, test by test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

_HERE: Final = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root when there is none."""
    if os.geteuid() == 0:
        return
    for item in items:
        if _HERE in item.path.parents and item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.skip(reason="end-to-end tests need root"))
