"""The commands' parsers as pages."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from dvipad.cli import dvipactl, dvipad
from dvipad.lab import cli as lab
from dvipad.pages.blocks import Block, Code, Head, Para, Terms


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The whole command lines, by command."""
    daemon = dvipad.parser_of()
    for action in daemon._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.choices["lab"] = lab.parser_of()
    return {"dvipad": daemon, "dvipactl": dvipactl.parser_of()}


def page(parser: argparse.ArgumentParser) -> list[Block]:
    """A command's page: a section for each of its subcommands."""
    blocks: list[Block] = [Head("Synopsis"), Code(_usage(parser)), Head("Description")]
    blocks += _of(parser)
    for path, sub in subcommands(parser):
        blocks += [Head(path), Code(_usage(sub)), *_of(sub)]
    others = (
        "dvipad(8), dvipactl(1), dvipad.yaml(5), dvipad.profile(5), dvipad.policies(5), "
        "dvipad-metrics(7)"
    )
    return [*blocks, Head("See also"), Para(others)]


def _of(parser: argparse.ArgumentParser) -> list[Block]:
    rows = tuple(row for action in parser._actions for row in _rows(parser, action))
    text = " ".join((parser.description or "").split())
    blocks: list[Block] = [Para(text)] if text else []
    blocks += [Terms(("argument", "meaning"), rows)] if rows else []
    return blocks + ([Code(parser.epilog)] if parser.epilog else [])


def _usage(parser: argparse.ArgumentParser) -> str:
    return " ".join(parser.format_usage().removeprefix("usage:").split())


def _rows(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[tuple[str, str]]:
    if isinstance(action, argparse._SubParsersAction):
        for choice in action._choices_actions:
            yield choice.dest, choice.help or ""
    elif action.help is not argparse.SUPPRESS:
        formatter = parser._get_formatter()
        yield (
            formatter._format_action_invocation(action),
            formatter._expand_help(action) if action.help else "",
        )


def subcommands(
    parser: argparse.ArgumentParser, path: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Path and parser of each subcommand that has no further ones."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                below = list(subcommands(sub, f"{path} {name}".strip()))
                yield from below or [(f"{path} {name}".strip(), sub)]
