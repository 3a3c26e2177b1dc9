"""Takes secrets out of text that leaves the host."""

from __future__ import annotations

import re
from typing import Final

REMOVED: Final = "[removed]"
_SECRET: Final = r"[\w.-]*(?:secret|passw(?:or)?d|passphrase|token|psk|credential|(?<![a-z])key)"
_NAME: Final = rf"""["']?{_SECRET}[\w.-]*["']?"""
_ASSIGNED: Final = re.compile(
    rf"""(?im)(?P<name>{_NAME}[ \t]*[:=][ \t]*)(?:"[^"\n]*"|'[^'\n]*'|\S.*)"""
)
_BLOCK: Final = re.compile(
    rf"""(?im)^(?P<name>(?P<indent>[ \t]*){_NAME}[ \t]*:)[ \t]*[|>]?[-+]?[ \t]*\n"""
    r"(?:(?P=indent)[ \t-]+.*(?:\n|\Z))+"
)
_PEM: Final = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)
_LOGIN: Final = re.compile(r"(?<=://)[^/\s@]+:[^/\s@]*@")


def redact(text: str) -> str:
    """`text` without PEM blocks, logins of URLs, and values of keys that are called secrets."""
    text = _PEM.sub(REMOVED, text)
    text = _LOGIN.sub(f"{REMOVED}@", text)
    text = _BLOCK.sub(rf"\g<name> {REMOVED}\n", text)
    return _ASSIGNED.sub(rf"\g<name>{REMOVED}", text)
