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
from matmosaic.structures.fingerprints import LENGTH

#: Version of the module format that this version of matmosaic reads and writes.
FORMAT_VERSION = 1

#: The generated file.
SCHEMA_FILE = Path(__file__).with_name("card.schema.json")


#: Fields that a card may leave out: those of the few modules that need them.
OPTIONAL = ("properties", "adapter", "base_reference", "sources")


def record(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with these fields and no others; all but OPTIONAL must be there."""
    required = [name for name in properties if name not in OPTIONAL]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def array(items: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an array of such items."""
    return {"type": "array", "items": items}


def nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that takes null as well."""
    return {**schema, "type": [schema["type"], "null"]}


TEXT = {"type": "string"}
NUMBER = {"type": "number"}
OBJECT = {"type": "object"}
SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
# Of one module of a store by its name: whoever reads a card must be led to no address or path that it names.
_PART = NAME_PATTERN.strip("^$")
STORE_REFERENCE = {"type": "string", "pattern": rf"^([A-Za-z][A-Za-z0-9_.-]+:{_PART}(@{_PART})?)?$(?!\n)"}
_CRYSTAL = record(lattice=array(array(NUMBER)), species=array(TEXT), frac_coords=array(array(NUMBER)))

# One after the other in one text: cards of 10^5 structures are read at once.
_HASHES = {"type": "string", "pattern": f"^([0-9a-f]{{{LENGTH}}})*$"}
_FINGERPRINTS = record(scheme=TEXT, complete={"type": "boolean"}, structures=_HASHES, compositions=_HASHES)
#: A list of hashes, or an empty one, is what cards without such fingerprints have.
FINGERPRINTS = {**array(TEXT), **_FINGERPRINTS, "type": ["array", "object"]}

# A number per property where there are several.
_PREDICTION = {"type": ["number", "array", "null"], "items": NUMBER}
_TRANSFORM = record(
    name={"type": "string", "enum": sorted(TRANSFORMS)},
    mean=NUMBER,
    std={"type": "number", "exclusiveMinimum": 0},
    right_skewed={"type": "boolean"},
)

_CARD = record(
    name={"type": "string", "pattern": NAME_PATTERN},
    version=TEXT,
    backbone=TEXT,
    backbone_options=OBJECT,
    graph=OBJECT,
    atom_table=nullable(record(name=TEXT, sha256=SHA256)),
    kind={"type": "string", "enum": ["adapter", "full"]},
    base=nullable(SHA256),
    base_reference=STORE_REFERENCE,
    adapter=record(reduction={"type": "integer", "minimum": 1}),
    head=nullable(OBJECT),
    target=TEXT,
    unit=TEXT,
    target_transform=_TRANSFORM,
    properties=array(record(name=TEXT, unit=TEXT, target_transform=_TRANSFORM)),
    n_train=nullable({"type": "integer", "minimum": 0}),
    dataset=record(name=nullable(TEXT), doi=nullable(TEXT)),
    metrics=array(record(name=TEXT, value=NUMBER, unit=TEXT, split=TEXT)),
    license_code=nullable(TEXT),
    license_weights=nullable(TEXT),
    references=array(TEXT),
    sources=array(
        record(
            name=TEXT,
            version=TEXT,
            sha256=SHA256,
            weight={"type": "number", "minimum": 0, "maximum": 1},
            license_weights=nullable(TEXT),
        )
    ),
    sha256=nullable(SHA256),
    format_version={"type": "integer", "const": FORMAT_VERSION},
    golden=array(record(structure=_CRYSTAL, features=array(NUMBER), prediction=_PREDICTION)),
    fingerprints=FINGERPRINTS,
    created_with=TEXT,
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
