"""A card is strict: what it does not know, lacks or mistypes is an error that names the field."""

import json
from dataclasses import fields

import numpy as np
import pytest

from matmosaic.exceptions import InvalidParameterError, ModuleFormatError
from matmosaic.modules import ModuleCard
from matmosaic.modules._card_schema import OPTIONAL, SCHEMA_FILE, card_schema, schema_text


@pytest.fixture
def card(module):
    return module.card


def changed(card, **values):
    return {**card.to_dict(), **values}


def test_json_round_trip(card):
    again = ModuleCard.from_json(card.to_json())
    assert again == card
    assert hash(again) == hash(card)
    assert again.to_json() == card.to_json()
    assert ModuleCard.from_json(card.to_json().encode()) == card


def test_each_field_has_a_line_of_its_own(card):
    lines = card.to_json().splitlines()
    assert len(lines) == len(fields(ModuleCard)) + 2 - len(OPTIONAL)


def test_constructor_copies_and_takes_numpy(card):
    options = {"width": np.int64(4), "shape": (1, 2)}
    made = ModuleCard(name="x", backbone="b", backbone_options=options, graph={}, target="t", unit="u")
    options["width"] = 5
    assert made.backbone_options == {"width": 4, "shape": [1, 2]}
    assert type(made.backbone_options["width"]) is int


def test_dict_may_be_changed_freely(card):
    card.to_dict()["graph"]["cutoff"] = 1.0
    assert card.graph["cutoff"] == 8.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"targt": "x"}, r"Unknown field 'targt'\. Did you mean 'target'\?"),
        ({"n_train": "many"}, r"field 'n_train': expected integer or null, got 'many'"),
        ({"n_train": True}, r"field 'n_train': expected integer or null, got True"),
        ({"n_train": -1}, r"field 'n_train': expected a number >= 0"),
        ({"unit": None}, r"field 'unit': expected string, got None"),
        ({"kind": "ful"}, r"field 'kind': Unknown value 'ful'\. Did you mean 'full'\?"),
        ({"sha256": "abc"}, r"field 'sha256': expected text matching"),
        ({"dataset": {"name": "x"}}, r"field 'dataset' lacks the fields \['doi'\]"),
        ({"atom_table": {"name": "x", "sha256": 3}}, r"field 'atom_table.sha256': expected string, got 3"),
        (
            {"metrics": [{"name": "MAE", "value": "low", "unit": "eV", "split": "test"}]},
            r"metrics\[0\].value",
        ),
        ({"format_version": 2}, r"'format_version' is 2, .* reads version 1; upgrade matmosaic"),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else None,
)
def test_broken_card_is_refused(card, values, message):
    with pytest.raises(ModuleFormatError, match=message):
        ModuleCard.from_dict(changed(card, **values))


def test_std_must_be_positive(card):
    transform = {**card.target_transform, "std": 0.0}
    with pytest.raises(ModuleFormatError, match=r"'target_transform.std': expected a number > 0"):
        ModuleCard.from_dict(changed(card, target_transform=transform))


HASHES = {"scheme": "distances/1", "complete": True, "structures": "01f" * 8, "compositions": "2e" * 6}


@pytest.mark.parametrize("field", [[], ["1f", "2e"], HASHES], ids=["none", "version 0.1", "hashes"])
def test_fingerprints(card, field):
    made = ModuleCard.from_dict(changed(card, fingerprints=field))
    assert ModuleCard.from_json(made.to_json()) == made
    assert made.fingerprints == field


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("1f", "field 'fingerprints': expected array or object"),
        ([1], r"field 'fingerprints\[0\]': expected string"),
        ({**HASHES, "structures": ["1f"]}, "field 'fingerprints.structures': expected string"),
        ({**HASHES, "structures": "1f"}, "field 'fingerprints.structures': expected text matching"),
        ({**HASHES, "salt": "x"}, "Unknown field 'salt'"),
        ({"scheme": "distances/1"}, "lacks the fields"),
    ],
    ids=["text", "number", "list", "half a hash", "unknown field", "missing fields"],
)
def test_broken_fingerprints_are_refused(card, field, message):
    with pytest.raises(ModuleFormatError, match=message):
        ModuleCard.from_dict(changed(card, fingerprints=field))


PROPERTIES = [
    {
        "name": name,
        "unit": unit,
        "target_transform": {"name": "identity", "mean": mean, "std": 2.0, "right_skewed": False},
    }
    for name, unit, mean in [("volume", "angstrom^3/atom", 10.0), ("bulk modulus", "GPa", 100.0)]
]


def test_several_properties(card):
    several = ModuleCard.from_dict(changed(card, properties=PROPERTIES))
    assert several.outputs == several.properties == PROPERTIES
    assert ModuleCard.from_json(several.to_json()) == several
    several.outputs[0]["target_transform"]["mean"] = 0.0
    assert several.outputs == PROPERTIES


def test_one_property_is_written_as_ever(card):
    assert "properties" not in card.to_dict()
    assert card.outputs == [
        {"name": card.target, "unit": card.unit, "target_transform": card.target_transform}
    ]


@pytest.mark.parametrize(
    ("properties", "values", "message"),
    [
        ([PROPERTIES[0], PROPERTIES[0]], {}, r"all 'properties' need names, all different"),
        ([{**PROPERTIES[0], "name": ""}], {}, r"all 'properties' need names, all different"),
        ([{**PROPERTIES[0], "mean": 1.0}], {}, r"field 'properties\[0\]': Unknown field 'mean'"),
        ([{"name": "volume", "unit": "1"}], {}, r"lacks the fields \['target_transform'\]"),
        (PROPERTIES, {"head": None}, "'head' must describe heads of one output each. Got None"),
        (PROPERTIES, {"head": {"n_in": 4, "n_out": 2}}, "'head' must describe heads of one output each"),
    ],
    ids=["same name", "no name", "unknown field", "missing field", "no head", "wide head"],
)
def test_properties_that_make_no_sense(card, properties, values, message):
    with pytest.raises(ModuleFormatError, match=message):
        ModuleCard.from_dict(changed(card, properties=properties, **values))


def test_missing_field_is_named(card):
    values = card.to_dict()
    del values["license_weights"]
    with pytest.raises(ModuleFormatError, match=r"lacks the fields \['license_weights'\]"):
        ModuleCard.from_dict(values)


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2]", '{"name": "a", "name": "b"}', "not json", '"text"', b"\xff\xfe\x00"],
    ids=["empty", "array", "repeated field", "no JSON", "string", "no UTF-8"],
)
def test_unreadable_text_is_refused_naming_its_source(text):
    with pytest.raises(ModuleFormatError, match="here/card.json"):
        ModuleCard.from_json(text, source="here/card.json")


@pytest.mark.parametrize("depth", [900, 200_000], ids=["can be parsed", "cannot be parsed"])
def test_deep_nesting_is_refused(card, depth):
    text = card.to_json().replace('"references": []', f'"references": {"[" * depth}{"]" * depth}')
    with pytest.raises(ModuleFormatError, match=r"here/card\.json is not readable JSON"):
        ModuleCard.from_json(text, source="here/card.json")


def test_nan_is_refused(card):
    text = card.to_json().replace('"mean": -1.5', '"mean": NaN')
    with pytest.raises(ModuleFormatError, match="NaN"):
        ModuleCard.from_json(text)
    with pytest.raises(ModuleFormatError, match="expected number, got nan"):
        ModuleCard.from_dict(
            changed(card, metrics=[{"name": "MAE", "value": float("nan"), "unit": "", "split": ""}])
        )


def test_unsafe_name_is_refused(card):
    with pytest.raises((ModuleFormatError, InvalidParameterError), match="name"):
        ModuleCard.from_dict(changed(card, name="../up"))
    with pytest.raises(InvalidParameterError, match="Windows"):
        ModuleCard.from_dict(changed(card, name="nul"))


def test_schema_file_is_up_to_date():
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), (
        'python -c "from matmosaic.modules import _card_schema; _card_schema.write_schema()"'
    )


def test_schema_has_the_fields_of_the_card():
    names = [field.name for field in fields(ModuleCard)]
    assert list(card_schema()["properties"]) == names
    assert card_schema()["required"] == [name for name in names if name not in OPTIONAL]


def test_card_text_is_plain_json(card):
    assert json.loads(card.to_json()) == card.to_dict()
