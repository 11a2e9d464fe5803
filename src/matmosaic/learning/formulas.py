"""Formulas that users write as text: parsed into a tree of a few kinds of nodes, never executed as code."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from reprlib import Repr
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matmosaic.exceptions import InvalidParameterError, suggest

__all__ = ["FUNCTIONS", "Formula", "quoted"]

#: What a formula may call, with the number of arguments.
FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "log": (np.log, 1),
    "log10": (np.log10, 1),
    "exp": (np.exp, 1),
    "sqrt": (np.sqrt, 1),
    "abs": (np.abs, 1),
    "minimum": (np.minimum, 2),
    "maximum": (np.maximum, 2),
}
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.UAdd: np.positive,
    ast.USub: np.negative,
}
_ALLOWED = f"numbers, names, + - * / **, parentheses and {', '.join(FUNCTIONS)}"
# Far more than any formula of a few quantities needs, and far less than what exhausts a parser.
_MAX_LENGTH = 1000
_MAX_DEPTH = 200
_QUOTES = Repr()
_QUOTES.maxstring = _QUOTES.maxother = 80


class Formula:
    """An arithmetic expression of named quantities.

    Numbers, names, ``+ - * / **``, parentheses, and the functions ``log`` (natural), ``log10``, ``exp``,
    ``sqrt``, ``abs``, ``minimum`` and ``maximum`` (of two).

    Parameters
    ----------
    text : str
        Such as ``"(3*K - 2*G) / (6*K + 2*G)"``.

    Raises
    ------
    InvalidParameterError
        If the text holds anything else; the message points at the first such part.

    Examples
    --------
    >>> Formula("sqrt(a**2 + b**2)")(a=[3.0, 0.0], b=[4.0, 2.0]).tolist()
    [5.0, 2.0]
    """

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split()) if isinstance(text, str) else text
        self._tree = _parse(self.text)
        _check(self._tree, self.text)
        called = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        self.names = frozenset(
            node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name) and id(node) not in called
        )

    def __call__(self, **values: ArrayLike) -> NDArray[np.float64]:
        """Return the value of the formula, NaN where it is undefined or infinite.

        Parameters
        ----------
        **values : array-like of shape (n_rows,)
            Of each name.

        Returns
        -------
        ndarray of float64, shape (n_rows,)
            In the unit that the units of the values make.
        """
        with np.errstate(all="ignore"):
            result = np.asarray(_evaluate(self._tree, values), dtype=float)
        return np.where(np.isfinite(result), result, np.nan)

    def __repr__(self) -> str:
        return f"Formula({self.text!r})"


def quoted(text: object) -> str:
    """Return a formula as messages quote it: of a long one, both ends."""
    return _QUOTES.repr(text)


def _parse(text: str) -> ast.expr:
    if not isinstance(text, str) or not text:
        raise InvalidParameterError(
            f"'formula' must be text such as '(3*K-2*G)/(6*K+2*G)'. Got {quoted(text)}."
        )
    if len(text) > _MAX_LENGTH:
        raise InvalidParameterError(
            f"'formula' must have at most {_MAX_LENGTH} characters. Got {len(text)}; split it into several."
        )
    try:
        # Parsed, not compiled: no part of the tree is ever run by Python.
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise InvalidParameterError(_where(text, error)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidParameterError(f"'formula' {quoted(text)} is not readable: {error}.") from error


def _where(text: str, error: SyntaxError) -> str:
    """Return what Python's parser says, and at which character."""
    place = f" at character {error.offset}" if error.offset else ""
    return f"'formula' {quoted(text)} is not arithmetic{place}: {error.msg}."


def _check(tree: ast.expr, text: str) -> None:
    """Raise InvalidParameterError for the first node that is not arithmetic, one level after the other."""
    level: list[ast.expr] = [tree]
    for _ in range(_MAX_DEPTH):
        level = [child for node in level for child in _operands(node, text)]
        if not level:
            return
    raise InvalidParameterError(
        f"'formula' is nested more than {_MAX_DEPTH} deep: {quoted(text)}. Split it into several."
    )


def _operands(node: ast.expr, text: str) -> list[ast.expr]:
    """Return the operands of an allowed node; raise InvalidParameterError for any other one."""
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as value) if _is_finite(value):
            return []
        case ast.Name():
            return []
        case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
            return [node.operand]
        case ast.BinOp(op=ast.BitXor()):
            _refuse(text, node, "holds ^, which is no power; write ** for one")
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return [node.left, node.right]
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            return _arguments(node, name, text)
        case ast.Call(func=ast.Name(id=name)):
            _refuse(text, node, f"calls what it cannot: {suggest(name, FUNCTIONS, what='function')[:-1]}")
    _refuse(text, node, f"is none of what a formula may hold: {_ALLOWED}")


def _arguments(node: ast.Call, name: str, text: str) -> list[ast.expr]:
    n_arguments = FUNCTIONS[name][1]
    if node.keywords or len(node.args) != n_arguments:
        _refuse(text, node, f"must call {name} with {n_arguments} argument{'s' * (n_arguments > 1)}")
    return node.args


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond all floats
        return False


def _refuse(text: str, node: ast.expr, why: str) -> NoReturn:
    """Raise InvalidParameterError that quotes a part of the formula."""
    # Offsets count bytes, and names may hold letters of more.
    before = text.encode()[: node.col_offset].decode(errors="ignore")
    what = ast.get_source_segment(text, node)
    raise InvalidParameterError(
        f"'formula' {quoted(text)}: {quoted(what)}, at character {len(before) + 1}, {why}."
    )


def _evaluate(node: ast.expr, values: Mapping[str, ArrayLike]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value):
            return np.float64(value)  # as a Python int, a tower of powers would never end
        case ast.Name(id=name):
            return np.asarray(values[name], dtype=float)
        case ast.UnaryOp():
            return _OPERATORS[type(node.op)](_evaluate(node.operand, values))
        case ast.BinOp():
            return _OPERATORS[type(node.op)](_evaluate(node.left, values), _evaluate(node.right, values))
        case ast.Call(func=ast.Name(id=name)):
            return FUNCTIONS[name][0](*(_evaluate(one, values) for one in node.args))
    raise AssertionError(f"{ast.dump(node)} passed the check")  # pragma: no cover
