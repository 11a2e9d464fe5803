"""The contract of featurizers, as checks that their authors run; public as :mod:`matmosaic.testing`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from matmosaic._testing_contract import check_contract
from matmosaic._testing_crystals import (
    common_crystals,
    displaced,
    doubled,
    primitive,
    reordered,
    rotated,
    sheared,
    tied_alloy,
    translated,
)
from matmosaic.exceptions import InvalidFeaturesError, MatmosaicError, UndefinedFeaturesWarning
from matmosaic.featurizers import Featurizer
from matmosaic.featurizers.base import NOT_IN_IDENTITY
from matmosaic.featurizers.cache import structure_key
from matmosaic.featurizers.computing import Failure, as_row, attempt
from matmosaic.structures import as_structures

if TYPE_CHECKING:
    from pymatgen.core import Structure

LONG_SECONDS = 60.0

SAME_CELL = {
    reordered: "the order of the atoms; use sums, means and sorted values over atoms",
    translated: "where the origin is; use distances rather than coordinates",
    rotated: "how the crystal is turned in space; use lengths and angles rather than components",
}
_CHOICE = "which cell of the crystal is chosen; use distances between atoms rather than lattice vectors"
OTHER_CELLS = {
    doubled: "the size of the cell; use means per atom rather than sums",
    sheared: _CHOICE,
    primitive: _CHOICE,
}


def check_featurizer(
    featurizer: Featurizer,
    structures: Any = None,
    *,
    supercell: bool = False,
    tolerance: float = 1e-6,
) -> None:
    """Check that a featurizer keeps the contract of :class:`~matmosaic.featurizers.Featurizer`.

    Parameters
    ----------
    featurizer : Featurizer
        An object with small settings, so that the check is quick. It is not changed.
    structures : structures, optional
        At least two crystals to check with; by default nine, four of them without symmetry.
    supercell : bool, default=False
        Check also that other cells of a crystal have the same features: a doubled one, a sheared one of the
        same volume, a primitive one. Features of a crystal are the same, those of a cell, such as its number
        of atoms or its edges, are not.
    tolerance : float, default=1e-6
        Differences up to this, and up to this part of a feature, are taken for rounding.

    Raises
    ------
    AssertionError
        Says which part of the contract is broken and what to do.

    Examples
    --------
    >>> from matmosaic import ModuleFeaturizer
    >>> check_featurizer(ModuleFeaturizer("bundled:emt-eform"), supercell=True, tolerance=1e-3)
    """
    _check_class(featurizer)
    names = _check_names(featurizer)
    _check_constructor(featurizer)
    _check_pickling(featurizer)
    _check_identity(featurizer)
    crystals = _crystals(structures)
    rows = _check_rows(featurizer, crystals, names)
    _check_repeats(featurizer, crystals, rows, tolerance)
    _check_transform(featurizer, crystals, rows, tolerance)
    _check_invariance(featurizer, crystals, rows, tolerance, supercell=supercell)
    _check_gas(featurizer, names)


def _crystals(structures: Any) -> list[Structure]:
    if structures is None:
        rng = np.random.default_rng(0)
        common = common_crystals()
        return [*common, *(displaced(crystal, rng) for crystal in common), tied_alloy()]
    crystals: list[Any] = list(as_structures(structures))
    assert len(crystals) > 1, f"'structures' must hold at least two crystals. Got {len(crystals)}."
    return crystals


# --- what it is ----------------------------------------------------------------------------------------


def _check_class(featurizer: Any) -> None:
    assert not isinstance(featurizer, type), f"Pass an object, {featurizer.__name__}(), not the class."
    assert isinstance(featurizer, Featurizer), (
        f"It must be a matmosaic.featurizers.Featurizer. Got {type(featurizer)}."
    )
    check_contract(featurizer, "featurizers")
    version = featurizer.version
    assert isinstance(version, str) and version, (
        f"'version' must be a text such as '1', changed whenever features change. Got {version!r}."
    )


def _check_names(featurizer: Featurizer) -> np.ndarray:
    try:
        names = np.asarray(featurizer.get_feature_names_out(None), dtype=object)
    except TypeError as error:
        raise AssertionError(
            f"get_feature_names_out(None) raises TypeError: {error}. Write "
            "`def get_feature_names_out(self, input_features=None)`, as scikit-learn calls it."
        ) from error
    assert names.ndim == 1 and len(names), (
        "get_feature_names_out must return an array of shape (n_features,), not empty. Got shape "
        f"{names.shape}."
    )
    wrong = [name for name in names if not isinstance(name, str)]
    assert not wrong, f"Names of features must be str. Got {wrong[0]!r}, of type {type(wrong[0]).__name__}."
    assert all(name.strip() for name in names), "A name of a feature is empty; say what it is and its unit."
    double = sorted({name for name in names if (names == name).sum() > 1})
    assert not double, (
        f"Names of features must differ. Got {double[0]!r} more than once; say what tells them apart."
    )
    again = list(featurizer.get_feature_names_out())
    assert again == list(names), "get_feature_names_out returns other names when it is called again."
    return names


def _check_constructor(featurizer: Featurizer) -> None:
    rule = "a constructor assigns its arguments to attributes of the same names and does nothing else"
    try:
        values = {name: object() for name in featurizer.get_params(deep=False)}
    except AttributeError as error:
        raise AssertionError(f"A parameter is not kept under its own name ({error}); {rule}.") from error
    try:
        made = vars(type(featurizer)(**values))
    except Exception as error:
        raise AssertionError(
            f"The constructor looks at its arguments ({type(error).__name__}: {error}); {rule}: check and "
            "read in featurize."
        ) from error
    extra = sorted(made.keys() - values.keys())
    assert not extra, f"The constructor sets {extra[0]!r}; {rule}: make it in featurize when it is needed."
    changed = [name for name, value in values.items() if made.get(name) is not value]
    assert not changed, f"The constructor changes or drops {changed[0]!r}; {rule}."
    clone(featurizer)


def _check_pickling(featurizer: Featurizer) -> None:
    advice = "Use classes and functions of a file's top level, no lambdas, and no open files."
    try:
        data = ForkingPickler.dumps(featurizer)  # as joblib sends it to other processes
    except Exception as error:
        raise AssertionError(f"It cannot be pickled, as n_jobs needs it: {error}. {advice}") from error
    try:
        copied = ForkingPickler.loads(data)
    except Exception as error:
        raise AssertionError(f"Its pickle cannot be read: {error}. {advice}") from error
    assert copied.identity() == featurizer.identity(), (
        "A pickled copy has another identity(); it must keep all parameters, and these must be compared by "
        "content."
    )


# --- by what its features are kept ---------------------------------------------------------------------


def _check_identity(featurizer: Featurizer) -> None:
    identity = featurizer.identity()
    assert isinstance(identity, str), f"identity() must return a str. Got {type(identity).__name__}."
    assert clone(featurizer).identity() == identity, (
        "A clone has another identity(): features would be computed again each time. Take it from "
        "parameters, compared by content."
    )
    cls = type(featurizer)
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "version": cls.version + "+"}
    later = type(cls.__name__, (cls,), names)(**featurizer.get_params(deep=False))
    assert later.identity() != identity, (
        "identity() stays the same when 'version' changes: features of the old version would be taken for "
        "those of the new one. Add self.version to it."
    )
    for name, value in featurizer.get_params(deep=False).items():
        _check_parameter(featurizer, name, value)


def _check_parameter(featurizer: Featurizer, name: str, value: Any) -> None:
    try:
        other = clone(featurizer).set_params(**{name: _another(value)}).identity()
    except (MatmosaicError, ValueError, TypeError, OSError):
        return  # the other value is none that the parameter can have
    same = other == featurizer.identity()
    if name in NOT_IN_IDENTITY:
        assert same, f"identity() must leave out {name!r}, which says how features are computed, not which."
    else:
        assert not same, (
            f"identity() stays the same when the parameter {name!r} changes: features of one value would be "
            "taken for those of another. Add it."
        )


def _another(value: Any) -> Any:
    """Return a value of the same type, if that is a common one."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case list() | tuple():
            return type(value)([*value, "another"])
    return f"{value} another"


# --- what it returns -----------------------------------------------------------------------------------


def _check_rows(featurizer: Featurizer, crystals: Sequence[Structure], names: np.ndarray) -> np.ndarray:
    """Return the features; NaN where featurize raises."""
    featurizer = clone(featurizer)
    rows, failures = [], []
    for crystal in crystals:
        before = structure_key(crystal)
        found = _attempt(featurizer, crystal)
        assert structure_key(crystal) == before, (
            f"featurize changes the structure that it is given ({crystal.composition.reduced_formula}); work "
            "on structure.copy()."
        )
        failures += [found] if isinstance(found, Failure) else []
        rows.append(np.full(len(names), np.nan) if isinstance(found, Failure) else _row(found, names))
    features = np.stack(rows)
    reason = f" The first crystal: {failures[0]}." if failures else ""
    assert not np.isnan(features).all(), (
        f"All features of all crystals are NaN.{reason} Check the tables it reads, or pass 'structures' that "
        "it can describe."
    )
    empty = names[np.isnan(features).all(axis=0)]
    assert not len(empty), (
        f"The feature {str(empty[0])!r} is NaN for every crystal; drop it, or pass 'structures' that have it."
        f"{reason}"
    )
    return features


def _attempt(featurizer: Featurizer, crystal: Structure) -> Any:
    try:
        return attempt(featurizer, crystal)
    except SystemExit as error:
        raise AssertionError(
            f"featurize ends the program on {crystal.composition.reduced_formula} (SystemExit: {error}); "
            "raise a ValueError or return NaN."
        ) from error


def _row(values: Any, names: np.ndarray) -> np.ndarray:
    assert values is not None, "featurize must return an array of numbers. Got None; is a return missing?"
    try:
        row = as_row(values, names)
    except InvalidFeaturesError as error:
        raise AssertionError(f"featurize {error}") from error
    dtype = np.asarray(values).dtype
    assert dtype in (np.float32, np.float64) or dtype.kind in "biu", (
        f"featurize must return float64, at least float32. Got dtype {dtype}; return "
        "np.asarray(values, dtype=float)."
    )
    return row


def _describe(featurizer: Featurizer, crystal: Structure, n_features: int) -> np.ndarray:
    found = attempt(featurizer, crystal)
    return np.full(n_features, np.nan) if isinstance(found, Failure) else np.asarray(found, dtype=float)


def _describe_afresh(featurizer: Featurizer, crystals: Sequence[Structure], n_features: int) -> np.ndarray:
    """Return the features of each crystal by an object that has seen no other."""
    return np.stack([_describe(clone(featurizer), crystal, n_features) for crystal in crystals])


def _check_repeats(
    featurizer: Featurizer, crystals: Sequence[Structure], rows: np.ndarray, tolerance: float
) -> None:
    names, width, used = featurizer.get_feature_names_out(), rows.shape[1], clone(featurizer)
    alone = _describe_afresh(featurizer, crystals, width)
    again = _describe_afresh(featurizer, crystals, width)
    message = "Features of one structure change between calls; leave out chance, or fix a seed in featurize"
    _assert_close(again, alone, names, message, tolerance)
    repeated = [[_describe(used, crystal, width) for _ in range(2)] for crystal in crystals]
    message = "Features of a structure depend on those described before; keep nothing of them in the object"
    for found in (rows, *np.swapaxes(repeated, 0, 1)):
        _assert_close(found, alone, names, message, tolerance)


def _check_transform(
    featurizer: Featurizer, crystals: Sequence[Structure], rows: np.ndarray, tolerance: float
) -> None:
    """Look at a transform of its own, which may treat all rows at once."""
    names = featurizer.get_feature_names_out()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedFeaturesWarning)
        together = np.asarray(clone(featurizer).transform(list(crystals)))
        alone = np.concatenate([np.asarray(clone(featurizer).transform([crystal])) for crystal in crystals])
    assert together.shape == rows.shape, (
        f"transform must return shape {rows.shape}, a row for each structure. Got {together.shape}."
    )
    message = "transform gives a structure other features beside others than alone; describe each by itself"
    _assert_close(together, alone, names, message, tolerance)
    message = "transform gives other features than featurize; write featurize alone, transform is inherited"
    _assert_close(together, rows, names, message, tolerance)


# --- what must not matter ------------------------------------------------------------------------------


def _check_invariance(
    featurizer: Featurizer,
    crystals: Sequence[Structure],
    rows: np.ndarray,
    tolerance: float,
    *,
    supercell: bool,
) -> None:
    names = featurizer.get_feature_names_out()
    for change, message in {**SAME_CELL, **(OTHER_CELLS if supercell else {})}.items():
        changed = _describe_afresh(featurizer, [change(one) for one in crystals], rows.shape[1])
        _assert_close(changed, rows, names, f"Features depend on {message}", tolerance)


def _assert_close(
    found: np.ndarray, expected: np.ndarray, names: np.ndarray, message: str, tolerance: float
) -> None:
    close = np.isclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    if close.all():
        return
    row, column = np.argwhere(~close)[0]
    raise AssertionError(
        f"{message}. {str(names[column])!r} is {found[row, column]:.8g} instead of "
        f"{expected[row, column]:.8g} for crystal {row}."
    )


# --- what it does with a gas ---------------------------------------------------------------------------


def _check_gas(featurizer: Featurizer, names: np.ndarray) -> None:
    """Describe one atom in an empty cell, where many quantities are undefined and some loops never end."""
    from pymatgen.core import Lattice, Structure

    outcome: list[Any] = []
    atom = Structure(Lattice.cubic(30.0), ["Ar"], [[0, 0, 0]])
    thread = Thread(target=_try, args=(clone(featurizer), atom, outcome), daemon=True)
    thread.start()
    thread.join(LONG_SECONDS)
    case = "an atom in an empty cell of 30 Å"
    assert outcome, (
        f"featurize is still at work on {case} after {LONG_SECONDS:g} s; raise an error or return NaN early."
    )
    if isinstance(outcome[0], BaseException):
        raise AssertionError(
            f"featurize ends the program on {case} ({type(outcome[0]).__name__}: {outcome[0]}); raise a "
            "ValueError or return NaN."
        )
    if not isinstance(outcome[0], Failure):
        _row(outcome[0], names)


def _try(featurizer: Featurizer, structure: Structure, outcome: list[Any]) -> None:
    try:
        outcome.append(attempt(featurizer, structure))
    except BaseException as error:  # such as SystemExit, which a thread would swallow
        outcome.append(error)
