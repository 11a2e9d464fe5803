"""The JSON schema of a module card, from which ``card.schema.json`` is generated.

Regenerate the file with
``python -c "from matmosaic.modules import _card_schema; _card_schema.write_schema()"``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matmosaic.modules.names import NAME_PATTERN
from matmosaic.modules.transforms import TRANSFORMS

#: Version of the module format that this version of matmosaic reads and writes.
FORMAT_VERSION = 1

#: The generated file.
SCHEMA_FILE = Path(__file__).with_name("card.schema.json")


def _record(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with exactly these fields."""
    names = list(properties)
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def _array(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_OBJECT = {"type": "object"}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_CRYSTAL = _record(
    lattice=_array(_array(_NUMBER)), species=_array(_TEXT), frac_coords=_array(_array(_NUMBER))
)

_CARD = _record(
    name={"type": "string", "pattern": NAME_PATTERN},
    version=_TEXT,
    backbone=_TEXT,
    backbone_options=_OBJECT,
    graph=_OBJECT,
    atom_table=_nullable(_record(name=_TEXT, sha256=_SHA256)),
    kind={"type": "string", "enum": ["adapter", "full"]},
    base=_nullable(_SHA256),
    head=_nullable(_OBJECT),
    target=_TEXT,
    unit=_TEXT,
    target_transform=_record(
        name={"type": "string", "enum": sorted(TRANSFORMS)},
        mean=_NUMBER,
        std={"type": "number", "exclusiveMinimum": 0},
        right_skewed={"type": "boolean"},
    ),
    n_train=_nullable({"type": "integer", "minimum": 0}),
    dataset=_record(name=_nullable(_TEXT), doi=_nullable(_TEXT)),
    metrics=_array(_record(name=_TEXT, value=_NUMBER, unit=_TEXT, split=_TEXT)),
    license_code=_nullable(_TEXT),
    license_weights=_nullable(_TEXT),
    references=_array(_TEXT),
    sha256=_nullable(_SHA256),
    format_version={"type": "integer", "const": FORMAT_VERSION},
    golden=_array(_record(structure=_CRYSTAL, features=_array(_NUMBER), prediction=_nullable(_NUMBER))),
    fingerprints=_array(_TEXT),
    created_with=_TEXT,
)


def card_schema() -> dict[str, Any]:
    """Return the JSON schema of a card, the content of ``card.schema.json``.

    Returns
    -------
    dict
        JSON schema (draft 2020-12).
    """
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": "matmosaic module card", **_CARD}


def schema_text() -> str:
    """Return the text of ``card.schema.json``."""
    return json.dumps(card_schema(), indent=2) + "\n"


def write_schema() -> None:
    """Write ``card.schema.json``."""
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8", newline="\n")
