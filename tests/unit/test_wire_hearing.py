"""The longest silence of a peer: of the last minute or two, and the present one."""

from __future__ import annotations

from dvipad.wire.hearing import WINDOW_MS, Hearing


def test_the_longest_silence_is_kept_for_a_while_and_then_forgotten() -> None:
    hearing = Hearing(300, 200, 3000, 0)
    for now_ms in (30, 60, 250, 280):
        hearing.bytes_came(now_ms)
    assert hearing.longest_silence_ms(280) == 190
    assert hearing.longest_silence_ms(1000) == 720, "the present one counts"
    now_ms, sequence = 280, 0
    while now_ms < WINDOW_MS + 600:
        now_ms, sequence = now_ms + 30, sequence + 1
        assert hearing.beat_came(sequence, now_ms)
    assert hearing.longest_silence_ms(now_ms) == 190, "it was in the window before"
    while now_ms < 2 * WINDOW_MS + 1200:
        now_ms, sequence = now_ms + 30, sequence + 1
        assert hearing.beat_came(sequence, now_ms)
    assert hearing.longest_silence_ms(now_ms) == 30


def test_a_heartbeat_that_is_old_ends_no_silence() -> None:
    hearing = Hearing(300, 200, 3000, 0)
    assert hearing.beat_came(5, 100)
    assert not hearing.beat_came(5, 200)
    assert hearing.longest_silence_ms(250) == 150
