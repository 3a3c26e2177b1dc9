"""Runs in the virtual machine: says what kernel this is and what it has, then runs pytest.

python -m dvipad.vmlab.guest PYTEST_ARGUMENT...
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence

import pytest

from dvipad.adapters.features import detect


def main(argv: Sequence[str]) -> int:
    """Returns pytest's exit status."""
    features = detect()
    backend = "none" if features.queue is None else features.queue.value
    events = "tracepoint" if features.tracepoint else "polled"
    print(f"vmlab: kernel {platform.release()}, netfilter {backend}, socket events {events}")
    for missing in features.missing:
        print(f"vmlab: {missing.text()}")
    sys.stdout.flush()
    return int(pytest.main(["-p", "no:cacheprovider", *argv]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
