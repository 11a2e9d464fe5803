"""A fitted probe as files.

``card.json`` says what was learnt, ``sources.json`` where columns come from, and ``weights.safetensors``
holds the arrays of the preparation and of the regressor. Modules of stores are named, with their checksums;
others are there as a whole (``start.*``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from matmosaic._version import __version__
from matmosaic.estimators._featurizers import (
    PREFIX,
    FeaturizerCard,
    FeaturizerSource,
    Source,
    reference_to_save,
)
from matmosaic.estimators._probe_columns import FrozenColumns, Output, Quantity
from matmosaic.estimators.persistence import SavedFiles, plain, start_files, start_module
from matmosaic.exceptions import CorruptModuleError, MatmosaicError, ModuleFormatError
from matmosaic.learning.derived import DerivedFeature
from matmosaic.learning.preparation import Preparation
from matmosaic.learning.storing import check_arrays, regressor_from_state, regressor_state
from matmosaic.modules import PretrainedModule, list_modules, load_module
from matmosaic.modules._card_schema import NUMBER, OBJECT, SHA256, TEXT, array, nullable, record
from matmosaic.modules._files import CARD_FILE, SOURCES_FILE, WEIGHTS_FILE
from matmosaic.modules._schema import check
from matmosaic.modules._weights import check_sha256, from_bytes, sha256, to_bytes
from matmosaic.modules.card import read_json
from matmosaic.modules.references import is_named, pinned, read_card

FORMAT = "matmosaic.probe/1"
PREPARATION = "preparation."
REGRESSOR = "regressor."
_PREPARED = {"kept": "k", "mean": "k", "std": "k", "factor": "k"}

_COUNT = {"type": "integer", "minimum": 0}
_CARD = record(
    format={"type": "string", "const": FORMAT},
    target=TEXT,
    unit=TEXT,
    n_train=_COUNT,
    source_names=array(TEXT),
    feature_names=array(TEXT),
    owners=array(_COUNT),
    importances=array(NUMBER),
    regressor=OBJECT,
    sha256=SHA256,
    created_with=TEXT,
)
_FEATURIZER = record(featurizer=TEXT, identity=TEXT, reference=TEXT)
_SOURCES = record(
    modules=array(record(name=TEXT, sha256=SHA256, reference=nullable(TEXT))),
    # A module by its checksum, or a featurizer.
    sources=array(
        {"type": ["string", "object"], **{key: _FEATURIZER[key] for key in _FEATURIZER if key != "type"}}
    ),
    derived=array(record(formula=TEXT, unit=TEXT, name=TEXT, outputs=OBJECT)),
)


def probe_files(
    frozen: FrozenColumns,
    given: Sequence[Any],
    regressor: Any,
    preparation: Preparation,
    **learnt: Any,
) -> dict[str, bytes]:
    """Return the content of a probe's files by name.

    Parameters
    ----------
    frozen : FrozenColumns
        What is read of structures.
    given : sequence
        The user's sources, among which references to modules are looked for.
    regressor : scikit-learn regressor
        Fitted.
    preparation : Preparation
        Learnt of the training rows.
    **learnt
        The other fields of the card.

    Returns
    -------
    dict of str to bytes
        What :meth:`SavedProbe.read` reads.

    Raises
    ------
    InvalidParameterError
        If the regressor is not made of arrays alone, or a featurizer is of no plugin.
    """
    state, arrays = regressor_state(regressor)
    named = {REGRESSOR: arrays, PREPARATION: preparation.arrays()}
    weights = to_bytes(
        {
            f"{prefix}{name}": torch.tensor(np.ascontiguousarray(values))
            for prefix, some in named.items()
            for name, values in some.items()
        }
    )
    card = {
        "format": FORMAT,
        **learnt,
        "regressor": state,
        "sha256": sha256(weights),
        "created_with": __version__,
    }
    asked = [*given, *_variables(frozen)]
    references = _references(asked)
    # Those that were given as objects are among the parameters, which need them.
    whole = [one for one in frozen.modules if one in asked or one.card.sha256 not in references]
    return {
        CARD_FILE: _to_json(card),
        SOURCES_FILE: _to_json(_sources(frozen, references)),
        WEIGHTS_FILE: weights,
        **start_files(whole),
    }


def _to_json(values: Mapping[str, Any]) -> bytes:
    lines = [f"  {json.dumps(name)}: {json.dumps(value, default=plain)}" for name, value in values.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _variables(frozen: FrozenColumns) -> list[Any]:
    """Return the modules of formulas as the user gave them."""
    given = [value for one in frozen.quantities for value in one.feature.variables.values()]
    return [one[0] if isinstance(one, tuple) else one for one in given]


def _references(asked: Sequence[Any]) -> dict[str, str]:
    """Return references, with versions, to those modules that a store has, by checksum."""
    found = {}
    for reference in asked:
        if isinstance(reference, str) and not reference.startswith(PREFIX) and is_named(reference):
            # A store that cannot be reached now does no harm: its modules are saved as a whole.
            with suppress(MatmosaicError):
                for one in list_modules(reference):
                    card = read_card(one)
                    found[str(card.sha256)] = pinned(one, card.version)
    return found


def _sources(frozen: FrozenColumns, references: Mapping[str, str]) -> dict[str, Any]:
    return {
        "modules": [
            {
                "name": one.card.name,
                "sha256": one.card.sha256,
                "reference": references.get(str(one.card.sha256)),
            }
            for one in frozen.modules
        ],
        "sources": [_source(one) for one in frozen.sources],
        "derived": [
            {
                "formula": one.feature.formula,
                "unit": one.feature.unit,
                "name": one.feature.name,
                "outputs": {name: [to.module.card.sha256, to.number] for name, to in one.outputs.items()},
            }
            for one in frozen.quantities
        ],
    }


def _source(source: Source) -> Any:
    if isinstance(source, PretrainedModule):
        return source.card.sha256
    return {**source.card.to_dict(), "reference": reference_to_save(source.featurizer)}


@dataclass(frozen=True)
class SavedProbe:
    """A probe's files, their checksum compared."""

    card: dict[str, Any]
    """What was learnt besides arrays."""
    sources: dict[str, Any]
    """Where columns come from."""
    arrays: Mapping[str, NDArray[Any]]
    """Of preparation and regressor."""
    files: SavedFiles
    """All files."""

    @classmethod
    def read(cls, files: SavedFiles) -> SavedProbe:
        """Check and parse the files.

        Raises
        ------
        ModuleFormatError
            If a file is missing, or cannot be read.
        CorruptModuleError
            If the arrays are truncated or altered.
        """
        where = {name: str(files.source / name) for name in (CARD_FILE, SOURCES_FILE, WEIGHTS_FILE)}
        card = read_json(files[CARD_FILE], source=where[CARD_FILE])
        check(card, _CARD, where[CARD_FILE])
        sources = read_json(files[SOURCES_FILE], source=where[SOURCES_FILE])
        check(sources, _SOURCES, where[SOURCES_FILE])
        check_sha256(card["sha256"], files[WEIGHTS_FILE], source=where[WEIGHTS_FILE])
        tensors = from_bytes(files[WEIGHTS_FILE], source=where[WEIGHTS_FILE])
        saved = cls(card, sources, {name: one.numpy() for name, one in tensors.items()}, files)
        _check_card(card, where[CARD_FILE])
        _check_sources(sources, where[SOURCES_FILE])
        saved._check_columns(where[CARD_FILE])
        return saved

    def _check_columns(self, source: str) -> None:
        """See that the columns of card, preparation and regressor are the same."""
        prepared = _part(self.arrays, PREPARATION)
        shapes = _PREPARED | ({"components": "ck"} if "components" in prepared else {})
        check_arrays(prepared, shapes, source="the saved preparation")
        kept, n_columns = prepared["kept"], len(self.card["feature_names"])
        n_given = len(prepared.get("components", kept))
        if not np.issubdtype(kept.dtype, np.integer) or not set(kept.tolist()) <= set(range(n_columns)):
            raise ModuleFormatError(f"{source}: 'feature_names' do not fit the saved arrays; restore it.")
        if (prepared["std"] <= 0).any() or self.regressor().n_features_in_ != n_given:
            raise ModuleFormatError(f"{source}: the saved arrays do not fit each other; restore the files.")

    def frozen(self, *, features: bool, predictions: bool) -> FrozenColumns:
        """Load modules and featurizers, and see that they are the same.

        Raises
        ------
        CorruptModuleError
            If a store holds other weights now.
        UnknownNameError, PluginError, StoreError
            If a module or featurizer is gone, its plugin or its store.
        ModuleFormatError
            If a featurizer computes something else.
        """
        modules = {one["sha256"]: self._module(one) for one in self.sources["modules"]}
        sources = [_load_source(one, modules) for one in self.sources["sources"]]
        quantities = [_load_quantity(one, modules) for one in self.sources["derived"]]
        return FrozenColumns(sources, quantities, features, predictions)

    def _module(self, entry: Mapping[str, Any]) -> PretrainedModule:
        if entry["reference"] is None:
            return start_module(self.files, entry["sha256"])
        module = load_module(entry["reference"])
        if module.card.sha256 != entry["sha256"]:
            raise CorruptModuleError(
                f"The probe in {self.files.source} was fitted to features of {entry['reference']!r} with "
                f"sha256 {entry['sha256']}, which now has {module.card.sha256}. Restore the module, or "
                "fit again."
            )
        return module

    def preparation(self) -> Preparation:
        """Return what was learnt of the columns of training rows."""
        return Preparation(**_part(self.arrays, PREPARATION))

    def regressor(self) -> Any:
        """Return the regressor, fitted."""
        return regressor_from_state(self.card["regressor"], _part(self.arrays, REGRESSOR))


def _check_card(card: Mapping[str, Any], source: str) -> None:
    """See that what is told of columns and of sources is of as many."""
    n_sources, owners = len(card["source_names"]), card["owners"]
    counts = {"owners": len(card["feature_names"]), "importances": n_sources}
    for name, expected in counts.items():
        if len(card[name]) != expected:
            raise ModuleFormatError(
                f"{source}, field {name!r}: expected {expected} items, got {len(card[name])}; restore it."
            )
    if sorted(set(owners)) != list(range(n_sources)):
        raise ModuleFormatError(f"{source}, field 'owners': expected all numbers below {n_sources}.")


def _check_sources(sources: Mapping[str, Any], source: str) -> None:
    """See that there are some, and that modules are there to which they refer."""
    if not sources["sources"] and not sources["derived"]:
        raise ModuleFormatError(f"{source}: 'sources' and 'derived' are empty; restore it.")
    known = [one["sha256"] for one in sources["modules"]]
    used = [one for one in sources["sources"] if isinstance(one, str)]
    for one in (output for feature in sources["derived"] for output in feature["outputs"].values()):
        if not isinstance(one, list) or [type(item) for item in one] != [str, int]:
            raise ModuleFormatError(f"{source}, field 'outputs': expected checksum and number, got {one}.")
        used.append(one[0])
    if unknown := sorted(set(used) - set(known)):
        raise ModuleFormatError(f"{source}: 'modules' lacks those with sha256 {unknown}; restore it.")


def _part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): one for name, one in arrays.items() if name.startswith(prefix)}


def _load_source(entry: Any, modules: Mapping[str, PretrainedModule]) -> Source:
    if isinstance(entry, str):
        return modules[entry]
    card = FeaturizerCard(**entry)
    return FeaturizerSource(card.load(), card)


def _load_quantity(entry: Mapping[str, Any], modules: Mapping[str, PretrainedModule]) -> Quantity:
    outputs = {name: Output(modules[digest], number) for name, (digest, number) in entry["outputs"].items()}
    variables = {name: (to.module, to.module.card.outputs[to.number]["name"]) for name, to in outputs.items()}
    feature = DerivedFeature(entry["formula"], unit=entry["unit"], name=entry["name"], **variables)
    return Quantity(feature, outputs)
