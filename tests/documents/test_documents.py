"""The documentation: every command in it runs, and every link leads somewhere."""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from dvipad.cli import dvipactl, dvipad
from dvipad.config.policies import parse_policies
from dvipad.config.profile import parse_profile
from dvipad.config.status import parse_status
from dvipad.convert.result import convert
from dvipad.lab import cli as lab_cli
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LabSpec
from dvipad.lab.web import web_server
from dvipad.vmlab.readme import commands
from tests.documents.blocks import ALL, FILES, READ, ROOT, RUN, Block, indented, of
from tests.e2e.cluster_tools import WAIT_S, ready_targets, wait_for_state

PARSERS = {
    "dvipad": dvipad.parser_of,
    "dvipad lab": lab_cli.parser_of,
    "dvipactl": dvipactl.parser_of,
}
README = ROOT / "README.md"
MACHINES = ("vm1", "vm2", "vm3")
SOME_NODE = {"node": "lb1", "xcf": "192.0.2.1", "uplinks": ["eth0"]}
"""What a node file must have: blocks show what they are about."""
PLACEHOLDERS = {
    "DVIPA": "192.0.2.100",
    "ADDRESS": "192.0.2.225",
    "FILE": "profile",
    "FILE...": "keepalived.conf",
    "FOLDER": "new",
    "FILE.tar.gz": "bundle.tar.gz",
    "NUMBER": "1",
    "NODE.yaml": "node.yaml",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_says_what_becomes_of_it(path: Path) -> None:
    assert not indented(path), "code without a fence: tests/documents/blocks.py has the kinds"
    unknown = [
        str(block) for block in ALL if block.path == path and block.kind not in (*RUN, *READ)
    ]
    assert not unknown, "unknown kinds: tests/documents/blocks.py has those that there are"


@pytest.mark.parametrize("kind", RUN)
def test_every_kind_is_run_by_somebody(kind: str) -> None:
    asks = ("run_later_blocks(", "commands(") if kind == "sh vm" else (f'"{kind}"',)
    text = (ROOT / RUN[kind]).read_text()
    assert all(each in text for each in asks), f"{RUN[kind]} does not run {kind!r}"


def test_every_command_of_the_readme_is_typed_on_a_machine() -> None:
    typed = "\n".join("\n".join(commands(README.read_text(), name)) for name in MACHINES)
    for block in of("sh vm"):
        if block.path == README:
            assert all(line in typed for line in block.lines()), f"{block}: typed nowhere"


def takes(command: str) -> None:
    """A command of dvipad must be one that its parser takes."""
    words = shlex.split(command, comments=True)
    words = words[words[:1] == ["sudo"] :]
    name = " ".join(words[: 2 if words[1:2] == ["lab"] else 1])
    if name not in PARSERS:
        return
    parser: argparse.ArgumentParser = PARSERS[name]()
    try:
        parser.parse_args(words[len(name.split()) :])
    except SystemExit as end:
        assert not end.code, f"its parser does not take: {command}"


@pytest.mark.parametrize("block", of("sh vm"), ids=str)
def test_commands_for_real_machines_can_be_typed(block: Block) -> None:
    """Before somebody boots them."""
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    for line in block.lines():
        takes(line)


def ways(usage: str) -> Iterator[str]:
    """`a [b] c | d X` as the commands that it stands for."""
    words = re.sub(r" \| ", "|", usage.replace("[", " ").replace("]", " ")).split()
    choices = [[PLACEHOLDERS.get(each, each) for each in word.split("|")] for word in words]
    return (" ".join(words) for words in itertools.product(*choices))


@pytest.mark.parametrize("block", of("usage"), ids=str)
def test_usage_is_what_the_parser_takes(block: Block) -> None:
    for line in block.lines():
        for command in ways(re.split(r" {3,}", line)[0]):
            takes(command)


def check(folder: Path, files: Mapping[str, str]) -> None:
    """These files go through the checker that users have."""
    for name, text in files.items():
        (folder / name).write_text(text)
    assert dvipad.main(["--check", *(str(folder / name) for name in files)]) == dvipad.OK


@pytest.mark.parametrize("block", of("profile"), ids=str)
def test_profiles_have_no_defect(block: Block, tmp_path: Path) -> None:
    whole = "VIPADYNAMIC" in block.text
    text = block.text if whole else f"VIPADYNAMIC\n{block.text}\nENDVIPADYNAMIC\n"
    node = yaml.safe_dump(SOME_NODE | {"profile": "profile"})
    check(tmp_path, {"profile": text, "node.yaml": node})


@pytest.mark.parametrize("block", of("convert"), ids=str)
def test_files_of_other_programs_become_the_profile_that_follows(block: Block) -> None:
    after = next(each for each in ALL[ALL.index(block) :] if each.kind == "profile")
    made = parse_profile(convert({Path("file"): block.text}).profile, str(block)).profile
    told = parse_profile(after.text, str(after)).profile
    assert made is not None and told is not None
    assert made.distributes == told.distributes
    assert [each.dvipa for each in made.defines] == [each.dvipa for each in told.defines]


@pytest.mark.parametrize("block", of("yaml node"), ids=str)
def test_node_files_have_no_defect(block: Block, tmp_path: Path) -> None:
    missing = {key: value for key, value in SOME_NODE.items() if f"{key}:" not in block.text}
    check(tmp_path, {"node.yaml": (yaml.safe_dump(missing) if missing else "") + block.text})


@pytest.mark.parametrize(
    "block", [block for block in ALL if block.kind.startswith("sh") and block.files()], ids=str
)
def test_files_that_commands_write_have_no_defect(block: Block, tmp_path: Path) -> None:
    found = {Path(name).name: text for name, text in block.files().items()}
    configuration = {name: found[name] for name in ("profile", "node.yaml") if name in found}
    if configuration:
        check(tmp_path, configuration)


@pytest.mark.parametrize("block", of("policies"), ids=str)
def test_policies_have_no_defect(block: Block) -> None:
    assert parse_policies(block.text, str(block)).problems == ()


@pytest.mark.parametrize("block", of("status"), ids=str)
def test_status_files_have_no_defect(block: Block) -> None:
    assert parse_status(block.text, str(block), ROOT).problems == ()


@pytest.mark.parametrize("block", of("sh make"), ids=str)
def test_targets_exist(block: Block) -> None:
    for line in block.lines():
        words = shlex.split(line, comments=True)
        assert words[0] == "make"
        command = ["make", "--dry-run", "--directory", str(ROOT), *words[1:]]
        subprocess.run(command, check=True, capture_output=True)


def shell(block: Block, prefix: list[str], environment: dict[str, str] | None = None) -> None:
    """Run the block; the first command that fails is the end."""
    command = [*prefix, "bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"


def test_commands_run_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin")
    for block in of("sh host"):
        shell(block, [])


ON_HOSTS = {"sh lab": "lb1", "sh lab lb2": "lb2", "sh lab t1": "t1", "sh client": "client"}
SETUP = (
    "nft add table inet filter",
    "nft add chain inet filter input { type filter hook input priority 0 ; }",
)
"""What Debian's /etc/nftables.conf begins with."""


@pytest.mark.e2e
def test_commands_run_in_a_lab() -> None:
    spec = LabSpec(prefix=f"doc{id(SETUP) % 100_000}", ports=(80,))
    with Cluster(spec) as cluster, web_server(cluster, "lb1"):
        wait_for_state(cluster, "lb1", "ACTIVE")
        for line in SETUP:
            cluster.run("lb1", line.split())
        servers = [serve(cluster, host.name) for host in spec.hosts() if host.name.startswith("t")]
        cluster.wait_until(lambda: ready_targets(cluster, "lb1") == 3, WAIT_S, "targets serve")
        for block in of(*ON_HOSTS):
            name = ON_HOSTS[block.kind]
            shell(block, cluster.command(name, []), cluster.environment(name))
        for server in servers:
            server.kill()
            server.wait()


def serve(cluster: Cluster, name: str) -> subprocess.Popen[str]:
    """A web server on port 80 of a host."""
    argv = [sys.executable, "-m", "http.server", "80", "--directory", str(ROOT / "docs")]
    return cluster.popen(name, argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The places in a Markdown file that a link can name."""
    titles = (title.lower().strip() for title in HEADING.findall(path.read_text()))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text()):
        name, _, anchor = link.partition("#")
        if ":" in name:
            continue
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"
