"""An audit finds planted structures in any cell, and says what it cannot know."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

from matmosaic import (
    GraphTable,
    ModuleFeaturizer,
    MoERegressor,
    PretrainedModule,
    ProbeRegressor,
    TransferRegressor,
    load_module,
)
from matmosaic.datasets import load_alloys
from matmosaic.exceptions import (
    InvalidParameterError,
    InvalidStructuresError,
    StructureTypeError,
    UnknownNameError,
)
from matmosaic.inspection import audit_overlap
from matmosaic.modules import TrainingFingerprints

TINY = {"backbone_options": {"width": 4, "n_convolutions": 1}, "max_epochs": 1, "random_state": 0}
N_PLANTED = 100


@pytest.fixture(scope="module")
def alloys():
    structures = load_alloys().data
    return [structures[row] for row in np.random.default_rng(0).permutation(len(structures))[:400]]


@pytest.fixture(scope="module")
def module(alloys):
    return load_module("bundled:emt-eform")


def with_seen(module, structures, *, complete=True):
    bare = PretrainedModule(replace(module.card, fingerprints=[]), module.weights)
    return bare.with_fingerprints(structures, complete=complete)


def rewritten(structure, row, rng):
    """The same crystal with atoms permuted, moved, in another cell, turned, or rounded as in a CIF."""
    other = structure.copy()
    if row % 5 == 0:
        return Structure.from_sites([other[place] for place in rng.permutation(len(other))])
    if row % 5 == 1:
        places = other.frac_coords + rng.random(3)
        return Structure(other.lattice, other.species, places % 1)
    if row % 5 == 2:
        other.make_supercell([[1, 2, 0], [0, 1, 1], [1, 0, 1]])
        return other
    if row % 5 == 3:
        turned = other.lattice.matrix @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        return Structure(Lattice(turned), other.species, other.frac_coords)
    lattice = Lattice.from_parameters(*np.round(other.lattice.parameters, 5))
    return Structure(lattice, other.species, np.round(other.frac_coords, 5))


def test_every_planted_structure_is_found(module, alloys):
    rng = np.random.default_rng(1)
    trained, others = alloys[:200], alloys[200:]
    planted = [rewritten(trained[row], row, rng) for row in range(N_PLANTED)]
    audit = audit_overlap(with_seen(module, trained), [*planted, *others])
    assert audit.seen[:N_PLANTED].all()
    assert not audit.seen[N_PLANTED:].any()  # strained copies of the same crystals among them
    assert audit.by_composition[0, N_PLANTED:].any()
    assert (audit.by_structure <= audit.by_composition).all()


def test_what_is_returned(module, crystals):
    modules = [with_seen(module, crystals[:3]), with_seen(module, crystals[2:4], complete=False)]
    strained = crystals[3].copy().apply_strain(0.02)
    audit = audit_overlap(modules, [crystals[2], strained, crystals[5]])
    assert audit.modules == ("emt-eform", "emt-eform")
    assert audit.by_structure.tolist() == [[True, False, False]] * 2
    assert audit.by_composition.tolist() == [[True, False, False], [True, True, False]]
    assert audit.complete.tolist() == [True, False]
    assert audit.seen.tolist() == [True, False, False]
    counts = audit.counts()
    assert counts.to_dict("list") == {
        "n_rows": [3, 3],
        "by_structure": [1, 1],
        "by_composition": [1, 2],
        "complete": [True, False],
    }
    assert counts.index.name == "module"
    assert audit.counts([1, 2])["by_composition"].tolist() == [0, 1]
    assert str(audit).splitlines() == [
        "emt-eform has probably seen 1 of 3 structures, and the composition of 1.",
        "emt-eform has probably seen at least 1 of 3 structures, and the composition of at least 2.",
    ]


def test_references(module, alloys, tmp_path, monkeypatch):
    module.save(tmp_path / "emt-eform")
    monkeypatch.setattr("matmosaic.modules.module.PretrainedModule.load", None)  # cards alone are read
    audit = audit_overlap(["bundled:emt-*", tmp_path / "emt-eform"], alloys[:3])
    assert audit.modules[0] == "bundled:emt-bulk-modulus"
    assert audit.modules[-1] == str(tmp_path / "emt-eform")
    assert audit.by_structure.all()


def test_cards_fingerprints_and_featurizers(module, alloys):
    given = [module.card, TrainingFingerprints.of(alloys[:2]), ModuleFeaturizer(module)]
    audit = audit_overlap(given, alloys[:4])
    assert audit.modules == ("emt-eform", "TrainingFingerprints", "emt-eform")
    assert audit.by_structure.sum(axis=1).tolist() == [4, 2, 4]


def test_kinds_of_X(module, Cu, NaCl):
    seen = with_seen(module, [NaCl])
    for X in ([Cu, NaCl.as_dict()], pd.Series([Cu, NaCl * 2]), [Cu, NaCl.to(fmt="cif")]):
        assert audit_overlap(seen, X).seen.tolist() == [False, True]
    with pytest.raises(StructureTypeError):
        audit_overlap(seen, NaCl)
    with pytest.raises(InvalidStructuresError, match=r"X\[1\]"):
        audit_overlap(seen, [Cu, NaCl.copy().replace_species({"Na": {"Na": 0.5, "K": 0.5}})])


# --- fitted estimators -------------------------------------------------------------------------------


def test_estimator_has_seen_its_rows_and_those_of_its_module(module, alloys, crystals):
    rows, y = crystals, np.arange(len(crystals), dtype=float)
    scratch = TransferRegressor(**TINY).fit(rows[:5], y[:5], X_val=rows[5:7], y_val=y[5:7])
    audit = audit_overlap(scratch, rows)
    assert audit.modules == ("TransferRegressor",)
    assert audit.seen.tolist() == [True] * 7 + [False]
    tuned = TransferRegressor(module, max_epochs=1, random_state=0, validation_fraction=0)
    tuned.fit(alloys[:10], np.arange(10.0))
    assert audit_overlap(tuned, alloys).seen.all()  # all alloys, by its module


def test_mixture_has_seen_what_its_modules_have(module, alloys):
    modules = [with_seen(module, alloys[:10]), load_module("bundled:emt-volume")]
    modules[1] = with_seen(modules[1], alloys[10:20], complete=False)
    mixture = MoERegressor(modules, max_epochs=1, random_state=0, validation_fraction=0)
    audit = audit_overlap(mixture.fit(alloys[30:40], np.arange(10.0)), alloys[:50])
    assert np.flatnonzero(~audit.seen).tolist() == [*range(20, 30), *range(40, 50)]
    assert not audit.complete[0]


def test_probe_has_seen_what_its_modules_have(module, alloys):
    """Its own rows are not kept, which the audit says."""
    y = np.arange(10.0)
    probe = ProbeRegressor(with_seen(module, alloys[:10]), estimator="ridge").fit(alloys[20:30], y)
    audit = audit_overlap(probe, alloys[:20])
    assert (audit.modules, audit.complete.tolist()) == (("ProbeRegressor",), [False])
    assert np.flatnonzero(audit.seen).tolist() == [*range(10)]


def test_saved_estimator_keeps_what_it_has_seen(crystals, tmp_path):
    scratch = TransferRegressor(**TINY, validation_fraction=0).fit(crystals[:5], np.arange(5.0))
    scratch.save(tmp_path / "model")
    loaded = TransferRegressor.load(tmp_path / "model")
    assert audit_overlap(loaded, crystals).seen.tolist() == [True] * 5 + [False] * 3


# --- what cannot be known ----------------------------------------------------------------------------


@pytest.mark.parametrize("hashes", [[], ["e8cb1d1e10e0"]], ids=["none", "version 0.1"])
def test_card_without_fingerprints(hashes, module, Cu):
    bare = PretrainedModule(replace(module.card, fingerprints=hashes, name="bare"), module.weights)
    with pytest.raises(InvalidParameterError, match=r"'bare'.*matmosaic modules fingerprint.*with_finger"):
        audit_overlap([module, bare], [Cu])


def test_table_leaves_no_fingerprints(crystals):
    table = GraphTable.from_structures(crystals)
    fitted = TransferRegressor(**TINY, validation_fraction=0).fit(table, np.arange(8.0))
    with pytest.raises(InvalidParameterError, match="'TransferRegressor'.*GraphTable"):
        audit_overlap(fitted, crystals)


def test_estimator_that_is_not_fitted(Cu):
    with pytest.raises(NotFittedError):
        audit_overlap(TransferRegressor(), [Cu])


@pytest.mark.parametrize("given", [[], None, 3, Ridge().fit([[0.0], [1.0]], [0, 1])], ids=type)
def test_what_is_no_module(given, Cu):
    with pytest.raises(InvalidParameterError, match="must be a reference, a PretrainedModule, a fitted"):
        audit_overlap(given, [Cu])


def test_unknown_reference(Cu):
    with pytest.raises(UnknownNameError, match="emt-eform"):
        audit_overlap("bundled:emt-efrom", [Cu])
    with pytest.raises(UnknownNameError):
        audit_overlap("bundled:nothing-*", [Cu])
