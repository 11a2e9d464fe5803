"""What tells featurizers apart: parameters as text, and the code of classes."""

from __future__ import annotations

import functools
import os
from hashlib import blake2b
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
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
    not be taken for its own. What lies outside of the class is not looked at: helper functions, constants of
    the module, decorators. An attribute of the class that changes while features are computed, such as a list
    of calls, has them computed again; one without lasting content, such as a lock, in every process.

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
        digest.update(_token(cls))
    for base in cls.__mro__[: cls.__mro__.index(below)]:
        for name, member in sorted(vars(base).items()):
            if _is_written_by_authors(name, member):
                digest.update(_describe_or_mark(cls, name, member))
    return digest.hexdigest()


def _token(cls: type) -> bytes:
    """Return what no other class has, nor this one in another process."""
    return _tokens.setdefault(cls, uuid4().hex).encode()


def _is_written_by_authors(name: str, member: Any) -> bool:
    """Leave out what Python sets in each class, such as the number of its line in the file."""
    special = name == "_abc_impl" or (name.startswith("__") and not isinstance(member, FunctionType))
    return not special and not isinstance(member, MemberDescriptorType | GetSetDescriptorType)


def _describe_or_mark(cls: type, name: str, member: Any) -> bytes:
    try:
        return f"{name}={_describe_member(member)};".encode()
    except Exception:  # whatever pickling raises, or an object that holds itself
        return _token(cls)


def _describe_member(member: Any) -> str:
    """Return the code of a function, also inside of wrappers and collections, or a constant's content."""
    match member:
        case None | bool() | int() | float() | complex() | str() | bytes():
            return repr(member)
        case FunctionType():
            return _describe_function(member)
        case list() | tuple():
            return f"{type(member).__name__}({','.join(map(_describe_member, member))})"
        case set() | frozenset():
            return f"set({','.join(sorted(map(_describe_member, member)))})"
        case dict():
            return f"dict({_describe_member(list(member.items()))})"
        case property():
            return _describe_member([member.fget, member.fset])
        case functools.partial() | functools.partialmethod():
            return _describe_member([member.func, member.args, member.keywords])
    for wrapped in ("__func__", "__wrapped__", "func"):  # of static and class methods, caches, properties
        if isinstance(getattr(member, wrapped, None), FunctionType):
            return f"{type(member).__name__}({_describe_member(getattr(member, wrapped))})"
    return _describe_named(member) if hasattr(member, "__qualname__") else str(joblib.hash(member))


def _describe_function(function: FunctionType) -> str:
    defaults = _describe_member([function.__defaults__, function.__kwdefaults__])
    inner = getattr(function, "__wrapped__", None)
    return f"{_describe_bytecode(function.__code__)}{defaults}{_describe_member(inner)}"


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
