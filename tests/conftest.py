"""What all tests have in common."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("dvipad", deadline=None)  # how fast a busy machine is says nothing
settings.load_profile("dvipad")
