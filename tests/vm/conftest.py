"""These tests are about the kernel of the virtual machine: elsewhere they do not exist."""

from __future__ import annotations

import os

from dvipad.vmlab.__main__ import VM_VARIABLE

collect_ignore_glob = [] if VM_VARIABLE in os.environ else ["test_*.py"]
