"""The command `dvipad`: what it prints and how it exits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from dvipad.cli.dvipad import main
from dvipad.config.source import MAX_FILE_BYTES

CONFIG = Path(__file__).parents[2] / "config"


def test_check_of_good_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(CONFIG / "lb1.yaml"), str(CONFIG / "backup.profile")]) == 0
    captured = capsys.readouterr()
    assert captured.out == "2 files, 0 errors, 0 warnings\n"
    assert captured.err == ""


def test_check_prints_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p"
    path.write_text("VIPADYNAMIC\n  VIPADEFINE 255.255.255.0\n  VIPAFOO\nENDVIPADYNAMIC\n")
    missing = tmp_path / "missing.yaml"
    assert main(["--check", str(path), str(missing)]) == 2
    captured = capsys.readouterr()
    assert f"{path}:2:14: error: a mask without an address: '255.255.255.0'\n" in captured.err
    assert f"{path}:3:3: error: not a statement: 'VIPAFOO'\n" in captured.err
    assert f"{missing}:1:1: error: cannot be read: No such file" in captured.err
    assert captured.out == "2 files, 3 errors, 0 warnings\n"


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"VIPADYNAMIC\nENDVIPADYNAMIC ; \xe9\n", b"\0"])
@pytest.mark.parametrize("name", ["p", "n.yaml"])
def test_bytes_that_are_no_text(
    data: bytes, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert main(["--check", str(path)]) == 2
    assert f"{path}:1:1: error: " in capsys.readouterr().err or data.startswith(b"VIPA")


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = tmp_path / "large"
    large.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    assert main(["--check", str(large), str(tmp_path), "nul\0"]) == 2
    assert capsys.readouterr().out == "3 files, 3 errors, 0 warnings\n"


def test_show_prints_what_parses_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--show", str(CONFIG / "plain.profile")]) == 0
    shown = capsys.readouterr().out
    path = tmp_path / "shown"
    path.write_text(shown)
    assert main(["--show", str(path)]) == 0
    assert capsys.readouterr().out == shown


def test_show_of_several_files_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(CONFIG / "lb1.yaml"), str(CONFIG / "v6.profile")]
    assert main(["--show", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line[0] in "#;"] == [f"# '{files[0]}'", f"; '{files[1]}'"]


def test_show_of_a_broken_file_shows_nothing_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p"
    path.write_text("VIPADYNAMIC")
    assert main(["--show", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ":1:1: error: " in captured.err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in ("--check", "--show", "run", "lab", "VIPADISTRIBUTE", "exit status"):
        assert word in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("dvipad ")


@pytest.mark.parametrize("arguments", [["--chek"], ["fly"], ["run"], ["--check"]])
def test_a_wrong_command_line_exits_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_without_arguments_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().err


def test_run_and_lab_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def note(status: int) -> Callable[[object], int]:
        def handed_over(argument: object) -> int:
            seen.append(argument)
            return status

        return handed_over

    daemon, lab = ModuleType("dvipad.daemon"), ModuleType("dvipad.lab.cli")
    vars(daemon)["main"] = note(3)
    vars(lab)["main"] = note(4)
    monkeypatch.setitem(sys.modules, "dvipad.daemon", daemon)
    monkeypatch.setitem(sys.modules, "dvipad.lab.cli", lab)
    assert main(["run", "n.yaml"]) == 3
    assert main(["lab", "up", "--help"]) == 4
    assert seen == [Path("n.yaml"), ["up", "--help"]]


def test_a_reader_that_goes_away_and_a_terminal_without_utf8() -> None:
    command = [sys.executable, "-m", "dvipad.cli.dvipad", "--show", str(CONFIG / "lb1.yaml")]
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 0
