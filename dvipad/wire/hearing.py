"""What was heard of the peer of one session, and until when it counts as alive.

Bytes of the connection are worth `bytes_ms`, a heartbeat by UDP `beat_ms`. UDP alone does not keep
a session whose connection is broken: messages would not arrive. So bytes must come every
`stuck_ms`, however regular the datagrams are.
"""

from __future__ import annotations

from typing import Final

WINDOW_MS: Final = 60_000
"""The longest silence is that of the last one or two times so long."""


class Hearing:
    """Times in ms. A peer whose `silent_ms` or `stuck_ms` has come is given up."""

    __slots__ = (
        "_beat_ms",
        "_before_ms",
        "_bytes_ms",
        "_longest_ms",
        "_stuck_after_ms",
        "_window_ms",
        "bytes_heard_ms",
        "heard_ms",
        "sequence",
        "silent_ms",
        "stuck_ms",
    )

    def __init__(self, bytes_ms: int, beat_ms: int, stuck_ms: int, now_ms: int) -> None:
        self._bytes_ms = bytes_ms
        self._beat_ms = beat_ms
        self._stuck_after_ms = stuck_ms
        self.sequence = 0
        self.silent_ms = self.stuck_ms = now_ms
        self.heard_ms = self._window_ms = now_ms
        self._longest_ms = self._before_ms = 0
        self.bytes_came(now_ms)

    def bytes_came(self, now_ms: int) -> None:
        """Bytes, of whatever message, came on the connection."""
        self._heard(now_ms)
        self.bytes_heard_ms = now_ms
        self.silent_ms = max(self.silent_ms, now_ms + self._bytes_ms)
        self.stuck_ms = max(self.stuck_ms, now_ms + self._stuck_after_ms)

    def beat_came(self, sequence: int, now_ms: int) -> bool:
        """A heartbeat came by UDP; False, and nothing more, for one that is not newer."""
        if sequence <= self.sequence:
            return False
        self.sequence = sequence
        self._heard(now_ms)
        self.silent_ms = max(self.silent_ms, now_ms + self._beat_ms)
        return True

    def _heard(self, now_ms: int) -> None:
        silence_ms, self.heard_ms = now_ms - self.heard_ms, now_ms
        if now_ms - self._window_ms >= WINDOW_MS:
            self._window_ms = now_ms
            self._before_ms, self._longest_ms = self._longest_ms, silence_ms
        elif silence_ms > self._longest_ms:
            self._longest_ms = silence_ms

    def longest_silence_ms(self, now_ms: int) -> int:
        """The longest time in which nothing was heard, the present one included, of late."""
        return max(self._before_ms, self._longest_ms, now_ms - self.heard_ms)

    def forgive(self, now_ms: int, grace_ms: int) -> None:
        """This end was late: nobody is given up before `grace_ms` have passed."""
        self.silent_ms = max(self.silent_ms, now_ms + grace_ms)
        self.stuck_ms = max(self.stuck_ms, now_ms + self._bytes_ms)
