"""What is made from parsers and grammar: it is up to date, correct for its readers, and works."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dvipad.pages import __main__ as pages
from dvipad.pages.configuration import (
    keys_of_code,
    keys_of_manual,
    keys_of_policies,
    keys_of_status,
)

REFERENCE = pages.MANUAL.with_name("reference.md")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_the_reference_is_up_to_date() -> None:
    assert REFERENCE.read_text() == pages.reference(), "run `make docs`"


def test_the_manual_has_every_key_and_its_default() -> None:
    real = keys_of_code()
    told = keys_of_manual(pages.MANUAL.read_text(), real)
    assert sorted(told) == sorted(real)
    assert {key: default for key, (_, default) in told.items()} == real


def test_the_manual_has_every_key_of_policies() -> None:
    keys = keys_of_policies()
    assert sorted(keys_of_manual(pages.MANUAL.read_text(), keys)) == sorted(keys)


def test_the_manual_has_every_key_of_the_status_file() -> None:
    keys = keys_of_status()
    assert sorted(keys_of_manual(pages.MANUAL.read_text(), keys)) == sorted(keys)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("built")
    assert pages.main("man", target / "man") == 0
    assert pages.main("completion", target / "completion") == 0
    return target


def test_man_pages_are_clean(built: Path) -> None:
    files = sorted((built / "man").iterdir())
    names = "dvipad.8 dvipactl.1 dvipad.policies.5 dvipad.profile.5 dvipad.status.5 dvipad.yaml.5"
    assert set(names.split()) <= {file.name for file in files}
    for file in files:
        assert run("mandoc", "-T", "lint", "-W", "warning", str(file)) == ""
        assert run("groff", "-man", "-ww", "-z", str(file)) == ""


def test_man_pages_have_all(built: Path) -> None:
    text = run("mandoc", "-T", "ascii", str(built / "man" / "dvipactl.1"))
    plain = re.sub(r".\x08", "", text).lower()
    for word in ("vary sysplex quiesce", "--follow", "support-bundle", "exit status"):
        assert word.lower() in plain


CASES = [
    ("dvipactl ", "netstat"),
    ("dvipactl netstat ", "vipadyn"),
    ("dvipactl vary sysplex ", "quiesce"),
    ("dvipactl events --f", "--follow"),
    ("dvipactl policy ", "test"),
    ("dvipactl policy test --dev", "--device"),
    ("dvipad ", "cleanup"),
    ("dvipad lab ", "status"),
]


@pytest.mark.parametrize(("line", "wanted"), CASES)
def test_bash_completes(built: Path, line: str, wanted: str) -> None:
    command = line.split()[0]
    words = line.split(" ")
    script = f"""
        source {built}/completion/bash/{command}
        COMP_WORDS=({" ".join(word or "''" for word in words)})
        COMP_CWORD={len(words) - 1}; COMP_LINE="{line}"; COMP_POINT={len(line)}
        how=$(complete -p {command}); how=${{how##*-F }}; ${{how%% *}}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert wanted in run("bash", "-c", script).split()


@pytest.mark.parametrize(("line", "wanted"), CASES)
def test_fish_completes(built: Path, line: str, wanted: str) -> None:
    file = built / "completion" / "fish" / f"{line.split()[0]}.fish"
    script = f"source {file}; complete -C '{line}'"
    found = [row.split("\t")[0].strip() for row in run("fish", "-N", "-c", script).splitlines()]
    assert wanted in found


@pytest.mark.parametrize("command", ["dvipactl", "dvipad"])
def test_zsh_takes_it(built: Path, command: str) -> None:
    file = built / "completion" / "zsh" / f"_{command}"
    script = (
        f"autoload -Uz compinit && compinit -u -D && source {file} && whence -w _shtab_{command}"
    )
    assert "function" in run("zsh", "-f", "-c", script)


def test_bash_completes_dvipas_of_the_daemon(built: Path, tmp_path: Path) -> None:
    fake = tmp_path / "dvipactl"
    fake.write_text("#!/bin/sh\necho '  IpAddr/PrefixLen: 192.0.2.100/24'\n")
    fake.chmod(0o755)
    script = f"""
        PATH={tmp_path}:$PATH; source {built}/completion/bash/dvipactl
        COMP_WORDS=(dvipactl vary sysplex deactivate ''); COMP_CWORD=4
        how=$(complete -p dvipactl); how=${{how##*-F }}; ${{how%% *}}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert "192.0.2.100" in run("bash", "-c", script).split()
