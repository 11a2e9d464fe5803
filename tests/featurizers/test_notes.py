"""Reasons for gaps are told by row, wherever and whenever the row was computed."""

import os

import numpy as np
import pytest

from matmosaic.exceptions import UndefinedFeaturesWarning
from matmosaic.featurizers import Featurizer, cache, explain_gap
from matmosaic.featurizers.notes import collect_gaps


class Gappy(Featurizer):
    """Lacks one feature of some crystals, and says why."""

    def __init__(self, *, n_jobs=None, memory=None):
        self.n_jobs = n_jobs
        self.memory = memory

    def featurize(self, structure):
        if len(structure) > 1:
            for _ in range(2):
                explain_gap(f"No radius of\n{structure[0].specie}")
            return [float(os.getpid()), np.nan]
        return [float(os.getpid()), 1.0]

    def get_feature_names_out(self, input_features=None):
        return np.array(["process", "radius (angstrom)"], dtype=object)


EXPECTED = (
    r"2 lack some: X\[1\] \(NaCl\), X\[2\] \(CsCl\); 'radius \(angstrom\)' of 2. Reasons, .*: "
    r"No radius of Na \(1\); No radius of Cs \(1\). Put a SimpleImputer"
)


def transform(X, **parameters):
    with pytest.warns(UndefinedFeaturesWarning, match=EXPECTED):
        return Gappy(**parameters).transform(X)


def test_reasons_are_told_with_their_rows(Cu, NaCl, CsCl, caplog):
    caplog.set_level("INFO", logger="matmosaic")
    transform([Cu, NaCl, CsCl])
    assert caplog.messages == ["Gappy: No radius of Na: X[1] (NaCl)", "Gappy: No radius of Cs: X[2] (CsCl)"]


def test_frequent_reasons_come_first(Cu, NaCl, CsCl):
    X = [NaCl, CsCl, CsCl.copy()]
    with pytest.warns(UndefinedFeaturesWarning, match=r"No radius of Cs \(2\); No radius of Na \(1\)"):
        Gappy().transform(X)


def test_reasons_are_kept_with_the_features(Cu, NaCl, CsCl, tmp_path):
    for _ in range(2):
        transform([Cu, NaCl, CsCl], memory=tmp_path)
    cache.PROCESS_CACHE.clear()
    transform([Cu, NaCl, CsCl], memory=tmp_path)


@pytest.mark.usefixtures("_eager")
def test_reasons_of_other_processes_arrive(Cu, NaCl, CsCl):
    X = [Cu, NaCl, CsCl, Cu.copy().scale_lattice(50.0), Cu.copy().scale_lattice(52.0)]
    features = transform(X, n_jobs=2)
    assert len(set(features[:, 0])) > 1


def test_many_reasons_are_left_to_the_log(Cu, NaCl, CsCl):
    X = [NaCl.copy() for _ in range(5)]
    for crystal, element in zip(X, ["Li", "Na", "K", "Rb", "Cs"], strict=True):
        crystal.replace_species({"Na": element})
    with pytest.warns(UndefinedFeaturesWarning, match=r"of K \(1\); and 2 more, in the log \(level INFO\)"):
        Gappy().transform(X)


def test_reasons_outside_of_a_transform_are_not_kept():
    explain_gap("nobody asks")
    with collect_gaps() as reasons:
        explain_gap("  ")
    assert reasons == []
