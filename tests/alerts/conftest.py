"""Faults for minutes: collected by `make alerts` only, which sets DVIPAD_ALERTS."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("DVIPAD_ALERTS") else ["test_alerts.py"]
