"""House rules: sizes of functions, modules and lines, and which module may import which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 400
MAX_COLUMNS = 100

PYTHON = sorted(
    path
    for folder in ("dvipad", "tests", "bench", "ansible")
    for path in (ROOT / folder).rglob("*.py")
)
C = sorted(path for pattern in ("*.c", "*.h") for path in (ROOT / "bpf").rglob(pattern))

PURE_MODULES = {
    "__future__", "abc", "ast", "bisect", "collections", "dataclasses", "enum", "functools",
    "hashlib", "heapq", "ipaddress", "itertools", "json", "math", "operator", "re", "string",
    "struct", "types", "typing", "zlib",
}  # fmt: skip
"""What `core` and `wire` may import of the standard library: no I/O, no clock, no chance."""
PURE_LIBRARIES = {"simpleeval"}
"""And of others: with the functions that it is given, it is pure."""

PURE_AGENTS = [
    f"agents/{name}.py"
    for name in ("formula", "steady", "proc", "snapshot", "quality", "responsiveness")
]

LAYERS = {
    "config": ("dvipad.address", "dvipad.versions", "dvipad.config"),
    "wire": ("dvipad.address", "dvipad.versions", "dvipad.config.model", "dvipad.wire"),
    "core": (
        "dvipad.address", "dvipad.config.model", "dvipad.wire.messages", "dvipad.wire.events",
        "dvipad.core",
    ),
    "adapters": (
        "dvipad.address", "dvipad.config", "dvipad.wire", "dvipad.core", "dvipad.adapters",
    ),
    "agents": (
        "dvipad.address", "dvipad.wire.messages", "dvipad.adapters", "dvipad.agents",
    ),
}  # fmt: skip
"""What a package may import of dvipad itself; imports never point back."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imports(path: Path) -> list[tuple[int, str]]:
    """(line, absolute module) of every import in `path`, those in functions included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(path)}:{node.lineno}: a relative import"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            found += [(node.lineno, name if module == "dvipad" else module) for name in names]
    return found


def _within(module: str, allowed: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("path", PYTHON, ids=_name)
def test_python_is_small(path: Path) -> None:
    text = path.read_text()
    lines = text.splitlines()
    assert len(lines) <= MAX_MODULE_LINES
    long = [number for number, line in enumerate(lines, 1) if len(line) > MAX_COLUMNS]
    assert not long, f"lines longer than {MAX_COLUMNS} columns"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            size = node.end_lineno - node.lineno + 1
            assert size <= MAX_FUNCTION_LINES, f"{node.name} has {size} lines"


@pytest.mark.parametrize("path", C, ids=_name)
def test_c_is_narrow(path: Path) -> None:
    lines = path.read_text().expandtabs(8).splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > MAX_COLUMNS]
    assert not long, f"lines longer than {MAX_COLUMNS} columns"


@pytest.mark.parametrize("modules", ["core/**/*.py", "wire/**/*.py", *PURE_AGENTS])
def test_what_decides_is_pure(modules: str) -> None:
    for path in sorted((ROOT / "dvipad").glob(modules)):
        for line, module in _imports(path):
            top = module.partition(".")[0]
            allowed = top == "dvipad" or top in PURE_MODULES | PURE_LIBRARIES
            assert allowed, f"{_name(path)}:{line}: {module} is not pure"


@pytest.mark.parametrize("package", LAYERS)
def test_imports_never_point_back(package: str) -> None:
    for path in sorted((ROOT / "dvipad" / package).rglob("*.py")):
        for line, module in _imports(path):
            allowed = not _within(module, ("dvipad",)) or _within(module, LAYERS[package])
            assert allowed, f"{_name(path)}:{line}: {package} must not import {module}"


@pytest.mark.parametrize("name", ["address", "versions"])
def test_what_all_may_import_imports_nothing_of_dvipad(name: str) -> None:
    modules = [module for _, module in _imports(ROOT / "dvipad" / f"{name}.py")]
    assert not [module for module in modules if _within(module, ("dvipad",))]


@pytest.mark.parametrize(
    "path", [path for path in PYTHON if _name(path).startswith("dvipad")], ids=_name
)
def test_public_things_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has none"
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            private = node.name.startswith("_")
            assert private or ast.get_docstring(node), f"{node.name} has none"
