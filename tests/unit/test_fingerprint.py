"""Kinds of clients by the options of their SYNs, as packet captures have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.fingerprint import device_of
from dvipad.config.model import Device

LINUX = bytes.fromhex("020405b4 0402 080a00000001 00000000 01 030307")
WINDOWS_10 = bytes.fromhex("020405b4 01 030308 01 01 0402")
MAC_OS = bytes.fromhex("020405b4 01 030306 01 01 080a00000001 00000000 0402 0000")
FREEBSD = bytes.fromhex("020405b4 01 030306 0402 080a00000001 00000000")


@pytest.mark.parametrize(
    ("hops", "window", "options", "device"),
    [
        (64, 64240, LINUX, Device.LINUX),
        (51, 29200, LINUX, Device.LINUX),
        (128, 64240, WINDOWS_10, Device.WINDOWS),
        (113, 65535, WINDOWS_10, Device.WINDOWS),
        (64, 65535, MAC_OS, Device.APPLE),
        (64, 64240, MAC_OS, Device.OTHER),
        (128, 64240, LINUX, Device.OTHER),
        (64, 64240, WINDOWS_10, Device.OTHER),
        (255, 64240, LINUX, Device.OTHER),
        (64, 65535, FREEBSD, Device.OTHER),
        (64, 64240, b"", Device.OTHER),
    ],
)
def test_known_stacks(hops: int, window: int, options: bytes, device: Device) -> None:
    assert device_of(hops, window, options) is device


@given(st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=40))
def test_noise_never_raises(hops: int, window: int, options: bytes) -> None:
    device_of(hops, window, options)


@given(st.integers(1, len(LINUX) - 1))
def test_a_cut_header_is_no_known_device(length: int) -> None:
    assert device_of(64, 64240, LINUX[:length]) is Device.OTHER
