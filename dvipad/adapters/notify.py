"""Tells systemd how the daemon is (sd_notify(3)); without systemd it tells nobody."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send `state`, such as ``READY=1``, to the service manager that started this process."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(address)
            sender.sendall(state.encode())
        except OSError:
            return  # a service manager that does not listen is no reason to fail
