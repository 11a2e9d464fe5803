"""Import published ALIGNN checkpoints.

They are those of the code of Choudhary and DeCost (npj Comput. Mater. 7, 185 (2021), DOI
10.1038/s41524-021-00650-1): zip archives of a ``config.json`` and a checkpoint, or these files as they are.
Widths and numbers of layers are read from the shapes, and must be those of ``config.json``.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from matmosaic.backbones import MLP
from matmosaic.backbones.alignn import ALIGNN
from matmosaic.backbones.layers import FeatureScale
from matmosaic.exceptions import ArchitectureMismatchError, CorruptModuleError, ModuleFormatError
from matmosaic.graphs import GraphSettings
from matmosaic.modules._weights import compare, describe
from matmosaic.modules.card import ModuleCard
from matmosaic.modules.importers._alignn_names import rename
from matmosaic.modules.importers._checkpoint import TRAINING_STATE, read_bytes, unpack_checkpoint
from matmosaic.modules.module import PretrainedModule

REFERENCE = "10.1038/s41524-021-00650-1"
CONFIG = "config.json"
BEST = "best_model.pt"

# Where each option shows in the weights: a tensor, one of its axes, and what to expect without it.
_SHAPES = {
    "width": ("atom_embedding.layer.0.weight", 0, 256),
    "embedding_width": ("edge_embedding.1.layer.0.weight", 0, 64),
    "n_radial": ("edge_embedding.1.layer.0.weight", 1, 80),
    "n_angular": ("angle_embedding.1.layer.0.weight", 1, 40),
}
_LAYERS = {"n_alignn": r"alignn_layers\.(\d+)\.", "n_gcn": r"gcn_layers\.(\d+)\."}
# What config.json calls the options.
_CONFIG_NAMES = {
    "width": "hidden_features",
    "embedding_width": "embedding_features",
    "n_radial": "edge_input_features",
    "n_angular": "triplet_input_features",
    "n_alignn": "alignn_layers",
    "n_gcn": "gcn_layers",
}
# Settings of config.json that this ALIGNN has no other value for.
_REQUIRED = {"atom_features": "cgcnn", "neighbor_strategy": "k-nearest", "use_canonize": True}
_REQUIRED_OFF = ("standard_scalar_and_pca", "classification_threshold")
_REQUIRED_MODEL = {"name": "alignn", "output_features": 1}
_REQUIRED_MODEL_OFF = ("zero_inflated", "classification", "extra_features")
_TRANSFORMS = {"identity": "identity", "log": "log"}  # link function, and ours


def import_alignn(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    target: str | None = None,
    unit: str | None = None,
    license_weights: str | None = None,
    references: Iterable[str] = (),
) -> PretrainedModule:
    """Turn a published ALIGNN checkpoint into a module.

    Parameters
    ----------
    path : str or path-like
        Zip archive of a ``config.json`` and a checkpoint, such as ``mp_e_form_alignn.zip``, or a checkpoint
        such as ``checkpoint_300.pt``, beside which there may be a ``config.json``. Of several checkpoints in
        an archive ``best_model.pt`` is taken, or that of the highest number.
    name : str, optional
        Name of the module; by default the file's name up to its first dot.
    target : str, optional
        What the checkpoint predicts; by default the target that ``config.json`` names, or the module's name.
    unit : str, optional
        Unit of the target, which files do not say; by default ``"unknown"``.
    license_weights : str, optional
        SPDX identifier of the licence of the weights.
    references : iterable of str, optional
        DOIs to cite, besides that of ALIGNN.

    Returns
    -------
    PretrainedModule
        With the published last layer as head, graphs with ``ties="reference"`` as the weights were trained
        on, and golden outputs.

    Raises
    ------
    UnsafeFileError
        If the file would call code; nothing was called.
    ArchitectureMismatchError
        If it holds another network, or ``config.json`` describes another one; shows the difference.
    CorruptModuleError
        If it is truncated, neither an archive nor a checkpoint, or if its weights are not all finite.
    ModuleFormatError
        If ``config.json`` says that labels were multiplied by what is no positive number.
    """
    published = _read(Path(path))
    options = _options(published)
    _check_config(published, options)
    settings = _graph_settings(published)
    _check_weights(published, options, settings)
    name = name or published.path.name.partition(".")[0]
    # The published last layer takes features as they are, which is what a new scale does.
    unscaled = FeatureScale(options["width"]).state_dict()
    scale = {f"head.scale.{key}": tensor for key, tensor in unscaled.items()}
    card = ModuleCard(
        name=name,
        backbone="alignn",
        backbone_options=options,
        graph=settings.to_dict(),
        atom_table=ALIGNN.atom_table,
        head={"n_in": options["width"], "widths": [], "n_out": 1},
        target=target or _named_target(published.config) or name,
        unit=unit or "unknown",
        target_transform=_transform(published),
        n_train=_n_train(published.config),
        license_weights=license_weights,
        references=[REFERENCE, *references, f"imported from {published.path.name}, {published.member}"],
    )
    return PretrainedModule(card, {**rename(published.state), **scale}).with_golden()


# --- files --------------------------------------------------------------------------------------------


class _Published(NamedTuple):
    """What was found in a file: weights under their published names, and what is said about them."""

    path: Path
    member: str
    state: dict[str, Tensor]
    config: dict[str, Any]


def _read(path: Path) -> _Published:
    content = read_bytes(path)
    files = _archive(content, path)
    if files is None:
        beside = path.with_name(CONFIG)
        config = beside.read_bytes() if beside.is_file() else b"{}"
        member = path.name
    else:
        member, content, config = files
    source = f"{path} ({member})" if member != path.name else str(path)
    checkpoint = unpack_checkpoint(content, source, ignored=TRAINING_STATE)
    return _Published(path, member, _state(checkpoint, source), _config(config, path))


def _archive(content: bytes, path: Path) -> tuple[str, bytes, bytes] | None:
    """Return name and content of the checkpoint in an archive, and its config; None for a plain file.

    Checkpoints of PyTorch are zip files too, of members that are named otherwise.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {PurePosixPath(name): name for name in archive.namelist()}
            names = [name for name in members if not _is_of_macos(name)]
            checkpoints = [name for name in names if _is_checkpoint(name.name)]
            configs = [name for name in names if name.name == CONFIG]
            if not checkpoints and not configs:
                return None
            if not checkpoints:
                raise ArchitectureMismatchError(
                    f"{path} holds no checkpoint: expected 'checkpoint_*.pt' or 'best_model.pt', got "
                    f"{list(map(str, names))[:10]}. Pass an archive of a trained ALIGNN."
                )
            chosen = _last_saved(checkpoints, configs)
            beside = [name for name in configs if name.parent == chosen.parent] or configs
            config = archive.read(members[beside[-1]]) if beside else b"{}"
            return members[chosen], archive.read(members[chosen]), config
    except zipfile.BadZipFile as error:
        raise CorruptModuleError(f"{path} is a damaged archive ({error}); fetch it again.") from error


def _is_checkpoint(name: str) -> bool:
    return name == BEST or ("checkpoint_" in name and name.endswith(".pt"))


def _is_of_macos(name: PurePosixPath) -> bool:
    """Whether this is no file of the authors, but what macOS notes about one when it packs an archive."""
    return "__MACOSX" in name.parts or name.name.startswith(".")


def _last_saved(checkpoints: list[PurePosixPath], configs: list[PurePosixPath]) -> PurePosixPath:
    """Return the best model, or that of the highest number; of equals one that has a config beside it."""
    folders = {name.parent for name in configs}

    def rank(name: PurePosixPath) -> tuple[bool, int, bool]:
        number = re.search(r"(\d+)\.pt$", name.name)
        return name.name == BEST, int(number[1]) if number else -1, name.parent in folders

    return max(checkpoints, key=rank)


def _state(checkpoint: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """Return the weights, which newer files hold as they are."""
    state = checkpoint.get("model", checkpoint)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ArchitectureMismatchError(
            f"{source} is no ALIGNN checkpoint: expected weights, or a mapping 'model' of them, got entries "
            f"{sorted(map(str, checkpoint))[:10]}. Pass a file that the ALIGNN code saved."
        )
    bad = [str(name) for name, tensor in state.items() if not tensor.isfinite().all()]
    if bad:
        raise CorruptModuleError(
            f"{source} holds weights that are not finite numbers: {bad[:5]}. Its training diverged or the "
            "file was altered; pass another checkpoint."
        )
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _config(content: bytes, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(content)
    except ValueError as error:
        raise CorruptModuleError(f"{CONFIG} of {path} is no JSON ({error}); fetch it again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("model", {}), dict):
        raise CorruptModuleError(f"{CONFIG} of {path} must be a mapping with a mapping 'model'.")
    return config


# --- the network --------------------------------------------------------------------------------------


def _options(published: _Published) -> dict[str, Any]:
    """Derive the options of the backbone from shapes."""
    options = {}
    for option, (name, axis, default) in _SHAPES.items():
        tensor = published.state.get(name)
        options[option] = default if tensor is None or tensor.dim() <= axis else tensor.shape[axis]
    for option, pattern in _LAYERS.items():
        found = {int(match[1]) for match in map(re.compile(pattern).match, published.state) if match}
        options[option] = max(found, default=0) + 1
    return options


def _check_config(published: _Published, options: Mapping[str, Any]) -> None:
    """Refuse a config that describes what cannot be imported, or not these weights."""
    config, model = published.config, published.config.get("model", {})
    refused = [
        *_unlike(config, _REQUIRED, _REQUIRED_OFF),
        *_unlike(model, _REQUIRED_MODEL, _REQUIRED_MODEL_OFF),
    ]
    if model.get("link", "identity") not in list(_TRANSFORMS):
        refused.append(f"link is {model['link']!r}, expected one of {list(_TRANSFORMS)}")
    if refused:
        raise ArchitectureMismatchError(
            f"{published.path} cannot be imported, as its {CONFIG} says:\n"
            + "\n".join(f"! {line}" for line in refused)
            + "\nOnly networks of class ALIGNN that predict one number from 12-neighbour graphs can be."
        )
    differences = [
        f"! {theirs} is {model[theirs]!r} in {CONFIG}, {options[ours]} in the weights"
        for ours, theirs in _CONFIG_NAMES.items()
        if model.get(theirs, options[ours]) != options[ours]
    ]
    if differences:
        remedy = f"Use the {CONFIG} that was saved with the checkpoint."
        raise ArchitectureMismatchError(
            describe(differences, what=f"{CONFIG} of {published.path}", remedy=remedy)
        )


def _unlike(values: Mapping[str, Any], required: Mapping[str, Any], off: Iterable[str]) -> list[str]:
    """Return a line for each setting that is not as it must be; one that is not there is."""
    lines = [
        f"{name} is {values[name]!r}, expected {expected!r}"
        for name, expected in required.items()
        if values.get(name, expected) != expected
    ]
    return lines + [f"{name} is {values[name]!r}, expected none" for name in off if values.get(name)]


def _graph_settings(published: _Published) -> GraphSettings:
    given = {name: published.config[name] for name in ("cutoff", "max_neighbors") if name in published.config}
    return GraphSettings(ties="reference", angles=True, **given)


def _check_weights(published: _Published, options: dict[str, Any], settings: GraphSettings) -> None:
    """Compare names and shapes with those of the network of these options, and the Gaussians' centres."""
    with torch.device("meta"):
        backbone, head = ALIGNN(**options, graph_settings=settings), MLP(options["width"], widths=())
    expected = {
        **{f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()},
        **{f"head.{name}": tensor for name, tensor in head.named_parameters()},
    }
    differences = compare(expected, rename(published.state)) + _moved_centers(published, options, settings)
    if differences:
        remedy = (
            "Only unchanged networks of class ALIGNN with one output can be imported; relatives such as "
            "ALIGNNAtomWise have other layers."
        )
        raise ArchitectureMismatchError(
            describe(differences, what=f"The ALIGNN nearest to {published.path}", remedy=remedy)
        )


def _moved_centers(published: _Published, options: Mapping[str, Any], settings: GraphSettings) -> list[str]:
    expected = {
        "edge_embedding.0.centers": torch.linspace(0.0, settings.cutoff, options["n_radial"]),
        "angle_embedding.0.centers": torch.linspace(-1.0, 1.0, options["n_angular"]),
    }
    found = {name: published.state.get(name, centers) for name, centers in expected.items()}
    return [
        f"! {name} holds {_span(found[name])}, expected {_span(centers)}"
        for name, centers in expected.items()
        if found[name].shape != centers.shape or not torch.allclose(found[name].float(), centers, atol=1e-5)
    ]


def _span(centers: Tensor) -> str:
    values = centers.flatten().tolist()
    return f"{len(values)} from {values[0]:g} to {values[-1]:g}" if values else "none"


# --- the card -----------------------------------------------------------------------------------------


def _named_target(config: Mapping[str, Any]) -> str | None:
    target = config.get("target")
    return target if isinstance(target, str) and target != "target" else None


def _transform(published: _Published) -> dict[str, Any]:
    """Return how an output becomes a label; labels may have been multiplied before training."""
    name = _TRANSFORMS[published.config.get("model", {}).get("link", "identity")]
    factor = _factor(published)
    scale = {"mean": -math.log(factor), "std": 1.0} if name == "log" else {"mean": 0.0, "std": 1.0 / factor}
    return {"name": name, **scale, "right_skewed": False}


def _factor(published: _Published) -> float:
    factor = published.config.get("target_multiplication_factor")
    if factor is None:
        return 1.0
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor < math.inf:
        raise ModuleFormatError(
            f"{CONFIG} of {published.path}: 'target_multiplication_factor' must be the positive number that "
            f"labels were multiplied by. Got {factor!r}. Correct it, or write null if they were not."
        )
    return float(factor)


def _n_train(config: Mapping[str, Any]) -> int | None:
    n_train = config.get("n_train")
    return n_train if isinstance(n_train, int) and n_train > 0 else None
