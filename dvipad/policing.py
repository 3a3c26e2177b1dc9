"""Policies in the daemon: their file, the time they speak of, and what is told about them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dvipad import hours
from dvipad.adapters.bpf.crt import CrtRow, Wanted
from dvipad.adapters.control import ControlError, Handler
from dvipad.adapters.jsonable import jsonable
from dvipad.address import Address
from dvipad.config.model import WEEK_MINUTES, Device, Policy
from dvipad.config.policies import DSCP_MAX
from dvipad.core.inputs import MinuteCame, PoliciesChanged
from dvipad.core.policy import is_open
from dvipad.core.policy_explain import explain, times_of
from dvipad.core.policy_rows import Request
from dvipad.reports import PORT_MAX, read_address

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

LOOK_S: Final = 1.0
"""How often the clock is looked at: it may be set at any time."""


class Policing:
    """Serves ``policies``, ``policy`` and ``why``."""

    def __init__(self, daemon: Daemon, policies: tuple[Policy, ...]) -> None:
        """`policies`: the own ones at the start."""
        self._daemon = daemon
        self._own = policies

    # -- what the core is told ----------------------------------------------------------------

    def start(self) -> None:
        """Tell the core what it needs before its start."""
        self.follow(self._own)

    def follow(self, policies: tuple[Policy, ...]) -> None:
        """These are the own policies from now on."""
        self._own = policies
        self._look()
        self._daemon.feed(PoliciesChanged(policies))

    async def keep_time(self) -> None:
        """Tell the core each minute that comes, until cancelled."""
        while True:
            self._look()
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        minute = hours.minute_of_week()
        if minute != self._daemon.node.context.minute:
            self._daemon.feed(MinuteCame(minute))

    # -- what is asked ------------------------------------------------------------------------

    def handlers(self) -> dict[str, Handler]:
        """The commands, by name."""
        return {"policies": self._policies, "policy": self._policy, "why": self._why}

    async def _policies(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """All policies that this node knows, and what they do for the services that it distributes:
        ``targets`` of the subset that meet the criterion, ``ring``, connections and refusals."""
        node = self._daemon.node
        names = self.names()
        loop = asyncio.get_running_loop()
        distribution = self._daemon.kernel.plane.distribution
        uses = await loop.run_in_executor(self._daemon.thread, distribution.uses)
        known = {(use.dvipa, use.port, use.policy): use for use in uses}
        services = []
        for dvipa, port, row in node.distributor.policies():
            use = known.get((dvipa, port, row.name))
            chosen = {} if use is None else use.chosen
            services.append(
                {
                    "policy": row.name,
                    "dvipa": str(dvipa),
                    "port": port,
                    "targets": row.targets,
                    "ring": sorted({names.get(xcf, str(xcf)) for xcf in row.ring}),
                    "chosen": {names.get(xcf, str(xcf)): n for xcf, n in chosen.items()},
                    "refused": 0 if use is None else use.refused,
                }
            )
        minute = node.context.minute
        policies = [
            {
                **jsonable(policy),
                "from": source,
                "open": is_open(policy, minute),
                "times": times_of(policy.match),
            }
            for source, policy in node.owners.policies.all()
        ]
        return {"policies": policies, "services": services}

    def names(self) -> dict[Address, str]:
        """Nodes by XCF address."""
        members = (peer.member for peer in self._daemon.node.context.membership)
        own = self._daemon.config
        return {own.xcf: own.name, **{member.xcf: member.name for member in members}}

    async def _policy(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What would become of a request: ``client``, ``dvipa``, ``port``, and if they matter
        ``dscp``, ``interface``, ``device``, ``minute`` (of the week; now by default)."""
        node = self._daemon.node
        client, dvipa = read_address(request.get("client")), read_address(request.get("dvipa"))
        if client is None or dvipa is None:
            raise ControlError("client and dvipa are addresses")
        port = _number(request, "port", 1, PORT_MAX, None)
        service = node.distributor.services_of(dvipa).get(port)
        if service is None:
            claim = node.context.membership.claim(dvipa)
            whose = "" if claim is None else f"; its distributor is {claim.name}: ask there"
            raise ControlError(f"port {port} of {dvipa} is not distributed by this node{whose}")
        try:
            device = Device(request.get("device", Device.OTHER.value))
        except ValueError as error:
            words = ", ".join(device.value for device in Device)
            raise ControlError(f"device is one of {words}") from error
        dscp = _number(request, "dscp", 0, DSCP_MAX, 0)
        seen = Request(client, dscp, str(request.get("interface", "")), device)
        now = node.context.minute
        minute = _number(request, "minute", 0, WEEK_MINUTES - 1, 0 if now is None else now)
        policies = node.owners.policies.effective(dvipa)
        found = explain(policies, dvipa, port, seen, minute, service.rows)
        return {"explanation": jsonable(found)}

    async def _why(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Where a connection goes, and why: ``client``, ``client_port``, ``dvipa``, ``port``."""
        client, dvipa = read_address(request.get("client")), read_address(request.get("dvipa"))
        if client is None or dvipa is None:
            raise ControlError("client and dvipa are addresses")
        client_port = _number(request, "client_port", 1, PORT_MAX, None)
        port = _number(request, "port", 1, PORT_MAX, None)
        daemon, wanted = self._daemon, Wanted(dvipa, client, client_port)
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(daemon.thread, daemon.kernel.crt, wanted)
        row = next((row for row in rows if row.dvipa_port == port), None)
        if row is None:
            raise ControlError("the CRT of this node does not have that connection")
        return {"connection": jsonable(row), **self._chooser(row)}

    def _chooser(self, row: CrtRow) -> dict[str, Any]:
        target = None if row.target is None else self.names().get(row.target, str(row.target))
        by, policy = "unknown", ""
        reason = "not known: it was not chosen here, but learnt from its target or its former owner"
        if row.chooser:
            slots = self._daemon.kernel.plane.distribution.slots
            holder = slots.holder(row.chooser - 1, row.created_ns)
            if holder is None or (holder.dvipa, holder.port) != (row.dvipa, row.dvipa_port):
                reason = "not known any more: what chose its target was changed or removed since"
            elif holder.policy:
                by, policy = "policy", holder.policy
                reason = f"policy {policy} was for it"
            else:
                by, reason = "ring", f"no policy was for it: {self._rule(row)}"
        return {"target": target, "by": by, "policy": policy, "reason": reason}

    def _rule(self, row: CrtRow) -> str:
        service = self._daemon.node.distributor.services_of(row.dvipa).get(row.dvipa_port)
        if service is not None and service.balanced:
            return "this target had the fewest connections for its weight"
        return "the turn of this target came"


def _number(request: Mapping[str, Any], key: str, low: int, high: int, default: int | None) -> int:
    value = request.get(key, default)
    if type(value) is not int or not low <= value <= high:
        raise ControlError(f"{key} is a number from {low} to {high}")
    return value
