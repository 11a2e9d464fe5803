"""Every error and warning that a user of matmosaic may want to catch.

Each error is a :class:`MatmosaicError` and also the built-in type that a caller would
expect, so ``except ValueError`` keeps working. A message names the parameter, what was
expected, what was got, the row where there is one, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MatmosaicError(Exception):
    """Base of all errors that matmosaic raises on purpose."""


class InvalidParameterError(MatmosaicError, ValueError):
    """A parameter of an estimator, function or command has an impossible value."""


class UnknownNameError(MatmosaicError, LookupError, ValueError):
    """A module, layer group, backbone, store or column of that name does not exist."""


class InvalidStructuresError(MatmosaicError, ValueError):
    """Some rows of ``X`` cannot be used as structures."""


class StructureTypeError(InvalidStructuresError, TypeError):
    """``X``, or a row of it, is of a type that is no structure."""


class UnsupportedElementError(InvalidStructuresError):
    """A structure holds an element that the backbone has no descriptors for."""


class InvalidTargetsError(MatmosaicError, ValueError):
    """The labels ``y`` (or their weights) cannot be learnt from."""


class DataFileError(MatmosaicError, ValueError):
    """A data file is missing a column, is malformed or of an unknown format."""


class PluginError(MatmosaicError, ImportError):
    """A plugin could not be loaded."""


class DuplicatePluginError(PluginError):
    """Two distributions claim one plugin name."""


class ModuleFormatError(MatmosaicError, ValueError):
    """A module's files do not follow the module format."""


class CorruptModuleError(ModuleFormatError):
    """A module's weights are truncated or altered, or its golden outputs changed."""


class ArchitectureMismatchError(ModuleFormatError):
    """Weights do not fit the backbone that their card or importer names."""


class UnsafeFileError(ModuleFormatError):
    """A file would execute code if it were loaded; it was not loaded."""


class StoreError(MatmosaicError, OSError):
    """A module store is unreachable, locked or read-only."""


class InvalidFeaturesError(MatmosaicError, ValueError):
    """A featurizer returned something that is no row of features, or its names do not fit."""


class WorkerError(MatmosaicError, RuntimeError):
    """A process that was started for parallel work has died."""


class DeviceMemoryError(MatmosaicError, MemoryError):
    """The device ran out of memory; the message says what to lower."""


class MatmosaicWarning(UserWarning):
    """Base of all warnings that matmosaic issues."""


class IsolatedAtomWarning(MatmosaicWarning):
    """Some atoms have no neighbour within the cutoff; their bonds were padded."""


class InterruptedFitWarning(MatmosaicWarning):
    """``fit`` was interrupted; the estimator holds what was learnt until then."""


class UnusableRowsWarning(MatmosaicWarning):
    """Some rows could not be predicted; their predictions are NaN."""


class UndefinedFeaturesWarning(MatmosaicWarning):
    """Some features of some rows are undefined; they are NaN."""


class ConstantFeaturesWarning(MatmosaicWarning):
    """No feature differs between the training rows, or a column is out of range: it tells nothing."""


class DivergedFitWarning(MatmosaicWarning):
    """The loss stopped being finite; predictions are unusable or those of an early epoch."""


class NegativeTransferWarning(MatmosaicWarning):
    """A simple answer is better on the validation rows than what was fitted."""


class UnusedHeadWarning(MatmosaicWarning):
    """The module has a head for the property that is learnt, and a new head is started all the same."""


class TrunkMemoryWarning(MatmosaicWarning):
    """The outputs of frozen layers do not fit into memory and are computed anew in each step."""


# Of a longer list, such as the modules of a large hub, the nearest are shown.
_NAMES_SHOWN = 100


class SolverWarning(MatmosaicWarning):
    """A solver of the weights of modules failed, and another one was used."""


def suggest(name: str, valid: Iterable[str], *, what: str) -> str:
    """Return a sentence that lists the valid names and guesses the one that was meant.

    Parameters
    ----------
    name : str
        The name that was not found.
    valid : iterable of str
        The names that exist; of more than a hundred those like ``name`` are listed, or the first.
    what : str
        What the names stand for, in the singular, such as ``"backbone"``.

    Returns
    -------
    str
        For example ``"Unknown backbone 'cgcn'. Did you mean 'cgcnn'? Valid: 'cgcnn'."``
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=_NAMES_SHOWN)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    shown = names if len(names) <= _NAMES_SHOWN else (close or names[:_NAMES_SHOWN])
    listing = ", ".join(map(repr, shown)) if shown else "none"
    rest = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return f"Unknown {what} {name!r}.{guess} Valid: {listing}{rest}."


def missing_package(error: BaseException) -> str:
    """Return the advice to install what an import missed; empty if it was another error.

    Parameters
    ----------
    error : BaseException
        Any.

    Returns
    -------
    str
        A sentence.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    return f"Install the package that provides {error.name!r}, often by: pip install {package}."
