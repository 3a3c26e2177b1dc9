"""Commands of the other documents, on a machine that the README has set up."""

from __future__ import annotations

from collections.abc import Callable

from tests.documents.blocks import later_on_machines


def run_later_blocks(run: Callable[[str], tuple[int, str]]) -> None:
    """Every ``sh vm`` block but the README's, on the owner, which has a profile; `run` gives exit
    status and output of a command."""
    for block in later_on_machines():
        status, output = run(f"( set -e\n{block.text}\n)")
        assert status == 0, f"{block}: exit status {status}: {output}"
