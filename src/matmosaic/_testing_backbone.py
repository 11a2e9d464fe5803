"""The contract of backbones, as checks that their authors run; public as :mod:`matmosaic.testing`."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from matmosaic._testing_attributes import build, check_attributes, check_groups
from matmosaic._testing_crystals import common_crystals, displaced
from matmosaic._testing_stacking import check_stacking, without_chance
from matmosaic.backbones import (
    Backbone,
    make_table,
    structure_features,
    trunk_depth,
    trunk_table,
    unfreeze,
)
from matmosaic.backbones.trunk import FEATURES
from matmosaic.graphs import GraphTable
from matmosaic.structures import as_structures

if TYPE_CHECKING:
    from pymatgen.core import Structure

# In double precision, features of order one differ by less than this from what they should be.
TOLERANCE = 1e-8
# The same for single precision against double, where hundreds of terms have been added.
SINGLE_TOLERANCE = 1e-2
# What a batch holds before the first stage; stages must leave it as it is.
INPUTS = ("z", "atom_weight", "edge_index", "distance", "bond_weight", "batch")
ANGLE_INPUTS = ("angle_index", "cosine", "angle_weight")
_KEPT = ", ".join(FEATURES)


def check_backbone(
    backbone: Callable[..., Backbone],
    structures: Any = None,
    *,
    without_gradient: Sequence[str] = (),
    **options: Any,
) -> None:
    """Check that a backbone keeps the contract of :class:`~matmosaic.backbones.Backbone`.

    Parameters
    ----------
    backbone : Backbone class or callable
        Called with ``options``, several times, in single and in double precision.
    structures : structures, optional
        At least two crystals to check with; four common ones by default.
    without_gradient : sequence of str
        Name patterns of parameters that the features do not depend on in evaluation mode.
    **options
        Passed to ``backbone``; choose small widths, so that the check is quick.

    Raises
    ------
    AssertionError
        Says which part of the contract is broken and what to do.

    Examples
    --------
    >>> from matmosaic.backbones.cgcnn import CGCNN
    >>> check_backbone(CGCNN, width=4, n_convolutions=1)
    """
    with _default_dtype(torch.float64), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(backbone, options)
        check_attributes(network)
        check_groups(network)
        crystals = _crystals(network, structures)
        table = make_table(network, crystals)
        _move_statistics(network, table)
        _check_stages(network, table)
        _check_features(network, table)
        _check_repeats(network, table)
        _check_cuts(network, table)
        _check_options(network, table)
        _check_copies(network, table)
        _check_freezing(network, table)
        _check_gradients(network, table, without_gradient)
        _check_invariance(network, crystals)
        if network.supports_weights:
            _check_weights(network, crystals)
        check_stacking(network, table)
        _check_single_precision(backbone, options, network, crystals)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _crystals(backbone: Backbone, structures: Any) -> list[Structure]:
    crystals: list[Any] = common_crystals() if structures is None else list(as_structures(structures))
    assert len(crystals) > 1, f"'structures' must hold at least two crystals. Got {len(crystals)}."
    known = backbone.elements()
    used = {number for crystal in crystals for number in crystal.atomic_numbers}
    lacking = sorted(used - known) if known is not None else []
    assert not lacking, (
        f"elements() leaves out atomic numbers {lacking} of the crystals to check with; pass 'structures' "
        "that the backbone knows, or return None if it knows all elements."
    )
    return crystals


# --- what it is ----------------------------------------------------------------------------------------


def _check_options(backbone: Backbone, table: GraphTable) -> None:
    options = backbone.options()
    assert _is_json(options), (
        "options() must be JSON values that come back equal: lists, not tuples; numbers, not arrays. "
        f"Got {options}."
    )
    try:
        again = type(backbone)(**options, graph_settings=backbone.graph_settings)
        again.load_state_dict(backbone.state_dict(), strict=True)
    except (TypeError, RuntimeError) as error:
        raise AssertionError(
            f"options() must be all keyword arguments of {type(backbone).__name__} besides 'graph_settings', "
            f"so that it can be built again and take the same weights. Got {options}: {error}."
        ) from error
    _check_settings(backbone, options)
    _assert_close(
        _features(again, table),
        _features(backbone, table),
        "A backbone built from options() and state_dict() gives other features; list every argument in "
        "options(), and register all numbers it depends on as parameters or buffers.",
    )


def _check_settings(backbone: Backbone, options: dict[str, Any]) -> None:
    """Give settings that are nobody's default: a module's network must get the graphs it was trained on."""
    own = backbone.graph_settings
    number = None if own.max_neighbors is None else own.max_neighbors + 1
    given = replace(own, max_neighbors=number, tolerance=0.0 if own.tolerance else 1e-5)
    for settings in (own, given):
        kept = type(backbone)(**options, graph_settings=settings).graph_settings
        assert kept == settings, (
            f"The constructor must keep the given graph_settings. Given were {settings}, kept were {kept}."
        )


def _is_json(options: Any) -> bool:
    try:
        return isinstance(options, Mapping) and json.loads(json.dumps(options)) == options
    except (TypeError, ValueError):
        return False


def _check_copies(backbone: Backbone, table: GraphTable) -> None:
    try:
        torch.save(backbone, io.BytesIO())
    except Exception as error:
        raise AssertionError(
            f"It cannot be pickled, as scikit-learn does with n_jobs: {error}. Use modules and functions of "
            "a file's top level, no lambdas."
        ) from error
    copied = _features(copy.deepcopy(backbone), table)
    _assert_close(
        copied, _features(backbone, table), "A deep copy gives other features; keep no state elsewhere."
    )


# --- what it computes ----------------------------------------------------------------------------------


def _move_statistics(backbone: Backbone, table: GraphTable) -> None:
    """Run once in training mode, so that running statistics are not those of a new network."""
    try:
        backbone.train()(table.select(range(len(table))))
    except Exception as error:
        raise AssertionError(
            f"{_failing(backbone, table)} does not run on a batch in double precision: "
            f"{type(error).__name__}: {error}. A stage takes one argument, a PyG batch, which at first has "
            f"{', '.join(INPUTS)}, and returns one; no tensor may have a fixed dtype."
        ) from error
    backbone.eval()


def _failing(backbone: Backbone, table: GraphTable) -> str:
    graph = table.select(range(len(table)))
    seen: set[str] = set()
    for name, stage in backbone.stages.items():
        try:
            graph = stage(graph)
        except Exception:
            lost = sorted(field for field in seen if field not in graph)
            return f"Stage {name!r}" + (
                f", whose graph lacks {lost}: dropped, or set to None," if lost else ""
            )
        seen |= {field for field in FEATURES if field in graph}
    return "It"


@torch.no_grad()
def _check_stages(backbone: Backbone, table: GraphTable) -> None:
    graph = given = table.select(range(len(table)))
    inputs = {name: given[name].clone() for name in (*INPUTS, *ANGLE_INPUTS) if name in given}
    names = set(given.keys())
    n_rows = {"x": len(given.z), "edge_attr": len(given.distance), "u": given.num_graphs}
    n_rows |= {"angle_attr": len(given.cosine)} if "cosine" in given else {}
    for name, stage in backbone.stages.items():
        graph = stage(graph)
        assert isinstance(graph, Data), f"Stage {name!r} must return the graph. Got {type(graph).__name__}."
        for field, values in inputs.items():
            assert field in graph and torch.equal(graph[field], values), (
                f"Stage {name!r} changes {field!r}; a stage sets {_KEPT} and nothing else."
            )
        for field in n_rows.keys() & set(graph.keys()):
            assert len(graph[field]) == n_rows[field], (
                f"Stage {name!r} gives {field!r} {len(graph[field])} rows, there are {n_rows[field]}; a "
                "stage replaces values, never rows."
            )
    same = set(given.keys()) == names and all(torch.equal(given[name], one) for name, one in inputs.items())
    assert same, "The stages change the graph they are given; return replace(graph, x=...) instead."


def _check_features(backbone: Backbone, table: GraphTable) -> None:
    with torch.no_grad():
        graph = backbone(table.select(range(len(table))))
    assert "u" in graph, "The last stage must set 'u', the features of structures."
    expected = (len(table), backbone.n_features)
    assert graph.u.shape == expected, (
        f"'u' must have shape {expected}, by n_features. Got {tuple(graph.u.shape)}."
    )
    assert graph.u.dtype == torch.float64, f"'u' must have the dtype of the weights. Got {graph.u.dtype}."
    assert graph.u.isfinite().all(), "'u' holds NaN or infinite values for common crystals."


def _check_repeats(backbone: Backbone, table: GraphTable) -> None:
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    first = _features(backbone, table)
    assert torch.equal(first, _features(backbone, table)), (
        "Evaluation mode gives other features each time; leave chance to training mode."
    )
    moved = [name for name, value in backbone.state_dict().items() if not torch.equal(value, state[name])]
    assert not moved, f"Evaluation mode changes {moved}; only training may."


@torch.no_grad()
def _check_cuts(backbone: Backbone, table: GraphTable) -> None:
    expected = _features(backbone, table)
    rows = list(reversed(range(len(table))))
    for depth in backbone.cuts():
        trunk = backbone(table.select(range(len(table))), stop=depth)
        kept = table.with_features(**{name: trunk[name] for name in FEATURES if name in trunk})
        try:
            tail = backbone(kept.select(rows), start=depth).u
        except (AttributeError, KeyError) as error:
            raise AssertionError(
                f"The tail after {depth} stages fails: {error}. Between stages only {_KEPT} are kept."
            ) from error
        message = f"Trunk and tail, cut after {depth} stages, give other features than the whole; carry all"
        _assert_close(tail, expected[rows], f"{message} state in {_KEPT}.")


def _check_invariance(backbone: Backbone, crystals: list[Structure]) -> None:
    rng = np.random.default_rng(0)
    crystals = [*crystals, *(displaced(crystal, rng) for crystal in crystals)]
    together = structure_features(backbone, crystals)
    alone = torch.cat([structure_features(backbone, [crystal]) for crystal in crystals])
    message = (
        "Features of a structure depend on the others of its batch; index by graph.batch and edge_index."
    )
    _assert_close(together, alone, message)
    # A tie that is cut depends on the order: with ties="reference", look at structures without any.
    first = 0 if backbone.graph_settings.ties == "fractional" else len(crystals) // 2
    shuffled = [
        type(one).from_sites([one[int(i)] for i in rng.permutation(len(one))]) for one in crystals[first:]
    ]
    message = "Features depend on the order of the atoms; use sums and means over atoms and bonds."
    _assert_close(structure_features(backbone, shuffled), together[first:], message)


def _check_weights(backbone: Backbone, crystals: list[Structure]) -> None:
    small, whole = (make_table(backbone, crystals, compress=compress) for compress in (True, False))
    remedy = (
        "weigh sums and means by atom_weight and bond_weight, or set supports_weights = False and "
        "ties='reference' in graph_settings."
    )
    message = f"Compressed graphs give other features than whole ones; {remedy}"
    _assert_close(_features(backbone, small), _features(backbone, whole), message)
    (features, state), (expected, other_state) = (_training_step(backbone, table) for table in (small, whole))
    remedy = f"use WeightedBatchNorm, and {remedy}"
    message = f"Compressed graphs give other features in training mode; {remedy}"
    _assert_close(features, expected, message)
    for name, value in state.items():
        message = f"Compressed graphs give another {name!r} after a batch in training mode; {remedy}"
        _assert_close(value, other_state[name], message)


@torch.no_grad()
def _training_step(backbone: Backbone, table: GraphTable) -> tuple[Tensor, dict[str, Tensor]]:
    """Return features in training mode, but without chance, and the state after it."""
    network = without_chance(copy.deepcopy(backbone))
    return network(table.select(range(len(table)))).u, network.state_dict()


def _check_single_precision(
    backbone: Callable[..., Backbone], options: dict[str, Any], network: Backbone, crystals: list[Structure]
) -> None:
    expected = structure_features(network, crystals)
    with _default_dtype(torch.float32):
        single = backbone(**options)
        single.load_state_dict(network.state_dict(), strict=True)
        try:
            found = structure_features(single, crystals)
        except RuntimeError as error:
            raise AssertionError(f"It does not run in single precision: {error}. Fix no dtype.") from error
    assert found.dtype == torch.float32, f"'u' must have the dtype of the weights. Got {found.dtype}."
    message = "Features in single precision are far from those in double; look for cancellation and overflow."
    assert torch.allclose(found.double(), expected, rtol=SINGLE_TOLERANCE, atol=SINGLE_TOLERANCE), message


# --- how it is trained ---------------------------------------------------------------------------------


def _check_freezing(backbone: Backbone, table: GraphTable) -> None:
    network = copy.deepcopy(backbone)
    expected = _features(network, table)
    for group in ["head", *network.layer_groups()]:
        unfreeze(network, group)
        cached, depth = trunk_table(network, table), trunk_depth(network)
        with torch.no_grad():
            found = network.eval()(cached.select(range(len(table))), start=depth).u
        message = f"The cached trunk for unfrozen={group!r} gives other features than the whole network; "
        _assert_close(found, expected, f"{message}let stages depend on the graph and their parameters alone.")
    unfreeze(network, "head")
    network.train()
    network(table.select(range(len(table))))
    moved = [
        name
        for name, value in network.state_dict().items()
        if not torch.equal(value, backbone.state_dict()[name])
    ]
    assert not moved, (
        f"Frozen layers move in training mode: {moved}. An own train() must call super().train(mode) last."
    )


def _check_gradients(backbone: Backbone, table: GraphTable, without_gradient: Sequence[str]) -> None:
    network = copy.deepcopy(backbone)
    unfreeze(network, "all")
    network.eval()
    features = network(table.select(range(len(table)))).u
    assert features.requires_grad, "Features carry no gradient; do not detach them, nor use torch.no_grad()."
    (features * torch.randn_like(features)).sum().backward()
    lacking = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None and not any(fnmatchcase(name, pattern) for pattern in without_gradient)
    ]
    assert not lacking, (
        f"No gradient reaches {lacking}; use these parameters, drop them, or name them in 'without_gradient'."
    )


@torch.no_grad()
def _features(backbone: Backbone, table: GraphTable) -> Tensor:
    return backbone.eval()(table.select(range(len(table)))).u


def _assert_close(found: Tensor, expected: Tensor, message: str) -> None:
    close = torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert close, f"{message} Largest difference: {float((found - expected).abs().max()):.1e}."
