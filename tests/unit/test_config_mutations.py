"""Good files made bad: each is refused with a place, or rightly accepted; never an exception."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dvipad.cli.dvipad import main
from dvipad.config.errors import Severity, errors
from dvipad.config.node import parse_node
from dvipad.config.profile import parse_profile
from dvipad.config.show import show_node, show_profile
from dvipad.config.source import Source, decode

CONFIG = Path(__file__).parents[2] / "config"
PROFILES = sorted(CONFIG.glob("*.profile"))
NODES = sorted(CONFIG.glob("*.yaml"))
PER_FILE = 150

GARBAGE = (
    "VIPADYNAMIC", "ENDVIPADYNAMIC", "VIPAFOO", "DESTIP", "PORT", "ALL", "-1", "0", "65536", ",",
    "99999999999999999999", "255.0.255.0", "300.1.1.1", "::", "fe80::1%eth0", "2001:db8::/129",
    "\u0661\u0662", "80;web", "&SYSCLONE.", "MOVEABLE", "WEIGHT", "{", "'", '"',
    "\x00", "%", "\ufb01", "*" * 5_000, "[" * 3_000, "- ", ": ", "\t", "0x10", "127.0.0.1",
    "224.0.0.1", "\u2028", "\ud800",
)  # fmt: skip


def _delete(words: list[str], at: int, chance: random.Random) -> None:
    del words[at]


def _double(words: list[str], at: int, chance: random.Random) -> None:
    words.insert(at, words[at])


def _swap(words: list[str], at: int, chance: random.Random) -> None:
    other = chance.randrange(len(words))
    words[at], words[other] = words[other], words[at]


def _replace(words: list[str], at: int, chance: random.Random) -> None:
    words[at] = chance.choice(GARBAGE)


def _cut_off(words: list[str], at: int, chance: random.Random) -> None:
    del words[at:]


def _misspell(words: list[str], at: int, chance: random.Random) -> None:
    place = chance.randrange(len(words[at]))
    words[at] = words[at][:place] + chance.choice("xX0.;:,/-") + words[at][place + 1 :]


MUTATIONS: tuple[Callable[[list[str], int, random.Random], None], ...] = (
    _delete, _double, _swap, _replace, _cut_off, _misspell,
)  # fmt: skip


def _mutants(text: str, seed: str) -> list[bytes]:
    """`PER_FILE` mutants of `text`, always the same ones for a `seed`."""
    chance = random.Random(seed)
    mutants = []
    for number in range(PER_FILE):
        if number % 5 == 4:  # noise in the bytes
            data = bytearray(text.encode())
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            mutants.append(bytes(data))
            continue
        words = _pieces(text)
        places = [i for i, word in enumerate(words) if word.strip()]
        MUTATIONS[number % len(MUTATIONS)](words, chance.choice(places), chance)
        mutants.append("".join(words).encode("utf-8", "surrogatepass"))
    return mutants


def _pieces(text: str) -> list[str]:
    """Words and the blanks between them; comments do not take part."""
    pieces: list[str] = []
    for line in text.split("\n"):
        for word in line.partition(" ;")[0].partition("#")[0].split(" "):
            pieces += [word, " "] if not word.startswith(";") else [" "]
        pieces.append("\n")
    return pieces


def _decoded(data: bytes) -> Source:
    return decode(data, "mutant")


def _check_profile(data: bytes) -> bool:
    """Whether the mutant is accepted; then it means what --show prints of it."""
    source = _decoded(data)
    assert source.text is not None
    parsed = parse_profile(source.text, source.file)
    problems = (*source.problems, *parsed.problems)
    for problem in problems:
        assert problem.position.file == "mutant"
        assert problem.position.line >= 1
        assert problem.position.column >= 1
        assert problem.remedy
        str(problem).encode()
    if errors(problems):
        return False
    assert parse_profile(show_profile(parsed.profile), "shown").profile == parsed.profile
    return True


def _check_node(data: bytes) -> bool:
    source = _decoded(data)
    assert source.text is not None
    parsed = parse_node(source.text, source.file, Path("/etc/dvipad"))
    problems = (*source.problems, *parsed.problems)
    for problem in problems:
        assert problem.severity is Severity.ERROR
        assert problem.position.line >= 1
        assert problem.position.column >= 1
        assert problem.remedy
        str(problem).encode()
    if problems:
        return False
    assert parsed.node is not None
    assert parse_node(show_node(parsed.node), "shown", Path("/")).node == parsed.node
    return True


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_mutants_of_a_profile(path: Path) -> None:
    accepted = sum(_check_profile(data) for data in _mutants(path.read_text(), path.name))
    assert accepted < PER_FILE // 2


@pytest.mark.parametrize("path", NODES, ids=lambda path: path.name)
def test_mutants_of_a_node_file(path: Path) -> None:
    accepted = sum(_check_node(data) for data in _mutants(path.read_text(), path.name))
    assert accepted < PER_FILE // 2


def test_there_are_enough_broken_profiles() -> None:
    refused = sum(
        not _check_profile(data)
        for path in PROFILES
        for data in _mutants(path.read_text(), path.name)
    )
    assert refused >= 200


@pytest.mark.parametrize("suffix", ["profile", "yaml"])
def test_the_command_never_fails_on_a_mutant(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(iter(sorted(CONFIG.glob(f"*.{suffix}"))))
    mutant = tmp_path / f"mutant.{suffix}"
    for data in _mutants(path.read_text(), path.name)[:40]:
        mutant.write_bytes(data)
        status = main(["--check", str(mutant)])
        captured = capsys.readouterr()
        assert status in (0, 2)
        assert (status == 2) is (": error: " in captured.err)
