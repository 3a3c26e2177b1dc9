"""What the kernel says of its ruleset."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.nft_generation import parse


def answer(kind: int, *attributes: tuple[int, bytes]) -> bytes:
    body = b"\0\0\0\x2a" + b"".join(
        struct.pack("=HH", 4 + len(data), name) + data + bytes(-len(data) % 4)
        for name, data in attributes
    )
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def test_the_generation_is_found_among_other_attributes() -> None:
    data = answer(10 << 8 | 15, (3, b"nft\0"), (1, b"\0\0\x01\x02"), (2, b"\0\0\0\x07"))
    assert parse(data) == 0x102


def test_an_error_is_no_generation() -> None:
    assert parse(answer(2, (1, b"\0\0\x01\x02"))) is None


@given(st.binary(max_size=64))
def test_noise_never_raises(data: bytes) -> None:
    parse(data)
