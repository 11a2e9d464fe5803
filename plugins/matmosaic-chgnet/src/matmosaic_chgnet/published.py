"""The published weights: where they lie in the package ``chgnet``, and which of ours each of them is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from matmosaic.exceptions import ArchitectureMismatchError, CorruptModuleError, StoreError

if TYPE_CHECKING:
    from torch import Tensor

# Weights that the features do not depend on: energies of atoms alone, magnetic moments, and the last update
# of angles, which nothing reads.
UNUSED = ("composition_model.", "site_wise.", "angle_layers.2.")


class WeightSet(NamedTuple):
    """One of the published files."""

    file: str
    """Path below ``chgnet/pretrained``."""
    options: dict[str, Any]
    """Arguments of :class:`~matmosaic_chgnet.CHGNet` that differ from the defaults."""
    cutoff: float
    """Of bonds, in Å."""


WEIGHT_SETS = {
    "0.2.0": WeightSet(
        "0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar",
        {
            "n_radial": 9,
            "n_angular": 9,
            "envelope_power": 5,
            "normalise": False,
            "out_bias": True,
            "n_hidden": 2,
        },
        5.0,
    ),
    "0.3.0": WeightSet("0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar", {}, 6.0),
    "r2scan": WeightSet("r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar", {}, 6.0),
}


def read_weights(name: str) -> dict[str, Tensor]:
    """Return a published set of weights under our names.

    Parameters
    ----------
    name : str
        A key of :data:`WEIGHT_SETS`.

    Returns
    -------
    dict of str to Tensor
        State dict of the backbone.

    Raises
    ------
    StoreError
        If the package ``chgnet`` is not installed, or lacks the file.
    CorruptModuleError
        If the file is no checkpoint.
    ArchitectureMismatchError
        If it holds other weights than those of this architecture.
    """
    path = weights_folder() / WEIGHT_SETS[name].file
    return translate(read_state(path), WEIGHT_SETS[name].options, source=str(path))


def weights_folder() -> Path:
    """Return the folder of the published weights, without importing the package that holds it."""
    spec = find_spec("chgnet")
    if spec is None or not spec.submodule_search_locations:
        raise StoreError(
            "The published weights are part of the package 'chgnet', which is not installed; "
            "run: pip install chgnet"
        )
    return Path(spec.submodule_search_locations[0]) / "pretrained"


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the weights of a published file, under their published names.

    Raises
    ------
    StoreError
        If there is no such file.
    CorruptModuleError
        If it is no checkpoint.
    """
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        return dict(checkpoint["model"]["state_dict"])
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error}); install another version of 'chgnet'.") from error
    except Exception as error:  # whatever truncated bytes make the reader raise
        raise CorruptModuleError(
            f"{path} is truncated or no PyTorch checkpoint; install 'chgnet' again."
        ) from error


class Source(NamedTuple):
    """What one of our weights is made of."""

    names: tuple[str, ...]
    """Published weights, stacked by rows."""
    part: int = 0
    """Which part of their columns is taken,"""
    n_parts: int = 1
    """of how many equal ones."""


def key_map(options: Mapping[str, Any]) -> dict[str, Source]:
    """Return what each weight of our backbone is made of.

    Parameters
    ----------
    options : mapping
        Arguments of :class:`~matmosaic_chgnet.CHGNet` that differ from the defaults.

    Returns
    -------
    dict of str to Source
        By our names.
    """
    normalise, out_bias = options.get("normalise", True), options.get("out_bias", False)
    kind = {"normalise": normalise, "out_bias": out_bias}
    n_hidden = options.get("n_hidden", 3)
    layers = [
        ("embedding", _same(_EMBEDDING)),
        *((f"block_{n + 1}.atom_update", _atom_convolution(n, **kind)) for n in range(4)),
        *((f"block_{n + 1}.bond_update", _bond_convolution(n, **kind)) for n in range(3)),
        *((f"block_{n + 1}.angle_update", _angle_update(n, normalise=normalise)) for n in range(2)),
        ("block_4.norm", _both("", "readout_norm") if normalise else iter(())),
        ("pooling", _energy(n_hidden)),
    ]
    return {f"stages.{stage}.{ours}": source for stage, sources in layers for ours, source in sources}


Sources = Iterator[tuple[str, Source]]

_KINDS = ("weight", "bias")
_EMBEDDING = {
    "atoms.weight": "atom_embedding.embedding.weight",
    "radial.frequencies": "bond_basis_expansion.rbf_expansion_ag.frequencies",
    "short_radial.frequencies": "bond_basis_expansion.rbf_expansion_bg.frequencies",
    "angular.frequencies": "angle_basis_expansion.fourier_expansion.frequencies",
    "bonds.weight": "bond_embedding.weight",
    "passing.weight": "bond_weights_ag.weight",
    "short_passing.weight": "bond_weights_bg.weight",
    "angles.weight": "angle_embedding.weight",
}
# The columns of a published matrix, from left to right, as our maps; the first one has the bias.
_ATOM_COLUMNS = ("center", "bond", "neighbor")
_CORNER_COLUMNS = ("corner.receiver", "corner.sender", "corner.angle", "corner.atom")
# A value and how much of it passes: our names, and theirs of the network and of its normalisation.
_HALVES = {"value": ("mlp_core", "bn1"), "gate": ("mlp_gate", "bn2")}


def _same(names: Mapping[str, str]) -> Sources:
    for ours, theirs in names.items():
        yield ours, Source((theirs,))


def _both(ours: str, theirs: str) -> Sources:
    """Yield the weight and the bias of a layer."""
    dotted = f"{ours}." if ours else ""
    return _same({f"{dotted}{kind}": f"{theirs}.{kind}" for kind in _KINDS})


def _atom_convolution(number: int, *, normalise: bool, out_bias: bool) -> Sources:
    prefix = f"atom_conv_layers.{number}"
    yield from _gated(f"{prefix}.twoBody_atom", _ATOM_COLUMNS, normalise=normalise)
    yield from _out(prefix, out_bias)


def _bond_convolution(number: int, *, normalise: bool, out_bias: bool) -> Sources:
    prefix = f"bond_conv_layers.{number}"
    yield from _gated(f"{prefix}.twoBody_bond", _CORNER_COLUMNS, normalise=normalise)
    yield from _out(prefix, out_bias)


def _angle_update(number: int, *, normalise: bool) -> Sources:
    prefix = f"angle_layers.{number}.twoBody_bond"
    return _gated(prefix, _CORNER_COLUMNS, normalise=normalise, hidden=False)


def _gated(prefix: str, columns: tuple[str, ...], *, normalise: bool, hidden: bool = True) -> Sources:
    """Yield the weights of a gated network, the two halves of whose first map are one of ours."""
    first = 0 if hidden else 1  # without a hidden layer, dropout comes before
    halves = {
        kind: tuple(f"{prefix}.{half}.layers.{first}.{kind}" for half, _ in _HALVES.values())
        for kind in _KINDS
    }
    for part, name in enumerate(columns):
        yield f"{name}.weight", Source(halves["weight"], part, len(columns))
    yield f"{columns[0]}.bias", Source(halves["bias"])
    for ours, (half, norm) in _HALVES.items():
        if hidden:
            yield from _both(f"gate.{ours}", f"{prefix}.{half}.layers.3")
        if normalise:
            yield from _both(f"gate.{ours}_norm", f"{prefix}.{norm}")


def _out(prefix: str, out_bias: bool) -> Sources:
    for kind in _KINDS if out_bias else _KINDS[:1]:
        yield f"out.{kind}", Source((f"{prefix}.mlp_out.layers.1.{kind}",))


def _energy(n_hidden: int) -> Sources:
    for number in range(n_hidden):
        yield from _both(f"hidden.{number}", f"mlp.layers.{2 * number}")
    yield from _both("energy", f"mlp.layers.{2 * n_hidden + 1}")  # dropout comes before


def translate(state: Mapping[str, Tensor], options: Mapping[str, Any], *, source: str) -> dict[str, Tensor]:
    """Return published weights under our names.

    Parameters
    ----------
    state : mapping of str to Tensor
        State dict of the published network.
    options : mapping
        Arguments of :class:`~matmosaic_chgnet.CHGNet` that differ from the defaults.
    source : str
        Where the weights are from, for messages.

    Returns
    -------
    dict of str to Tensor
        State dict of the backbone.

    Raises
    ------
    ArchitectureMismatchError
        If a weight is missing, or is one that we do not know.
    """
    sources = key_map(options)
    known = {name for one in sources.values() for name in one.names}
    missing = sorted(known - state.keys())
    unexpected = sorted(name for name in state if name not in known and not name.startswith(UNUSED))
    if missing or unexpected:
        raise ArchitectureMismatchError(
            f"{source} holds other weights than CHGNet's. Missing: {missing[:5]}; unexpected: "
            f"{unexpected[:5]}. Install another version of 'chgnet'."
        )
    return {ours: _made_of(one, state) for ours, one in sources.items()}


def _made_of(source: Source, state: Mapping[str, Tensor]) -> Tensor:
    import torch

    stacked = torch.cat([state[name] for name in source.names])
    return stacked.chunk(source.n_parts, dim=-1)[source.part].contiguous()
