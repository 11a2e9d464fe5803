"""What a probe reads of structures: frozen features, predictions of heads, and formulas of predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matmosaic.estimators._experts import expert_names
from matmosaic.estimators._featurizers import Card, FeaturizerSource, Source
from matmosaic.exceptions import InvalidFeaturesError, InvalidParameterError, StructureTypeError, suggest
from matmosaic.featurizers import Featurizer, ModuleFeaturizer
from matmosaic.graphs import GraphTable
from matmosaic.learning.derived import DerivedFeature
from matmosaic.learning.featurized import features_of
from matmosaic.modules import PretrainedModule, load_module

__all__ = ["Block", "FrozenColumns", "Quantity", "resolve_quantities"]

#: What the predictions of all heads are called as a source.
PREDICTIONS = "predictions"

Array = NDArray[np.float64]


class Output(NamedTuple):
    """One property that a module predicts."""

    module: PretrainedModule
    number: int


@dataclass(frozen=True)
class Quantity:
    """A derived feature, with what its variables stand for."""

    feature: DerivedFeature
    """The formula."""
    outputs: Mapping[str, Output]
    """What each of its names is a prediction of."""


class Block(NamedTuple):
    """Columns of one source."""

    source: str
    names: list[str]
    values: Array


def resolve_quantities(features: Sequence[DerivedFeature]) -> list[Quantity]:
    """Load the modules of derived features.

    Raises
    ------
    InvalidParameterError
        If a module has no head, or one of several properties is not named.
    UnknownNameError
        If there is no such module.
    """
    return [
        Quantity(one, {name: _output(name, value) for name, value in one.variables.items()})
        for one in features
    ]


def _output(variable: str, value: Any) -> Output:
    reference, wanted = value if isinstance(value, tuple) else (value, None)
    module = load_module(reference)
    names = [one["name"] for one in module.card.outputs]
    if module.card.head is None:
        raise InvalidParameterError(
            f"Variable {variable!r} of a DerivedFeature is a prediction, but module {module.card.name!r} has "
            "no head; name one that has."
        )
    if wanted is None and len(names) > 1:
        raise InvalidParameterError(
            f"Variable {variable!r} of a DerivedFeature must say which property of module "
            f"{module.card.name!r} it is: {variable}=({str(reference)!r}, NAME), of {names}."
        )
    if wanted is not None and wanted not in names:
        raise InvalidParameterError(suggest(wanted, names, what=f"property of module {module.card.name!r}"))
    return Output(module, 0 if wanted is None else names.index(wanted))


@dataclass(frozen=True, eq=False)
class FrozenColumns:
    """Columns of sources side by side, a function of structures alone.

    Parameters
    ----------
    sources : sequence of PretrainedModule and FeaturizerSource
        In the order of the columns.
    quantities : sequence of Quantity
        Formulas, after these.
    features, predictions : bool
        Whether modules give their features, and what their heads predict.
    """

    sources: Sequence[Source]
    quantities: Sequence[Quantity]
    features: bool = True
    predictions: bool = True

    @property
    def modules(self) -> list[PretrainedModule]:
        """All modules that are run, each once."""
        given = [one for one in self.sources if isinstance(one, PretrainedModule)]
        given += [output.module for one in self.quantities for output in one.outputs.values()]
        return list({one.card.sha256: one for one in given}.values())

    @property
    def labels(self) -> list[str]:
        """Names of the sources but formulas, none of which is that of all predictions."""
        return expert_names([one.card for one in self.sources], reserved=[PREDICTIONS])

    def cards(self) -> dict[str, Card]:
        """Return what is known of modules and featurizers by their names as sources."""
        return dict(zip(self.labels, (one.card for one in self.sources), strict=True))

    def check_names(self) -> None:
        """Raise InvalidParameterError if a formula is named as another source."""
        taken = {*self.labels, PREDICTIONS}
        for one in self.quantities:
            if one.feature.name in taken:
                raise InvalidParameterError(
                    f"Another source is named {one.feature.name!r}, as {one.feature!r}. Leave one out if "
                    "they are the same, or give a 'name' of its own to the DerivedFeature."
                )
            taken.add(one.feature.name)

    def elements(self) -> frozenset[int] | None:
        """Return the atomic numbers that all modules know; None for all."""
        known = [one.build_backbone().elements() for one in self.modules]
        some = [one for one in known if one is not None]
        return frozenset.intersection(*some) if some else None

    def check_input(self, X: Any) -> None:
        """Raise StructureTypeError for graphs alone where a featurizer needs structures."""
        for source in self.sources:
            if isinstance(X, GraphTable) and isinstance(source, FeaturizerSource):
                raise StructureTypeError(
                    f"X is a GraphTable, which holds no structures for featurizer {source.card.name!r}. "
                    "Give the structures, or sources that are modules."
                )

    def blocks(self, X: Any, *, device: str, **options: Any) -> list[Block]:
        """Compute the columns, each module run once, or not at all where its features are still kept.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            What the columns are computed of.
        device : str
            Where modules run.
        **options
            ``batch_size``, ``n_jobs`` and ``memory`` of :class:`ModuleFeaturizer`.

        Returns
        -------
        list of Block
            Of each source; the values are NaN or infinite where they are undefined.
        """
        self.check_input(X)
        features = {
            one.card.sha256: np.asarray(ModuleFeaturizer(one, device=device, **options).transform(X))
            for one in self.modules
        }
        predicted = {
            one.card.sha256: _predicted(one, features[one.card.sha256])
            for one in self.modules
            if one.card.head is not None
        }
        blocks = [
            *self._blocks_of_sources(X, features),
            *(self._blocks_of_heads(predicted) if self.predictions else []),
            *(_block_of_formula(one, predicted) for one in self.quantities),
        ]
        if not blocks:
            raise InvalidParameterError(
                f"With features={self.features} and predictions={self.predictions}, no source gives a "
                f"column: {[one.card.name for one in self.sources]}. Set one of them to True."
            )
        return _with_unique_names(blocks)

    def _blocks_of_sources(self, X: Any, features: Mapping[Any, Array]) -> list[Block]:
        blocks = []
        for name, source in zip(self.labels, self.sources, strict=True):
            if isinstance(source, FeaturizerSource):
                blocks += _blocks_of_featurizer(name, source.featurizer, X)
            elif self.features:
                values = features[source.card.sha256]
                blocks.append(Block(name, [f"{name}_{number}" for number in range(values.shape[1])], values))
        return blocks

    def _blocks_of_heads(self, predicted: Mapping[Any, Array]) -> list[Block]:
        """Return one block of all predictions: as many numbers as a single source of features."""
        names, values = [], []
        for label, source in zip(self.labels, self.sources, strict=True):
            if source.card.sha256 in predicted and isinstance(source, PretrainedModule):
                outputs = source.card.outputs
                names += [f"{label}: {one['name']} ({one['unit']})" for one in outputs]
                values.append(predicted[source.card.sha256][:, : len(outputs)])
        return [Block(PREDICTIONS, names, np.concatenate(values, axis=1))] if names else []


def _blocks_of_featurizer(name: str, featurizer: Featurizer, X: Any) -> list[Block]:
    """Return one block, or one for each group of columns that the featurizer tells apart."""
    columns = np.array([str(one) for one in featurizer.get_feature_names_out()], dtype=object)
    values = features_of(featurizer, X)
    tell = getattr(featurizer, "get_feature_groups_out", None)
    groups = np.array([""] * len(columns) if tell is None else [str(one) for one in tell()], dtype=object)
    if groups.shape != columns.shape:
        raise InvalidFeaturesError(
            f"{type(featurizer).__name__}.get_feature_groups_out() must give one label for each of the "
            f"{len(columns)} features. Got {len(groups)}."
        )
    labels = {group: f"{name}: {group}" if group else name for group in dict.fromkeys(groups)}
    return [
        Block(label, columns[groups == group].tolist(), values[:, groups == group])
        for group, label in labels.items()
    ]


def _predicted(module: PretrainedModule, features: Array) -> Array:
    """Return what a module's head predicts, (n_structures, n_outputs), in the units of its card."""
    predictions = module.predict_from(features)
    return predictions.reshape(len(features), -1)


def _block_of_formula(one: Quantity, predicted: Mapping[Any, Array]) -> Block:
    values = {
        name: predicted[output.module.card.sha256][:, output.number] for name, output in one.outputs.items()
    }
    return Block(one.feature.name, [one.feature.column], one.feature.evaluate(**values)[:, None])


def _with_unique_names(blocks: list[Block]) -> list[Block]:
    """Put the name of the source before names of columns that several sources have."""
    counts = Counter(name for block in blocks for name in block.names)
    return [
        block._replace(
            names=[name if counts[name] == 1 else f"{block.source}: {name}" for name in block.names]
        )
        for block in blocks
    ]
