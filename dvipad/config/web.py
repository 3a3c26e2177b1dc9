"""The section `web` of the node file: where `dvipad web` serves the page and the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import yaml

from dvipad.address import Address
from dvipad.config.values import read_address
from dvipad.config.yamldoc import Mapping

DEFAULT_WEB_PORT: Final = 4781
MAX_LISTEN: Final = 16
_REMEDY: Final = "Give addresses of this host, as [192.0.2.1], or ['::'] for all that it has."


@dataclass(frozen=True, slots=True)
class WebConfig:
    """`listen` empty: on the XCF address and on the loopback addresses."""

    port: int = DEFAULT_WEB_PORT
    listen: tuple[Address, ...] = ()


def read_web(top: Mapping) -> WebConfig:
    """The section `web`; what is wrong with it is noted, and is as by default then."""
    values = Mapping(top.document, top.node("web"), ("port", "listen"), "web")
    port = values.number("port", DEFAULT_WEB_PORT, 1, 65_535, "")
    listen: list[Address] = []
    given: tuple[tuple[yaml.Node, Address], ...] = values.items(
        "listen", read_address, _REMEDY, MAX_LISTEN
    )
    for node, address in given:
        if address in listen:
            top.document.error(node, "an address that is listed before", "Name each once.")
        listen.append(address)
    return WebConfig(port, tuple(listen))
