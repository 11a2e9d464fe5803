"""What tells featurizers apart: parameters as text, and the code of classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b
from types import CodeType
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import joblib

from matmosaic.exceptions import InvalidParameterError

_NAMELESS = ("<lambda>", "<locals>")
_tokens: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def describe_parameter(value: Any) -> str:
    """Return a text that equal values share, in every process, and unequal ones do not.

    Parameters
    ----------
    value : object
        Value of a constructor's parameter.

    Returns
    -------
    str
        Readable for numbers, text and collections of them; a hash of the content for other objects.

    Raises
    ------
    InvalidParameterError
        If it has no lasting name or content, such as a lambda or an open file.
    """
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes():
            return repr(value)
        case os.PathLike():
            return repr(os.fspath(value))
        case list() | tuple():
            return f"[{', '.join(map(describe_parameter, value))}]"
        case set() | frozenset():
            return f"{{{', '.join(sorted(map(describe_parameter, value)))}}}"
        case dict():
            items = (f"{describe_parameter(key)}: {describe_parameter(one)}" for key, one in value.items())
            return f"{{{', '.join(sorted(items))}}}"
    if hasattr(value, "__qualname__"):
        return _describe_named(value)
    return _describe_object(value)


def _describe_named(value: Any) -> str:
    """Name a class or function."""
    if any(sign in value.__qualname__ for sign in _NAMELESS):
        raise _nameless(value, "define it at the top of a module")
    return f"{value.__module__}.{value.__qualname__}"


def _describe_object(value: Any) -> str:
    identity = getattr(value, "identity", None)
    if callable(identity):
        return str(identity())
    try:
        return f"{type(value).__qualname__}:{joblib.hash(value)}"
    except Exception as error:  # whatever an object's pickling raises
        raise _nameless(value, "pass numbers or text") from error


def _nameless(value: Any, remedy: str) -> InvalidParameterError:
    return InvalidParameterError(
        f"Features are kept by the parameters of their featurizer, and {value!r} cannot be told from others "
        f"of its kind; {remedy}, or override identity()."
    )


def describe_code(cls: type, *, below: type) -> str:
    """Return a digest of the code of a class, which changes when an author edits it.

    In a notebook a class is written anew under the same name and version; what its predecessor computed must
    not be taken for its own. Helper functions outside the class are not looked at.

    Parameters
    ----------
    cls : type
        The class.
    below : type
        The base at which to stop.

    Returns
    -------
    str
        Differs between versions of Python.
    """
    digest = blake2b(digest_size=8)
    if "<locals>" in cls.__qualname__:  # may depend on variables of the function that made it
        digest.update(_tokens.setdefault(cls, uuid4().hex).encode())
    for base in cls.__mro__[: cls.__mro__.index(below)]:
        for name, member in sorted(vars(base).items()):
            for text in _describe_member(member):
                digest.update(f"{name}={text};".encode())
    return digest.hexdigest()


def _describe_member(member: Any) -> Iterator[str]:
    """Describe functions, also inside of wrappers, and constants of a class; leave out all else."""
    if isinstance(member, bool | int | float | str | tuple):
        yield repr(member)
    for name in ("__func__", "fget", "__wrapped__"):
        if hasattr(member, name):
            yield from _describe_member(getattr(member, name))
    code = getattr(member, "__code__", None)
    if isinstance(code, CodeType):
        yield _describe_bytecode(code)


def _describe_bytecode(code: CodeType) -> str:
    constants = [
        _describe_bytecode(one)
        if isinstance(one, CodeType)
        else str(sorted(map(repr, one)))  # the order of a set of texts differs between processes
        if isinstance(one, frozenset)
        else repr(one)
        for one in code.co_consts
    ]
    return f"{code.co_code.hex()}{code.co_names}{code.co_varnames}{code.co_freevars}{constants}"
