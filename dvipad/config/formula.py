"""Formulas: whether an expression can be one."""

from __future__ import annotations

import ast
from typing import Final

FORMULA_MAX: Final = 500
"""Characters of a formula."""
FUNCTIONS: Final = ("abs", "max", "min", "round")
_OPERATORS: Final = (
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.UAdd, ast.Not,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.And, ast.Or,
)  # fmt: skip
_SHAPES: Final = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Load)
_REMEDY: Final = (
    "Use figures as redis.clients, numbers, + - * / // %, comparisons, and, or, not, "
    "'x if y else z', and the functions " + ", ".join(FUNCTIONS) + "."
)


def why_no_formula(text: str) -> tuple[str, str] | None:
    """What is wrong with the expression `text`, and what helps; None: nothing."""
    if len(text) > FORMULA_MAX:
        return f"a formula of more than {FORMULA_MAX} characters", "Shorten it."
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"not a formula: {getattr(error, 'msg', error)}", _REMEDY
    for node in ast.walk(tree.body):
        if not _fits(node):
            return f"{type(node).__name__} is not allowed in a formula", _REMEDY
    return None


def _fits(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and not node.attr.startswith("_")
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        return named and not node.keywords and bool(node.args)
    return isinstance(node, (ast.Name, *_OPERATORS, *_SHAPES))
