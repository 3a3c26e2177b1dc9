"""What the node file says in one word of a few."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

Word = TypeVar("Word", bound=Enum)


class Quorum(Enum):
    """What a node that does not see the others does with DVIPAs."""

    NONE = "none"
    """It owns them all the same; when the parts meet again, the higher epoch wins."""
    MAJORITY = "majority"
    """It owns them only while it sees more than half of the cluster."""


class Tunnel(Enum):
    """How packets travel to targets; the family of the outer header is that of XCF addresses."""

    IPIP = "ipip"
    GRE = "gre"
    """Both made by the eBPF program."""
    IPIP_DEVICE = "ipip-device"
    GRE_DEVICE = "gre-device"
    VXLAN = "vxlan"
    """Made by a device of the kernel's."""


class Direct(Enum):
    """Whether established connections go without a tunnel to targets on the same link."""

    AUTO = "auto"
    OFF = "off"


class Xdp(Enum):
    """Whether packets of established connections are forwarded before TC sees them."""

    OFF = "off"
    GENERIC = "generic"
    """Behind the driver, on any device whose GRO is off."""
    NATIVE = "native"
    """In the driver, if it can."""


def one_of(words: type[Word]) -> Callable[[str], Word | None]:
    """Reads one of the words, in any case."""
    return lambda text: next((word for word in words if word.value == text.lower()), None)
