"""Which address each name in the DNS is to have: that of the preferred server or farm (S5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dvipad.address import Address
from dvipad.config.dns import Give, NameConfig
from dvipad.core.effects import Preferred
from dvipad.status.lines import name_order


@dataclass(slots=True)
class NameState:
    """`wanted`: the address that the name is to have, empty while another node keeps it; `has`:
    that the zone took from this node last. `who`: the server or farm. `error`: why it did not."""

    config: NameConfig
    who: str = ""
    wanted: str = ""
    has: str = ""
    error: str = ""
    results: Counter[str] = field(default_factory=lambda: Counter(done=0, failed=0))

    def order(self) -> dict[str, Any]:
        """What the status process is told."""
        return name_order(self.config, self.wanted)


class Names:
    """All of them. `xcf_of` is a node's own address."""

    def __init__(self, xcf_of: Callable[[str], Address | None]) -> None:
        self._xcf_of = xcf_of
        self._states: dict[str, NameState] = {}
        self._best: dict[tuple[Address, int], Preferred] = {}

    def follow(self, names: Iterable[NameConfig]) -> None:
        """These are the names from now on."""
        before = self._states
        self._states = {
            config.name: known
            if (known := before.get(config.name)) and known.config == config
            else NameState(config)
            for config in names
        }

    def preferred(self, effect: Preferred) -> None:
        """Another server or farm is the best."""
        self._best[effect.dvipa, effect.port] = effect

    def news(self, distributes: Callable[[Address], bool]) -> Iterator[dict[str, Any]]:
        """Orders for the status process: names whose address is another one by now, and those that
        another node keeps, because this one does not distribute their DVIPA any more."""
        for state in self._states.values():
            config = state.config
            here = distributes(config.dvipa)
            if not here and state.wanted:
                state.wanted = state.has = ""
                yield {"forget": config.name}
            best = self._best.get((config.dvipa, config.port))
            if not here or best is None:
                continue
            state.who = best.server if config.give is Give.SERVER else best.farm
            address = self._address(config, state.who)
            if address is None:
                state.error = f"no address for {config.give.value} {state.who or '(none)'}"
            elif str(address) != state.wanted:
                state.wanted = str(address)
                yield state.order()

    def _address(self, config: NameConfig, who: str) -> Address | None:
        given = dict(config.addresses).get(who)
        return self._xcf_of(who) if given is None and config.give is Give.SERVER else given

    def wanted(self) -> list[dict[str, Any]]:
        """Orders for all names that this node keeps."""
        return [state.order() for state in self._states.values() if state.wanted]

    def told(self, message: Mapping[str, Any]) -> None:
        """What became of an update."""
        state = self._states.get(str(message.get("name")))
        if state is None:
            return
        state.error = str(message.get("error", ""))
        state.results["failed" if state.error else "done"] += 1
        if not state.error:
            state.has = str(message.get("address", ""))

    def rows(self) -> list[dict[str, Any]]:
        """One for each name, for those who look."""
        return [
            {
                "name": name,
                "zone": state.config.zone,
                "server": str(state.config.server),
                "dvipa": str(state.config.dvipa),
                "port": state.config.port,
                "give": state.config.give.value,
                "who": state.who,
                "wanted": state.wanted,
                "has": state.has,
                "error": state.error,
                "results": dict(state.results),
            }
            for name, state in self._states.items()
        ]
