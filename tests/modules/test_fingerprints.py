"""Hashes of training structures: of sets, in order, joined, and on cards."""

from dataclasses import replace

import pytest

from matmosaic import PretrainedModule
from matmosaic.datasets import load_alloys
from matmosaic.exceptions import InvalidStructuresError
from matmosaic.modules import TrainingFingerprints, list_modules
from matmosaic.modules.references import read_card


def test_of_structures(NaCl, Cu):
    seen = TrainingFingerprints.of([NaCl, Cu, NaCl * (1, 1, 2), Cu.as_dict()])
    assert (len(seen.structures), len(seen.compositions), seen.complete) == (2, 2, True)
    assert seen == TrainingFingerprints.of([Cu, NaCl])
    assert not TrainingFingerprints.of([Cu], complete=False).complete


def test_unusable_row_is_named(NaCl):
    with pytest.raises(InvalidStructuresError, match=r"X\[1\]"):
        TrainingFingerprints.of([NaCl, NaCl.copy().replace_species({"Na": {"Na": 0.5, "K": 0.5}})])


def test_field_round_trip(NaCl, Cu):
    seen = TrainingFingerprints.of([NaCl, Cu], complete=False)
    field = seen.to_field()
    assert TrainingFingerprints.from_field(field) == seen
    assert {name: len(field[name]) for name in ("structures", "compositions")} == {
        "structures": 24,
        "compositions": 24,
    }
    assert field == TrainingFingerprints.of([Cu, NaCl], complete=False).to_field()


@pytest.mark.parametrize("field", [[], ["1f", "2e"], {"scheme": "distances/2", "structures": "x"}])
def test_field_of_another_kind(field):
    assert TrainingFingerprints.from_field(field) is None


def test_nothing_is_no_field():
    assert TrainingFingerprints().to_field() == []


def test_joined(NaCl, Cu, Si):
    first, second = TrainingFingerprints.of([NaCl, Cu]), TrainingFingerprints.of([Cu, Si])
    assert TrainingFingerprints.joined([first, second]) == TrainingFingerprints.of([NaCl, Cu, Si])
    assert TrainingFingerprints.joined([first, None]) == replace(first, complete=False)
    assert TrainingFingerprints.joined([first, replace(second, complete=False)]).complete is False
    assert TrainingFingerprints.joined([]) == TrainingFingerprints()


def test_each_structure_is_hashed_once(NaCl, Cu, monkeypatch):
    TrainingFingerprints.of([NaCl, Cu])
    monkeypatch.setattr("matmosaic.modules.fingerprints.structure_fingerprint", None)
    assert len(TrainingFingerprints.of([Cu.copy(), NaCl]).structures) == 2


def test_module_with_fingerprints(module, NaCl, Cu, tmp_path):
    made = module.with_fingerprints([NaCl], complete=False)
    assert TrainingFingerprints.on(made.card) == TrainingFingerprints.of([NaCl], complete=False)
    made = made.with_fingerprints([Cu * (2, 1, 1)])
    assert TrainingFingerprints.on(made.card) == TrainingFingerprints.of([NaCl, Cu])
    assert replace(made.card, fingerprints=module.card.fingerprints) == module.card
    made.save(tmp_path / "made")
    assert PretrainedModule.load(tmp_path / "made") == made


def test_old_hashes_are_replaced(module, NaCl):
    old = PretrainedModule(replace(module.card, fingerprints=["e8cb1d1e10e0"]), module.weights)
    assert TrainingFingerprints.on(old.card) is None
    made = old.with_fingerprints([NaCl])
    assert made.card.fingerprints == TrainingFingerprints.of([NaCl]).to_field()


def test_bundled_modules_name_what_they_have_seen():
    seen = TrainingFingerprints.of(load_alloys().data)
    cards = [read_card(reference) for reference in list_modules("bundled:*")]
    assert [TrainingFingerprints.on(card) == seen for card in cards] == [True] * len(cards)
