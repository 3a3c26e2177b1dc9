"""What the status objects of this node said last, and what follows for the core (S1, S2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dvipad.config.status import ObjectConfig
from dvipad.core.figures import UNIT
from dvipad.core.inputs import FiguresRead
from dvipad.status.objects import DOWN, Result

SMOOTHING: Final = 0.5
"""Part of a time that each new reading makes; all other figures are as they are read."""
SMOOTHED: Final = "_ms"
SILENT_INTERVALS: Final = 3
SILENT_S: Final = 5.0
"""A status object that was not heard of for so many intervals, its time limit and this is silent:
nothing is known of its instance."""
SILENT: Final = "silent"


@dataclass(slots=True)
class State:
    """Of one status object. `result` None: it said nothing yet. `at_s`: when it did."""

    config: ObjectConfig
    result: Result | None = None
    figures: dict[str, float] = field(default_factory=dict)
    detail: str = ""
    at_s: float = 0.0
    results: Counter[str] = field(default_factory=Counter)

    def is_silent(self, now_s: float) -> bool:
        """Whether it should have said something."""
        config = self.config
        longest_s = (SILENT_INTERVALS * config.interval_ms + config.timeout_ms) / 1000 + SILENT_S
        return now_s >= self.at_s + longest_s

    def take(self, result: Result, figures: Mapping[str, float], detail: str, now_s: float) -> None:
        """The next reading."""
        smoothed = {
            name: value + (self.figures[name] - value) * (1 - SMOOTHING)
            if name.endswith(SMOOTHED) and name in self.figures
            else value
            for name, value in figures.items()
        }
        self.result, self.figures, self.detail, self.at_s = result, smoothed, detail, now_s
        self.results[result.value] += 1


class Readings:
    """`clock`: seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._states: dict[str, State] = {}
        self._names: dict[str, None] = {}

    def follow(self, objects: Iterable[ObjectConfig]) -> None:
        """These are the status objects from now on; those that are what they were go on."""
        before, self._states = self._states, {}
        for config in objects:
            known = before.get(config.name)
            same = known is not None and known.config == config
            self._states[config.name] = (
                known if same and known else State(config, at_s=self._clock())
            )
        self._names = {name: None for name in self._names if name.partition(".")[0] in self._states}

    def told(self, message: Mapping[str, Any]) -> None:
        """A status object was read; raises ``ValueError`` for what cannot be that."""
        state = self._states.get(str(message.get("object")))
        figures = message.get("figures")
        if not isinstance(figures, dict):
            raise ValueError("a reading without figures")
        if state is not None:
            values = {str(name): float(value) for name, value in figures.items()}
            detail = str(message.get("detail", ""))
            state.take(Result(message.get("result")), values, detail, self._clock())
            self._names |= dict.fromkeys(f"{state.config.name}.{figure}" for figure in values)

    def event(self) -> FiguresRead:
        """What the core is to know now."""
        now_s = self._clock()
        known: dict[str, int] = {}
        failing = set()
        for name, state in self._states.items():
            if state.is_silent(now_s):
                continue
            config = state.config
            if state.result in DOWN and config.port is not None:
                failing.add((config.dvipa, config.port))
            for figure, value in state.figures.items():
                known[f"{name}.{figure}"] = round(value * UNIT)
        names = tuple(sorted(self._names))
        return FiguresRead(names, tuple(known.get(name) for name in names), frozenset(failing))

    def rows(self) -> list[dict[str, Any]]:
        """One for each status object, for those who look."""
        now_s = self._clock()
        return [
            {
                "object": name,
                "kind": state.config.kind,
                "port": state.config.port,
                "dvipa": None if state.config.dvipa is None else str(state.config.dvipa),
                "interval_ms": state.config.interval_ms,
                "result": _result(state, now_s),
                "figures": dict(state.figures),
                "detail": state.detail,
                "age_s": round(now_s - state.at_s, 3),
                "results": dict(state.results),
            }
            for name, state in self._states.items()
        ]


def _result(state: State, now_s: float) -> str | None:
    if state.is_silent(now_s):
        return SILENT
    return None if state.result is None else state.result.value
