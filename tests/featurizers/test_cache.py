"""Features are kept by all that they depend on."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from pymatgen.core import Molecule

from matmosaic.exceptions import InvalidParameterError, StoreError, UndefinedFeaturesWarning
from matmosaic.featurizers import Featurizer
from matmosaic.featurizers.cache import PROCESS_CACHE, DiskCache, Features, structure_key

TRANSFORM = """
import sys
from pymatgen.core import Lattice, Structure
from matmosaic import Featurizer

calls = []

class Volume(Featurizer):
    def __init__(self, memory):
        self.memory = memory
    def featurize(self, structure):
        assert structure[0].specie.symbol in {"Po", "At", "Ra"}  # compiled to a set, of any order
        calls.append(structure)
        return [structure.volume]
    def get_feature_names_out(self, input_features=None):
        return ["volume (angstrom^3)"]

first, last, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
for i in range(first, last):
    Volume(folder).transform([Structure(Lattice.cubic(3 + 0.01 * i), ["Po"], [[0, 0, 0]])])
print(len(calls))
"""


def start(first, last, folder):
    command = [sys.executable, "-c", TRANSFORM, str(first), str(last), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_a_folder(tmp_path):
    both = [start(0, 30, tmp_path), start(10, 40, tmp_path)]
    counts = [int(process.communicate()[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert 40 <= sum(counts) <= 60
    with closing(sqlite3.connect(tmp_path / "matmosaic-features.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM features").fetchall() == [(40,)]


def test_folder_serves_after_the_memory(density, counted, labelled, tmp_path):
    X, _ = labelled
    expected = density(memory=tmp_path).transform(X)
    PROCESS_CACHE.clear()
    np.testing.assert_array_equal(density(memory=str(tmp_path)).transform(X), expected)
    assert len(counted) == 30
    assert [file.name for file in tmp_path.iterdir()] == ["matmosaic-features.sqlite"]


def test_damaged_folder_says_what_to_do(density, Cu, tmp_path):
    (tmp_path / "matmosaic-features.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="matmosaic-features.sqlite cannot be used: .* delete it"):
        density(memory=tmp_path).transform([Cu])


@pytest.mark.parametrize("memory", ["", 3, b"folder"])
def test_what_is_no_folder(memory, density, Cu, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match=f"'memory' must be None, a folder .* Got .*: {memory!r}"):
        density(memory=memory).transform([Cu])
    assert not any(tmp_path.iterdir())


def test_failures_are_kept_for_this_process_alone(density, counted, Cu, tmp_path, monkeypatch):
    def fail(self, structure):
        counted.append(structure)
        raise RuntimeError("the table was not there")

    monkeypatch.setattr(density, "featurize", fail)
    for _ in range(2):
        with pytest.warns(UndefinedFeaturesWarning, match="the table was not there"):
            density(memory=tmp_path).transform([Cu])
    assert len(counted) == 1
    PROCESS_CACHE.clear()
    with pytest.warns(UndefinedFeaturesWarning, match="the table was not there"):
        density(memory=tmp_path).transform([Cu])
    assert len(counted) == 2


def test_undefined_features_are_kept(tmp_path):
    DiskCache(tmp_path).put({"a": Features(np.array([1.0, np.nan]))})
    (found,) = DiskCache(tmp_path).get(["a"]).values()
    np.testing.assert_array_equal(found.values, [1, np.nan])
    assert found.failure == ""


def test_memory_is_limited(density, counted, labelled, monkeypatch):
    monkeypatch.setattr(PROCESS_CACHE, "limit", 0)
    X, _ = labelled
    np.testing.assert_array_equal(density().transform(X), density().transform(X))
    assert len(counted) == 60


# --- what a featurizer may see of a structure ---------------------------------------------------------


def changed(structure, change):
    structure = structure.copy()
    change(structure)
    return structure


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.add_oxidation_state_by_element({"Na": 1, "Cl": -1}),
        lambda one: one.add_spin_by_element({"Na": 1, "Cl": 0}),
        lambda one: one.add_site_property("magmom", [0.5] * 8),
        lambda one: one.properties.update(pressure=1.0),
        lambda one: one.set_charge(1),
        lambda one: one.replace(0, "K"),
        lambda one: one.translate_sites([0], [0.01, 0, 0]),
    ],
    ids=["oxidation", "spin", "site property", "property", "charge", "element", "place"],
)
def test_key_tells_structures_apart(change, NaCl):
    other = changed(NaCl, change)
    assert structure_key(other) != structure_key(NaCl)
    assert structure_key(other) == structure_key(changed(NaCl, change)) == structure_key(other.copy())


def test_isotopes_are_told_apart():
    keys = {structure_key(Molecule([name, "O"], [[0, 0, 0], [0, 0, 1]])) for name in ("H", "D", "T")}
    assert len(keys) == 3


def test_labels_do_not_count(NaCl):
    other = NaCl.copy()
    other.relabel_sites()
    assert structure_key(other) == structure_key(NaCl)


def test_another_width_is_no_mistake(Cu):
    def make(width):
        return type(
            "Ones",
            (Featurizer,),
            {
                "featurize": lambda self, structure: np.ones(width),
                "get_feature_names_out": lambda self, input_features=None: [f"f{i}" for i in range(width)],
            },
        )()

    assert [make(width).transform([Cu]).shape for width in (2, 3)] == [(1, 2), (1, 3)]
