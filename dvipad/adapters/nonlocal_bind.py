"""Lets applications bind addresses that this node does not have yet (D10).

An address of a VIPARANGE comes to life because an application binds it, so the bind must succeed
first: ``net.ipv4.ip_nonlocal_bind`` and ``net.ipv6.ip_nonlocal_bind`` are set in this network
namespace while there are ranges of that family. What was there before is kept in a file that is
gone after a restart of the host, as the setting is; a daemon that is killed leaves both, the next
one goes on.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

NAME: Final = "nonlocal_bind.json"
_ON: Final = "1"
_SETTINGS: Final = {
    4: Path("/proc/sys/net/ipv4/ip_nonlocal_bind"),
    6: Path("/proc/sys/net/ipv6/ip_nonlocal_bind"),
}

log = logging.getLogger(__name__)


class NonlocalBind:
    """The settings of the network namespace of the calling thread.

    `run`: a folder that is empty after a restart of the host.
    """

    def __init__(self, run: Path) -> None:
        self._file = run / NAME
        self._former = self._read()
        self._wanted: frozenset[int] = frozenset(self._former)

    def want(self, versions: frozenset[int]) -> None:
        """Set it for these versions of IP, and put back what was there for the others.

        Raises ``OSError`` when the kernel or the file system refuses it.
        """
        self._wanted = versions
        for version, former in list(self._former.items()):
            if version not in versions:
                self._restore(version, former)
        for version in sorted(versions - set(self._former)):
            former = _SETTINGS[version].read_text().strip()
            self._keep({**self._former, version: former})  # first: a daemon may be killed here
            try:
                _SETTINGS[version].write_text(_ON)
            except OSError:
                self._keep({v: text for v, text in self._former.items() if v != version})
                raise
            log.info("%s is 1 (was %s), because of a VIPARANGE", _name(version), former)
        self.repair()

    def restore(self) -> None:
        """Put back what was there."""
        self.want(frozenset())

    def repair(self) -> None:
        """Set it again where somebody took it back."""
        for version in self._wanted & set(self._former):
            if _SETTINGS[version].read_text().strip() != _ON:
                _SETTINGS[version].write_text(_ON)
                log.warning("somebody set %s back; it is 1 again", _name(version))

    def _restore(self, version: int, former: str) -> None:
        now = _SETTINGS[version].read_text().strip()
        if now == _ON != former:  # else somebody else has changed it since
            _SETTINGS[version].write_text(former)
            log.info("%s is %s again", _name(version), former)
        self._keep({each: text for each, text in self._former.items() if each != version})

    def _read(self) -> dict[int, str]:
        try:
            values = json.loads(self._file.read_text())
            return {
                version: str(int(values[str(version)]))
                for version in _SETTINGS
                if str(version) in values
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            log.error("%s makes no sense (%s); what it keeps counts as 0", self._file, error)
            return dict.fromkeys(_SETTINGS, "0")

    def _keep(self, former: dict[int, str]) -> None:
        self._former = former
        if not former:
            self._file.unlink(missing_ok=True)
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(former) + "\n")
        new.replace(self._file)


def _name(version: int) -> str:
    return f"net.ipv{version}.ip_nonlocal_bind"
