"""check_featurizer: each breach of the contract is named, with what to do."""

import itertools
import re
from threading import Event
from typing import ClassVar

import numpy as np
import pytest

from matmosaic import _testing_featurizer
from matmosaic.exceptions import InvalidParameterError
from matmosaic.featurizers import Featurizer
from matmosaic.testing import check_featurizer


class Good(Featurizer):
    """Keeps the contract; the others each break one part."""

    contract: ClassVar[int] = 1

    def __init__(self, scale=1.0, *, n_jobs=None):
        self.scale = scale
        self.n_jobs = n_jobs

    def featurize(self, structure):
        return np.array([self.scale * structure.density, structure.volume / len(structure)])

    def get_feature_names_out(self, input_features=None):
        return np.array(["density (g/cm^3)", "volume (angstrom^3/atom)"], dtype=object)


# --- what it is --------------------------------------------------------------------------------------


class NoContract(Good):
    contract = "1"


class InheritsContract(Featurizer):
    featurize, get_feature_names_out = Good.featurize, Good.get_feature_names_out


class TrueContract(Good):
    contract = True


class LaterContract(Good):
    contract = 99


class NoVersion(Good):
    version = 1


class NumbersAsNames(Good):
    def get_feature_names_out(self, input_features=None):
        return [1, 2]


class DoubleNames(Good):
    def get_feature_names_out(self, input_features=None):
        return ["density", "density"]


class EmptyNames(Good):
    def get_feature_names_out(self, input_features=None):
        return ["density", " "]


class TableOfNames(Good):
    def get_feature_names_out(self, input_features=None):
        return [["density", "volume"]]


class ChangingNames(Good):
    names = itertools.count()

    def get_feature_names_out(self, input_features=None):
        return ["density", f"number {next(self.names)}"]


class Checks(Good):
    def __init__(self, scale=1.0):
        if scale < 0:
            raise InvalidParameterError("negative")
        self.scale = scale


class Reads(Good):
    def __init__(self, scale=1.0):
        self.scale = scale
        self.table = {"Na": 1.0}


class Converts(Good):
    def __init__(self, scale=1.0):
        self.scale = str(scale)


class ReadsLambda(Good):
    def featurize(self, structure):
        return np.array([self.scale(structure.density), structure.volume / len(structure)])

    def identity(self):
        return "ReadsLambda"


# --- by what features are kept -----------------------------------------------------------------------


class NoText(Good):
    def identity(self):
        return 1


class Unsteady(Good):
    def identity(self):
        return f"{super().identity()} {id(self)}"


class NoVersionInIdentity(Good):
    def identity(self):
        return f"NoVersionInIdentity({self.scale})"


class NoParameterInIdentity(Good):
    def identity(self):
        return f"NoParameterInIdentity {self.version}"


class JobsInIdentity(Good):
    def identity(self):
        return f"{super().identity()} {self.n_jobs}"


# --- what it returns ---------------------------------------------------------------------------------


class TooWide(Good):
    def featurize(self, structure):
        return np.append(super().featurize(structure), 1.0)


class TooDeep(Good):
    def featurize(self, structure):
        return super().featurize(structure)[None]


class Infinite(Good):
    def featurize(self, structure):
        return super().featurize(structure) / np.array([1.0, np.inf]) + np.array([0, np.inf])


class Complex(Good):
    def featurize(self, structure):
        return super().featurize(structure) * 1j


class HalfPrecision(Good):
    def featurize(self, structure):
        return super().featurize(structure).astype("f2")


class NotANumber(Good):
    def featurize(self, structure):
        return np.full(2, np.nan)


class Raises(Good):
    def featurize(self, structure):
        raise KeyError("table")


class OneEmpty(Good):
    def featurize(self, structure):
        return super().featurize(structure) * np.array([1, np.nan])


class Changes(Good):
    def featurize(self, structure):
        structure.add_oxidation_state_by_guess()
        return super().featurize(structure)


class Chance(Good):
    def featurize(self, structure):
        return super().featurize(structure) + np.random.default_rng().normal(size=2)


class Remembers(Good):
    def featurize(self, structure):
        self.largest = max(getattr(self, "largest", 0), structure.density)
        return np.array([structure.density / self.largest, structure.volume / len(structure)])


class Standardises(Good):
    def transform(self, X):
        features = np.stack([self.featurize(structure) for structure in X])
        return features - features.mean(axis=0)


class Drops(Good):
    def transform(self, X):
        return super().transform(X)[1:]


class OtherTransform(Good):
    def transform(self, X):
        return 2 * super().transform(X)


# --- what must not matter ----------------------------------------------------------------------------


class Order(Good):
    def featurize(self, structure):
        return [structure[0].specie.Z, structure.density]


class Origin(Good):
    def featurize(self, structure):
        return [structure.frac_coords.mean(), structure.density]


class Direction(Good):
    def featurize(self, structure):
        return [structure.lattice.matrix[0, 0], structure.density]


class CellSize(Good):
    def featurize(self, structure):
        return [len(structure), structure.density]


# --- a gas -------------------------------------------------------------------------------------------


class RefusesGases(Good):
    def featurize(self, structure):
        if len(structure) == 1:
            raise ValueError("a gas")
        return super().featurize(structure)


class InfiniteForGases(Good):
    def featurize(self, structure):
        return super().featurize(structure) + (np.inf if len(structure) == 1 else 0)


class Exits(Good):
    def featurize(self, structure):
        if len(structure) == 1:
            raise SystemExit(3)
        return super().featurize(structure)


class ExitsEarly(Good):
    def featurize(self, structure):
        raise SystemExit(3)


class NamesWithoutInput(Good):
    def get_feature_names_out(self):
        return super().get_feature_names_out()


class Renames(Good):
    def __init__(self, scale=1.0):
        self.factor = scale


class ReturnsNothing(Good):
    def featurize(self, structure):
        structure.density  # noqa: B018


class Axes(Good):
    """The same for doubled cells, and not for others of one volume."""

    def featurize(self, structure):
        return np.array([max(structure.lattice.abc[:2]), structure.density])


class FirstAxis(Good):
    """The same for the doubled and the sheared cell, and not for primitive ones."""

    def featurize(self, structure):
        return np.array([structure.lattice.a, structure.density])


class FirstOfEqual(Good):
    """Looks at one of several bonds that are equally short."""

    def featurize(self, structure):
        distances = structure.distance_matrix + 99 * np.eye(len(structure))
        pair = np.unravel_index(distances.round(6).argmin(), distances.shape)
        return np.array([sum(structure[int(one)].specie.Z for one in pair), structure.density])


waiting = Event()


class Waits(Good):
    def featurize(self, structure):
        if len(structure) == 1:
            waiting.wait(60)
        return super().featurize(structure)


@pytest.mark.parametrize("featurizer", [Good(), Good(2.0, n_jobs=2), RefusesGases()], ids=repr)
def test_good_featurizers_pass(featurizer):
    check_featurizer(featurizer, supercell=True)
    assert vars(featurizer) == vars(type(featurizer)(**featurizer.get_params()))


def test_structures_may_be_given(crystals):
    check_featurizer(Good(), crystals)
    with pytest.raises(AssertionError, match="'structures' must hold at least two crystals. Got 1"):
        check_featurizer(Good(), crystals[:1])


def test_size_of_the_cell_counts_on_request():
    check_featurizer(CellSize())
    message = "Features depend on the size of the cell; use means per atom.* 'density .*' is 16 instead of 8"
    with pytest.raises(AssertionError, match=message):
        check_featurizer(CellSize(), supercell=True)


@pytest.mark.parametrize("featurizer", [Axes(), FirstAxis()], ids=repr)
def test_choice_of_the_cell_counts_on_request(featurizer):
    check_featurizer(featurizer)
    with pytest.raises(AssertionError, match="Features depend on which cell of the crystal is chosen; use"):
        check_featurizer(featurizer, supercell=True)


def test_rounding_is_forgiven_up_to_the_tolerance(monkeypatch):
    class Rounding(Good):
        def featurize(self, structure):
            return super().featurize(structure) * (1 + 1e-5 * structure[0].frac_coords[0])

    monkeypatch.setattr(_testing_featurizer, "_check_pickling", lambda featurizer: None)  # a local class
    check_featurizer(Rounding(), tolerance=1e-4)
    with pytest.raises(AssertionError, match="Features depend on"):
        check_featurizer(Rounding())


@pytest.mark.parametrize(
    ("featurizer", "message"),
    [
        (Good, "Pass an object, Good(), not the class"),
        (3, "It must be a matmosaic.featurizers.Featurizer. Got <class 'int'>"),
        (NoContract(), "'contract' must be a class attribute, .* Got '1'"),
        (InheritsContract(), "InheritsContract does not state its 'contract'; write"),
        (TrueContract(), "'contract' must be a class attribute, .* Got True"),
        (LaterContract(), "the version of the contract that it is written against, here 1 to .* Got 99"),
        (NoVersion(), "'version' must be a text such as '1', .* Got 1."),
        (NumbersAsNames(), "Names of features must be str. Got 1, of type int"),
        (DoubleNames(), "Names of features must differ. Got 'density' more than once"),
        (EmptyNames(), "A name of a feature is empty; say what it is and its unit"),
        (TableOfNames(), "must return an array of shape (n_features,), not empty. Got shape (1, 2)"),
        (ChangingNames(), "get_feature_names_out returns other names when it is called again"),
        (Checks(), "The constructor looks at its arguments (TypeError: .*; a constructor assigns"),
        (Reads(), "The constructor sets 'table'; .*: make it in featurize when it is needed"),
        (Converts(), "The constructor changes or drops 'scale'; a constructor assigns"),
        (ReadsLambda(lambda x: x), "It cannot be pickled, as n_jobs needs it: .* no lambdas"),
        (NoText(), "identity() must return a str. Got int"),
        (Unsteady(), "A pickled copy has another identity()"),
        (NoVersionInIdentity(), "identity() stays the same when 'version' changes: .* Add self.version"),
        (NoParameterInIdentity(), "identity() stays the same when the parameter 'scale' changes: .* Add it"),
        (JobsInIdentity(), "identity() must leave out 'n_jobs'"),
        (TooWide(), "featurize must return shape (2,), .* Got 3 numbers"),
        (TooDeep(), "featurize must return shape (2,), .* Got shape (1, 2)"),
        (Infinite(), "featurize must return finite numbers, or NaN .* Got inf for 'volume"),
        (Complex(), "featurize must return real numbers as float64. Got ndarray (dtype complex128)"),
        (HalfPrecision(), "featurize must return float64, at least float32. Got dtype float16"),
        (NotANumber(), "All features of all crystals are NaN. Check the tables it reads"),
        (Raises(), "All features of all crystals are NaN. The first crystal: KeyError: 'table'."),
        (OneEmpty(), "The feature 'volume (angstrom^3/atom)' is NaN for every crystal; drop it"),
        (Changes(), "featurize changes the structure that it is given (NaCl); work on structure.copy()"),
        (Chance(), "Features of one structure change between calls; leave out chance"),
        (Remembers(), "Features of a structure depend on those described before; keep nothing"),
        (Standardises(), "transform gives a structure other features beside others than alone"),
        (Drops(), "transform must return shape (9, 2), a row for each structure. Got (8, 2)"),
        (OtherTransform(), "transform gives other features than featurize; write featurize alone"),
        (Order(), "Features depend on the order of the atoms; use sums, means"),
        (Origin(), "Features depend on where the origin is; use distances"),
        (Direction(), "Features depend on how the crystal is turned in space; use lengths"),
        (InfiniteForGases(), "featurize must return finite numbers, or NaN where undefined. Got inf"),
        (FirstOfEqual(), "Features depend on the order of the atoms; .* for crystal 8"),
        (ExitsEarly(), "featurize ends the program on NaCl (SystemExit: 3); raise a ValueError"),
        (NamesWithoutInput(), "Write `def get_feature_names_out(self, input_features=None)`"),
        (Renames(), "A parameter is not kept under its own name (.*'scale'.*); a constructor assigns"),
        (ReturnsNothing(), "featurize must return an array of numbers. Got None; is a return missing?"),
        (Exits(), "featurize ends the program on an atom in an empty cell of 30 Å (SystemExit: 3)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Featurizer) else None,
)
def test_breach_is_named(featurizer, message):
    with pytest.raises(AssertionError, match=re.escape(message).replace(r"\.\*", ".*")):
        check_featurizer(featurizer)


def test_endless_work_is_named(monkeypatch):
    monkeypatch.setattr(_testing_featurizer, "LONG_SECONDS", 0.2)
    with pytest.raises(AssertionError, match="still at work on an atom in an empty cell of 30 Å after 0.2 s"):
        check_featurizer(Waits())
    waiting.set()
