"""Rows are computed in processes where that pays, and never in processes of processes."""

import os
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from matmosaic.exceptions import (
    InvalidFeaturesError,
    InvalidParameterError,
    UndefinedFeaturesWarning,
    WorkerError,
)
from matmosaic.featurizers import Featurizer, cache, computing
from matmosaic.featurizers.computing import usable_jobs


def make(n_jobs=2):
    """Return a featurizer that tells its process; its class is sent to others whole, for lack of a module."""

    class Process(Featurizer):
        def __init__(self, *, n_jobs=None):
            self.n_jobs = n_jobs

        def featurize(self, structure):
            if structure.composition.reduced_formula == "Cu":
                raise ValueError("no copper")
            width = 2 if structure.composition.reduced_formula == "NaCl" else 3
            return [os.getpid(), float(os.environ.get("OMP_NUM_THREADS", 0)), structure.volume][-width:]

        def get_feature_names_out(self, input_features=None):
            return np.array(["process", "threads", "volume (angstrom^3)"], dtype=object)

    return Process(n_jobs=n_jobs)


@pytest.fixture(scope="session")
def crystals(CsCl):
    return [CsCl.apply_strain(strain, inplace=False) for strain in np.linspace(0, 0.1, 20)]


@pytest.mark.usefixtures("_eager")
def test_rows_are_computed_by_processes_of_one_thread(crystals, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    features = make(2).transform(crystals)
    elsewhere = features[:, 0] != os.getpid()
    assert elsewhere.tolist() == [False] * 2 + [True] * 18
    assert set(features[elsewhere, 1]) == {1.0}
    np.testing.assert_array_equal(features[:, 2], [one.volume for one in crystals])


@pytest.mark.usefixtures("_eager")
def test_failures_elsewhere_are_told(crystals, Cu, NaCl):
    X = [*crystals[:5], Cu]
    with pytest.warns(UndefinedFeaturesWarning, match=r"X\[5\] \(Cu\). Reasons, .* ValueError: no copper"):
        features = make(2).transform(X)
    assert np.isnan(features).all(axis=1).tolist() == [False] * 5 + [True]
    with pytest.raises(InvalidFeaturesError, match=r"X\[6\] \(NaCl\).* Got 2 numbers"):
        make(2).transform([*X, NaCl])


@pytest.mark.parametrize(("n_jobs", "n_rows"), [(None, 20), (1, 20), (2, 1), (2, 3)])
@pytest.mark.usefixtures("_eager")
def test_few_rows_start_no_process(n_jobs, n_rows, crystals):
    features = make(n_jobs).transform(crystals[:n_rows])
    assert set(features[:, 0]) == {os.getpid()}


def test_quick_rows_start_no_process(crystals):
    assert set(make(2).transform(crystals)[:, 0]) == {os.getpid()}


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_parallel_jobs_do_not_start_others(backend):
    assert Parallel(n_jobs=2, backend=backend)(delayed(usable_jobs)(2) for _ in range(2)) == [1, 1]
    assert usable_jobs(2) == 2
    assert usable_jobs(None) == 1


@pytest.mark.usefixtures("_eager")
def test_parallel_search_over_a_parallel_featurizer(crystals):
    y = [one.volume for one in crystals]
    search = GridSearchCV(make_pipeline(make(2), Ridge()), {"ridge__alpha": [1e-3, 1e3]}, n_jobs=2, cv=2)
    assert search.fit(crystals, y).best_params_ == {"ridge__alpha": 1e-3}


class Stopping(Featurizer):
    """Stops the work at one volume, in one of several ways."""

    def __init__(self, volume, *, how=None, n_jobs=None, memory=None):
        self.volume = volume
        self.how = how
        self.n_jobs = n_jobs
        self.memory = memory

    def identity(self):
        return "stopping"

    def featurize(self, structure):
        if self.how and np.isclose(structure.volume, self.volume):
            if self.how == "dies":
                os._exit(1)
            if self.how == "infinite":
                return [np.inf]
            raise {"interrupt": KeyboardInterrupt, "import": ImportError}[self.how]
        (Path(self.memory) / f"{structure.volume:.6f}").touch()
        return [structure.volume]

    def get_feature_names_out(self, input_features=None):
        return np.array(["volume (angstrom^3)"], dtype=object)


@pytest.mark.parametrize(
    ("how", "error"),
    [("interrupt", KeyboardInterrupt), ("infinite", InvalidFeaturesError), ("import", ImportError)],
)
def test_what_was_computed_before_an_end_is_kept(how, error, crystals, tmp_path):
    with pytest.raises(error):
        Stopping(crystals[12].volume, how=how, memory=tmp_path).transform(crystals)
    cache.PROCESS_CACHE.clear()
    for mark in tmp_path.glob("[0-9]*"):
        mark.unlink()
    Stopping(0.0, memory=tmp_path).transform(crystals)
    assert len([*tmp_path.glob("[0-9]*")]) == 20 - 12


@pytest.mark.parametrize(("how", "error"), [("import", ImportError), ("dies", WorkerError)])
@pytest.mark.usefixtures("_eager")
def test_what_others_computed_before_an_end_is_kept(how, error, crystals, tmp_path):
    with pytest.raises(error):
        Stopping(crystals[19].volume, how=how, n_jobs=2, memory=tmp_path).transform(crystals)
    cache.PROCESS_CACHE.clear()
    for mark in tmp_path.glob("[0-9]*"):
        mark.unlink()
    Stopping(0.0, memory=tmp_path).transform(crystals)
    assert 1 <= len([*tmp_path.glob("[0-9]*")]) <= 12


@pytest.mark.usefixtures("_eager")
def test_dead_process_names_a_row(crystals, tmp_path):
    message = r"Stopping died, at X\[2\] \(CsCl\) or a later row: .* Pass n_jobs=1"
    with pytest.raises(WorkerError, match=message):
        Stopping(crystals[2].volume, how="dies", n_jobs=2, memory=tmp_path).transform(crystals)


def test_features_are_kept_while_others_are_computed(density, crystals, monkeypatch):
    monkeypatch.setattr(computing, "SECONDS_PER_PUT", 0.0)
    sizes = []
    original = cache.PROCESS_CACHE.put
    monkeypatch.setattr(cache.PROCESS_CACHE, "put", lambda new: sizes.append(len(new)) or original(new))
    density().transform(crystals)
    assert sizes == [*[1] * 20, 0]


@pytest.mark.parametrize("n_jobs", [0, "2", 1.5])
def test_what_is_no_number_of_processes(n_jobs, density, Cu):
    with pytest.raises(InvalidParameterError, match=f"'n_jobs' must be None or a whole .* Got {n_jobs!r}"):
        density(n_jobs=n_jobs).transform([Cu])
