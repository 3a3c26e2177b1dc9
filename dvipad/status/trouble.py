"""What may be wrong with a status object itself, not with its instance."""

from __future__ import annotations


class Unusable(Exception):
    """What was read is not figures."""


class Missing(Exception):
    """Something that the status object needs is not here."""
