"""Takes away what a stopped daemon left on this host."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from dvipad.adapters.features import detect
from dvipad.adapters.kernel import Kernel
from dvipad.adapters.rules import queue_rules
from dvipad.config.check import load
from dvipad.config.errors import ConfigError
from dvipad.setup import kernel_settings, node_guard

log = logging.getLogger(__name__)


def cleanup(path: Path) -> int:
    """Remove what a stopped daemon left on this host; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        config = load(path).node
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    features = detect()
    try:
        settings = kernel_settings(config, features)
        guard = node_guard(features, settings.plane)
        if guard is not None:
            guard.remove()
        Kernel(settings).destroy()
        if features.queue is not None:
            queue_rules(features.queue, settings.plane.queue_mark, config.queue.number).remove()
    except OSError as error:
        log.critical("cannot clean up: %s", error)
        return 1
    return 0
