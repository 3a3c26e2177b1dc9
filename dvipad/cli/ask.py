"""One request to the daemon, over its control socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

TIMEOUT_S: Final = 10.0


class Refused(Exception):
    """The daemon does not answer, or says no; the text says what to do."""


def ask(path: Path, request: dict[str, Any], *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """One request to the daemon behind the control socket `path`; raises `Refused`."""
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(timeout_s)
            control.connect(str(path))
            control.sendall(json.dumps(request).encode() + b"\n")
            with control.makefile("rb") as answers:
                answer = json.loads(answers.readline() or b"{}")
    except PermissionError as error:
        raise Refused(f"{path}: not allowed; run dvipactl as root") from error
    except (OSError, ValueError) as error:
        raise Refused(
            f"{path}: {error}; is dvipad running? (systemctl status dvipad; --socket PATH)"
        ) from error
    if not answer.get("ok"):
        raise Refused(str(answer.get("error", "the daemon closed the connection")))
    return dict(answer)
