"""Check JSON values against the few keywords of JSON schema that the module card uses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from matmosaic.exceptions import ModuleFormatError, suggest

Schema = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def check(value: Any, schema: Schema, source: str, path: str = "") -> None:
    """Raise ModuleFormatError if the value breaks the schema.

    Parameters
    ----------
    value : object
        JSON value.
    schema : mapping
        JSON schema of the value.
    source : str
        What the message calls the document.
    path : str, default=""
        Where in the document the value stands, such as ``"metrics[0].value"``.
    """
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(_is_a(value, kind) for kind in kinds):
        raise _violation(source, path, " or ".join(kinds), value)
    if isinstance(value, dict):
        _check_object(value, schema, source, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check(item, schema["items"], source, f"{path}[{index}]")
    elif value is not None:
        _check_scalar(value, schema, source, path)


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind != "boolean":
        return False  # Python counts bool as an int, JSON does not
    if isinstance(value, float) and not math.isfinite(value):
        return False  # JSON has neither NaN nor infinity
    return isinstance(value, _TYPES[kind])


def _check_object(value: dict[str, Any], schema: Schema, source: str, path: str) -> None:
    properties = schema.get("properties", {})
    inside = f"{source}, field {path!r}" if path else source
    if schema.get("additionalProperties", True) is False:
        for name in value:
            if name not in properties:
                raise ModuleFormatError(
                    f"{inside}: {suggest(name, properties, what='field')} Correct or remove it."
                )
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        raise ModuleFormatError(f"{inside} lacks the fields {missing}; add them (null if nothing is known).")
    for name in properties.keys() & value.keys():
        check(value[name], properties[name], source, f"{path}.{name}".lstrip("."))


def _check_scalar(value: Any, schema: Schema, source: str, path: str) -> None:
    if "const" in schema and value != schema["const"]:
        raise _violation(source, path, repr(schema["const"]), value)
    if "enum" in schema and value not in schema["enum"]:
        hint = suggest(str(value), schema["enum"], what="value")
        raise ModuleFormatError(f"{source}, field {path!r}: {hint}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        raise _violation(source, path, f"text matching {schema['pattern']}", value)
    if "minimum" in schema and value < schema["minimum"]:
        raise _violation(source, path, f"a number >= {schema['minimum']}", value)
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        raise _violation(source, path, f"a number > {schema['exclusiveMinimum']}", value)


def _violation(source: str, path: str, expected: str, got: Any) -> ModuleFormatError:
    shown = repr(got) if len(repr(got)) < 80 else repr(got)[:77] + "..."
    what = f"{source}, field {path!r}" if path else source
    return ModuleFormatError(f"{what}: expected {expected}, got {shown}.")
