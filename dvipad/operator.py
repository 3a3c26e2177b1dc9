"""What the daemon answers over its two sockets: everybody's reports, and the operator's orders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dvipad.activation import Activation
from dvipad.adapters.control import OWNER_ONLY, ControlError, ControlServer
from dvipad.adapters.jsonable import jsonable
from dvipad.config.check import YAML_SUFFIXES
from dvipad.config.errors import errors
from dvipad.config.policies import check_policies
from dvipad.config.profile import check_profile
from dvipad.config.status import check_status, is_status
from dvipad.core.orders import WHOLE_TARGET, Verb
from dvipad.counting import Counting
from dvipad.reports import PORT_MAX, Reports, read_address
from dvipad.wire.messages import MAX_WEIGHT

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

OWN_GROUP: Final = 0o660


class Operator:
    """Serves reports on both sockets, and on the operator's also orders (``vary``, ``obeyfile``,
    ``vipa``, ``drained``, ``announce``). The group of the daemon's user may ask for reports."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.activation = Activation(daemon)
        self._counting = Counting(daemon)
        reports = Reports(daemon, self._counting).handlers()
        reports |= daemon.policing.handlers() | daemon.status.handlers()
        orders = {
            "vary": self._vary,
            "obeyfile": self._obeyfile,
            "vipa": self._vipa,
            "drained": self._drained,
            "announce": self._announce,
        }
        run = daemon.config.paths.run
        self._servers = (
            ControlServer(run / "control.sock", reports | orders, OWNER_ONLY),
            ControlServer(run / "view.sock", reports, OWN_GROUP),
        )

    async def start(self) -> None:
        """Listen for `dvipactl` and `dvipad web`."""
        self._counting.start()
        for server in self._servers:
            await server.start()

    async def stop(self) -> None:
        """Listen no more."""
        self._counting.stop()
        for server in self._servers:
            await server.stop()

    async def _vary(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """An order: ``verb``, and ``dvipa`` or ``port`` where it takes one."""
        try:
            verb = Verb(request.get("verb"))
        except ValueError as error:
            raise ControlError(f"verb is one of {', '.join(v.value for v in Verb)}") from error
        dvipa, port = read_address(request.get("dvipa")), request.get("port", WHOLE_TARGET)
        if type(port) is not int or not 0 <= port <= PORT_MAX:
            raise ControlError(f"port is a number from 1 to {PORT_MAX}")
        if dvipa is not None and self._daemon.node.owners.get(dvipa) is None:
            raise ControlError(f"{dvipa} is neither defined nor backed up here")
        try:
            self._daemon.order(self._daemon.orders.with_order(verb, dvipa, port))
        except (ValueError, OSError) as error:
            raise ControlError(str(error)) from error
        if verb is Verb.JOINGROUP:
            self._daemon.care.joined()
        return {"orders": jsonable(self._daemon.orders)}

    async def _announce(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The node announces ``weight`` for TARGCONTROLLED; None: what its node file says."""
        weight = request.get("weight")
        if weight is not None and (type(weight) is not int or not 0 <= weight <= MAX_WEIGHT):
            raise ControlError(f"weight is a number from 0 to {MAX_WEIGHT}, or null")
        try:
            self._daemon.order(replace(self._daemon.orders, weight=weight))
        except OSError as error:
            raise ControlError(str(error)) from error
        self._daemon.workload.hurry()
        return {"orders": jsonable(self._daemon.orders)}

    async def _obeyfile(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Follow the profile, or by its suffix and keys the policies or the status file, in
        ``path`` from now on; ``dry`` only checks it."""
        path, dry = Path(str(request.get("path"))), request.get("dry") is True
        if path.suffix.lower() in YAML_SUFFIXES and is_status(path):
            status = check_status(path)
            if status.status is not None and not dry:
                self._daemon.measures.followed()
                self._daemon.status.follow(status.status)
            return {
                "accepted": status.status is not None,
                "problems": [str(problem) for problem in status.problems],
            }
        if path.suffix.lower() in YAML_SUFFIXES:
            read = check_policies(path)
            if read.policies is not None and not dry:
                self._daemon.measures.followed()
                self._daemon.policing.follow(read.policies)
            return {
                "accepted": read.policies is not None,
                "problems": [str(problem) for problem in read.problems],
            }
        parsed = check_profile(path)
        accepted = parsed.profile is not None and not errors(parsed.problems)
        if accepted and parsed.profile is not None and not dry:
            self._daemon.follow(parsed.profile)
        return {"accepted": accepted, "problems": [str(problem) for problem in parsed.problems]}

    async def _vipa(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``verb`` activate or delete, and ``dvipa``: an address of a VIPARANGE. Answers with a
        result of MODDVIPA, and the reason when nothing was done."""
        verbs = {"activate": self.activation.activate, "delete": self.activation.delete}
        work, dvipa = verbs.get(str(request.get("verb"))), read_address(request.get("dvipa"))
        if work is None or dvipa is None:
            raise ControlError(f"verb is one of {', '.join(verbs)}, and takes a dvipa")
        try:
            verdict = await work(dvipa)
        except OSError as error:
            raise ControlError(str(error)) from error
        return {"dvipa": str(dvipa), "code": verdict.code.value, "reason": verdict.reason}

    async def _drained(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """Whether no connection of a DVIPA ends here, and how many do."""
        hidden = frozenset(self._daemon.node.target.hidden)
        loop = asyncio.get_running_loop()
        kernel = self._daemon.kernel
        ending = await loop.run_in_executor(self._daemon.thread, kernel.ending, hidden)
        return {"drained": not ending, "connections": ending.total()}
