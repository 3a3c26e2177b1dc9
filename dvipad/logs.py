"""The daemon's log: lines with levels for the journal, lines with times for everybody else."""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

from dvipad.adapters.events import EventRing, about
from dvipad.wire.events import DownReason, PeerDown, PeerUp

log = logging.getLogger("dvipad")

_PRIORITIES: Final = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class JournalFormatter(logging.Formatter):
    """Each line starts with its priority (sd-daemon(3)); the journal adds the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, each of its lines with the priority."""
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def set_up() -> EventRing:
    """Log to standard error, for the journal when it listens there, and keep the last events."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(JournalFormatter("%(message)s"))
    else:
        line = "%(asctime)s.%(msecs)03d %(levelname)s %(message)s"
        handler.setFormatter(logging.Formatter(line, "%H:%M:%S"))
    events = EventRing()
    logging.basicConfig(level=logging.INFO, handlers=[handler, events])
    return events


def log_peer(event: PeerUp | PeerDown) -> None:
    """One line for each session that begins or ends: the first question after a takeover."""
    if isinstance(event, PeerUp):
        told = about("peer", node=event.member.name, up=True)
        log.info("peer %s (%s) is up", event.member.name, event.member.xcf, extra=told)
    else:
        level = logging.INFO if event.reason is DownReason.GOODBYE else logging.WARNING
        told = about("peer", node=event.name, up=False, reason=event.reason)
        log.log(level, "peer %s is down: %s", event.name, event.reason.value, extra=told)
