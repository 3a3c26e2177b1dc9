"""The root of the cgroups is opened where the host has it."""

from __future__ import annotations

from dvipad.adapters.bpf.cgroup import mounts

TABLE = r"""
22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
31 22 0:26 /system.slice /srv/part rw - cgroup2 cgroup2 rw
32 22 0:27 / /srv/a\040b rw - cgroup2 none rw
33 22 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
"""


def test_only_the_whole_hierarchy_counts() -> None:
    assert mounts(TABLE.strip()) == ["/sys/fs/cgroup", "/srv/a b"]
    assert mounts("") == []
