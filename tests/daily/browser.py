"""Headless Chromium on a host of the lab, driven through pipes (Chrome DevTools Protocol)."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from dvipad.lab.cluster import Cluster

BROWSER: Final = "chromium"
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
)
END_S: Final = 10.0
_COMPLAINTS: Final = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are not 3 and 4, which the browser uses."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return high[0], high[1]


class Browser:
    """One tab of a browser on `host`; a context. `complaints`: errors and lines on its console."""

    def __init__(self, cluster: Cluster, host: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dvipad-browser-")
        to_browser, self._out = _pipe()
        self._in, from_browser = _pipe()
        flags = [*_FLAGS, f"--user-data-dir={self._folder.name}"]
        exec_it = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        command = cluster.command(host, ["bash", "-c", exec_it, "bash", BROWSER, *flags])
        self._process = subprocess.Popen(
            command, pass_fds=(to_browser, from_browser), stderr=subprocess.DEVNULL
        )
        for end in (to_browser, from_browser):
            os.close(end)
        self._number = 0
        self._session: str | None = None
        self._unread = b""
        self.complaints: list[Any] = []

    def __enter__(self) -> Browser:
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        # It ends its own processes, which would go on writing to its folder if it were killed.
        self._send("Browser.close", {})
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for end in (self._in, self._out):
            os.close(end)
        self._folder.cleanup()

    def _send(self, method: str, parameters: dict[str, Any]) -> None:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None and not method.startswith("Browser."):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")

    def _ask(self, method: str, **parameters: Any) -> Any:
        self._send(method, parameters)
        while True:
            answer = self._next()
            if answer.get("method") in _COMPLAINTS:
                self.complaints.append(answer["params"])
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next(self) -> Any:
        while b"\0" not in self._unread:
            piece = os.read(self._in, 1 << 16)
            assert piece, "the browser has ended"
            self._unread += piece
        text, _, self._unread = self._unread.partition(b"\0")
        return json.loads(text)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Pixels of the window, and the colours that its user prefers."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])

    def go(self, url: str) -> None:
        """Load `url`."""
        self._ask("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, path: Path) -> None:
        """What is to be seen, as a PNG."""
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot")["data"]))
