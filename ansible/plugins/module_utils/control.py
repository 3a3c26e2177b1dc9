"""What the modules ask a node's daemon, over its control socket.

Modules are carried to the node alone, so nothing here needs the `dvipad` package.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from ansible.module_utils.basic import env_fallback
from ansible_collections.dvipad.cluster.plugins.module_utils.plan import Seen

TIMEOUT_S = 10.0
SOCKET_OPTION = {
    "type": "path",
    "default": "/run/dvipad/control.sock",
    "fallback": (env_fallback, ["DVIPAD_SOCKET"]),
}
"""The option `socket` of every module."""


class NoAnswer(Exception):
    """The daemon does not answer, or says no; the text says what to do."""


class Control:
    """The daemon behind the control socket `path`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """One request; raises `NoAnswer`."""
        try:
            answer = self._exchange({"command": command, **fields})
        except (OSError, ValueError) as error:
            raise NoAnswer(
                f"{self._path}: {error}; is dvipad running here (systemctl status dvipad), "
                "does the task run as root (become), is `socket` right?"
            ) from error
        if not answer.get("ok"):
            raise NoAnswer(str(answer.get("error", f"{self._path}: the daemon said nothing")))
        return answer

    def look(self) -> Seen:
        """What the daemon reports now; raises `NoAnswer`."""
        view, ordered = self.ask("view")["view"], self.ask("orders")
        return Seen(view, ordered["orders"], ordered["ending"], ordered["backups"])

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(TIMEOUT_S)
            control.connect(self._path)
            control.sendall(json.dumps(request).encode() + b"\n")
            with control.makefile("rb") as answers:
                answer = json.loads(answers.readline() or b"{}")
        if not isinstance(answer, dict):
            raise ValueError("the answer is no JSON object")
        return answer
