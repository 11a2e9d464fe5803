"""What listings show, and filters on it."""

from dataclasses import replace

import pytest

from matmosaic.exceptions import UnknownNameError
from matmosaic.modules import ModuleSummary


@pytest.fixture
def summary(module):
    card = replace(
        module.card,
        target="formation_energy",
        unit="eV/atom",
        license_weights="CC-BY-4.0",
        base="ab12" * 16,
        metrics=[{"name": "MAE", "value": 0.5, "unit": "eV/atom", "split": "test"}],
    )
    return ModuleSummary.of(card)


def test_facts_of_a_card(summary, module):
    assert (summary.name, summary.version) == (module.card.name, module.card.version)
    assert summary.outputs == (("formation_energy", "eV/atom"),)
    assert summary.mae == 0.5
    assert ModuleSummary.of(module.card).mae is None


def test_properties_of_several(module):
    transform = module.card.target_transform
    names = {"mass": "u", "size": "angstrom"}
    properties = [{"name": key, "unit": unit, "target_transform": transform} for key, unit in names.items()]
    fields = {
        **module.card.to_dict(),
        "target": "mass, size",
        "unit": "u, angstrom",
        "properties": properties,
    }
    summary = ModuleSummary.from_fields(fields)
    assert summary.outputs == tuple(names.items())
    assert summary.matches("property", "size")
    assert summary.matches("unit", "u")
    assert not summary.matches("property", "mass, size")


@pytest.mark.parametrize(
    ("key", "pattern", "answer"),
    [
        ("property", "Formation Energy", True),
        ("property", "formation-energy", True),
        ("property", "formation", False),
        ("property", "form*", True),
        ("property", "[e-g]ormation*", True),
        ("property", "[g-h]ormation*", False),
        ("unit", "ev/atom", True),
        ("unit", "eV", False),
        ("license", "cc-by-*", True),
        ("license", "mit", False),
        ("kind", "full", True),
        ("base", "ab12", True),
        ("base", "b12", False),
    ],
)
def test_filters(summary, key, pattern, answer):
    assert summary.matches(key, pattern) is answer


def test_what_is_not_known_matches_nothing(module):
    assert not ModuleSummary.of(replace(module.card, base=None)).matches("base", "*")


def test_unknown_filter_gets_a_suggestion(summary):
    with pytest.raises(UnknownNameError, match="Unknown filter 'propety'. Did you mean 'property'"):
        summary.matches("propety", "x")
