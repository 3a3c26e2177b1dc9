"""Starts daemons of labs from one warm process: what they import is imported once.

Half of what a daemon's start costs is importing it. A lab of five that lives for seconds, as the
tests make them by the hundred, forks its daemons from here. All else is as with a fresh process:
session, namespace, folder, environment, log, signals.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dvipad.lab.system import NETNS

MODULES: Final = ("dvipad.cli.dvipad", "dvipad.daemon", "dvipad.adapters.bpf.loader")
_REQUEST_BYTES: Final = 1 << 20
_CLONE_NEWNET: Final = 0x4000_0000


class Nursery:
    """The warm process; it ends with `close`, or with the process that made it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dvipad.lab.nursery", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(
        self,
        namespace: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
    ) -> int:
        """`dvipad ARGUMENTS` in a namespace and a folder, its output appended to `log`: its pid."""
        request = {
            "namespace": str(NETNS / namespace),
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder),
            "log": str(log),
        }
        self._socket.sendall(json.dumps(request).encode())
        return int(self._socket.recv(_REQUEST_BYTES))

    def close(self) -> None:
        """No more starts; daemons that run go on."""
        self._socket.close()
        self._process.wait()


def serve(requests: socket.socket) -> None:
    """Forks a daemon for each request, until there are no more."""
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()  # a daemon's collector need not look at what all have
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: they leave no zombies
    while data := requests.recv(_REQUEST_BYTES):
        pid = os.fork()
        if pid == 0:
            requests.close()
            _become(json.loads(data))
        requests.sendall(str(pid).encode())


def _become(request: dict[str, Any]) -> None:
    """This process is the daemon from here on, and ends as it ends."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        namespace = os.open(request["namespace"], os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns", request["namespace"])
        for descriptor in (log, namespace):
            os.close(descriptor)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["dvipad", *request["arguments"]]
        status = sys.modules[MODULES[0]].main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for output in (sys.stdout, sys.stderr):
            output.flush()
        os._exit(status)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        serve(inherited)
