"""What nodes say of themselves, message by message: each holds as long as it said itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from dvipad.core.context import Context
from dvipad.core.effects import Broadcast, Send
from dvipad.wire.messages import Quality, Weights

M = TypeVar("M", Weights, Quality)


class Words(Generic[M]):
    """Messages of one kind, of all nodes by name, this one included; `changed` hears of each
    change: whose, and the message, None when it holds no more."""

    def __init__(self, context: Context, changed: Callable[[str, M | None], None]) -> None:
        self._context = context
        self._changed: Callable[[str, M | None], None] = changed
        self._told: dict[str, tuple[M, int]] = {}
        self._sent: M | None = None
        self._sent_ms = 0

    def say(self, message: M) -> None:
        """This node's own. Others are told what changed, and once before it lapses."""
        now_ms = self._context.now_ms
        self.received(self._context.settings.name, message)
        if message != self._sent or now_ms >= self._sent_ms + message.valid_ms // 2:
            self._sent, self._sent_ms = message, now_ms
            self._context.emit(Broadcast(message))

    def greet(self, name: str) -> None:
        """A session with peer `name` began."""
        if self._sent is not None:
            self._context.emit(Send(name, self._sent))

    def received(self, name: str, message: M) -> None:
        """What node `name` says; what it said before holds no more."""
        known = self._told.get(name)
        self._told[name] = message, self._context.now_ms + message.valid_ms
        if known is None or known[0] != message:
            self._changed(name, message)

    def forget(self, name: str) -> None:
        """Node `name` is gone."""
        if self._told.pop(name, None) is not None:
            self._changed(name, None)

    def expire(self) -> int:
        """What holds no more is forgotten; returns of how many nodes."""
        now_ms = self._context.now_ms
        lapsed = [name for name, (_, until_ms) in self._told.items() if until_ms <= now_ms]
        for name in lapsed:
            self.forget(name)
        return len(lapsed)

    def deadline(self) -> int | None:
        """When `expire` has something to do."""
        return min((until_ms for _, until_ms in self._told.values()), default=None)

    def known(self) -> dict[str, M]:
        """What holds now, by node."""
        return {name: message for name, (message, _) in self._told.items()}

    def of(self, name: str) -> M | None:
        """What node `name` said, if it holds."""
        told = self._told.get(name)
        return None if told is None else told[0]
