"""Import published CGCNN checkpoints.

Two families are known: those of the original code (Xie, Grossman, Phys. Rev. Lett. 120, 145301
(2018), DOI 10.1103/PhysRevLett.120.145301) and those of the mixture-of-experts paper (Chang, Wang,
Ertekin, npj Comput. Mater. 8, 242 (2022), DOI 10.1038/s41524-022-00929-x). Their networks have the
same parameters; widths and numbers of layers are read from the shapes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from matmosaic.backbones import MLP
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.backbones.layers import FeatureScale
from matmosaic.exceptions import ArchitectureMismatchError, CorruptModuleError
from matmosaic.graphs import GraphSettings
from matmosaic.modules._weights import compare, describe
from matmosaic.modules.card import ModuleCard
from matmosaic.modules.importers._checkpoint import read_checkpoint
from matmosaic.modules.module import PretrainedModule

logger = logging.getLogger(__name__)

REFERENCE = "10.1103/PhysRevLett.120.145301"

# Published name of each part, and ours. The layers of the head are numbered in forward order.
_BACKBONE_NAMES = [
    (r"embedding\.", lambda match: "backbone.stages.embedding.linear."),
    (r"convs\.(\d+)\.fc_full\.", lambda match: f"backbone.stages.conv_{int(match[1]) + 1}.gate."),
    (r"convs\.(\d+)\.bn1\.", lambda match: f"backbone.stages.conv_{int(match[1]) + 1}.bond_norm."),
    (r"convs\.(\d+)\.bn2\.", lambda match: f"backbone.stages.conv_{int(match[1]) + 1}.atom_norm."),
]


def import_cgcnn(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    target: str | None = None,
    unit: str | None = None,
    license_weights: str | None = None,
    references: Iterable[str] = (),
) -> PretrainedModule:
    """Turn a published CGCNN checkpoint into a module.

    Parameters
    ----------
    path : str or path-like
        File such as ``mp_eform.pth.tar``.
    name : str, optional
        Name of the module; by default the file's name up to its first dot.
    target : str, optional
        What the checkpoint predicts, which it does not say; by default the module's name.
    unit : str, optional
        Unit of the target, which it does not say; by default ``"unknown"``.
    license_weights : str, optional
        SPDX identifier of the licence of the weights.
    references : iterable of str, optional
        DOIs to cite, besides that of CGCNN.

    Returns
    -------
    PretrainedModule
        With the published head, the normaliser's mean and standard deviation as target transform,
        the best validation error as metric, graphs with ``ties="reference"`` as the weights were
        trained on, and golden outputs.

    Raises
    ------
    UnsafeFileError
        If the file would call code; nothing was called.
    ArchitectureMismatchError
        If it holds another network; the message shows the difference.
    CorruptModuleError
        If it is truncated or no checkpoint.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    _check_regression(checkpoint, path)
    weights = _rename(_state(checkpoint, path))
    options, head = _architecture(weights, path)
    # Published heads take features as they are, which is what a new scale does.
    unscaled = FeatureScale(head["n_in"]).state_dict()
    weights |= {f"head.scale.{name}": tensor for name, tensor in unscaled.items()}
    name = name or path.name.partition(".")[0]
    card = ModuleCard(
        name=name,
        backbone="cgcnn",
        backbone_options=options,
        graph=GraphSettings(ties="reference").to_dict(),
        atom_table=CGCNN.atom_table,
        head=head,
        target=target or name,
        unit=unit or "unknown",
        target_transform=_transform(_field(checkpoint, "normalizer", path), path),
        metrics=_metrics(checkpoint, unit or "unknown"),
        license_weights=license_weights,
        references=[REFERENCE, *references, *_provenance(checkpoint, path)],
    )
    return PretrainedModule(card, weights).with_golden()


def _field(checkpoint: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(checkpoint.get(name), Mapping):
        found = sorted(map(str, checkpoint))[:10]
        raise ArchitectureMismatchError(
            f"{path} is no CGCNN checkpoint: expected a mapping {name!r}, got entries {found}. "
            "Pass a file that the CGCNN code saved."
        )
    return checkpoint[name]


def _state(checkpoint: Mapping[str, Any], path: Path) -> Mapping[str, Tensor]:
    state = _field(checkpoint, "state_dict", path)
    strays = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if strays:
        raise ArchitectureMismatchError(
            f"{path}: 'state_dict' must map names to tensors. Got others for {strays[:5]}."
        )
    return state


def _check_regression(checkpoint: Mapping[str, Any], path: Path) -> None:
    arguments = checkpoint.get("args")
    arguments = arguments if isinstance(arguments, Mapping) else getattr(arguments, "__dict__", {})
    task = arguments.get("task", "regression")
    if task != "regression":
        raise ArchitectureMismatchError(f"{path} was trained for {task!r}; only regression can be imported.")


def _rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the published parameters our names; unknown ones keep theirs and are reported later."""
    hidden = sorted({int(match[1]) for match in map(re.compile(r"fcs\.(\d+)\.").match, state) if match})
    layers = ["conv_to_fc", *(f"fcs.{number}" for number in hidden), "fc_out"]
    rules: list[tuple[str, Callable[[re.Match[str]], str]]] = [
        *_BACKBONE_NAMES,
        *((re.escape(f"{layer}."), _constant(f"head.layers.{i}.")) for i, layer in enumerate(layers)),
    ]
    return {_renamed(name, rules): tensor for name, tensor in state.items()}


def _constant(text: str) -> Callable[[re.Match[str]], str]:
    return lambda match: text


def _renamed(name: str, rules: list[tuple[str, Callable[[re.Match[str]], str]]]) -> str:
    for pattern, replacement in rules:
        if match := re.match(pattern, name):
            return replacement(match) + name[match.end() :]
    return name


def _architecture(weights: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Derive the options of backbone and head from shapes, and check every other shape against them."""
    width = _size(weights, "backbone.stages.embedding.linear.weight", 0, default=64)
    numbers = {match[1] for match in map(re.compile(r".*\.conv_(\d+)\.").match, weights) if match}
    n_layers = len([name for name in weights if re.fullmatch(r"head\.layers\.\d+\.weight", name)])
    widths = [_size(weights, f"head.layers.{i}.weight", 0, default=width) for i in range(n_layers - 1)]
    backbone = CGCNN(width=width, n_convolutions=len(numbers))
    head = MLP(width, widths=widths)
    expected = {
        **{f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()},
        **{f"head.{name}": tensor for name, tensor in head.named_parameters()},
    }
    differences = compare(expected, weights)
    if differences:
        remedy = "Only unchanged networks of the published CGCNN codes can be imported."
        what = f"The CGCNN nearest to {path}"
        raise ArchitectureMismatchError(describe(differences, what=what, remedy=remedy))
    return backbone.options(), head.options()


def _size(weights: Mapping[str, Tensor], name: str, axis: int, *, default: int) -> int:
    tensor = weights.get(name)
    return default if tensor is None or tensor.dim() <= axis else tensor.shape[axis]


def _transform(normalizer: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if not {"mean", "std"} <= set(normalizer):
        raise CorruptModuleError(f"{path}: its normaliser lacks 'mean' or 'std'. Got {sorted(normalizer)}.")
    skewed = [name for name in ("right_skewed", "left_skewed") if normalizer.get(name)]
    if skewed:
        logger.warning(
            "%s was trained on labels transformed as %s: predictions are on that scale.", path, skewed
        )
    return {
        "name": "identity",
        "mean": float(normalizer["mean"]),
        "std": float(normalizer["std"]),
        "right_skewed": bool(normalizer.get("right_skewed", False)),
    }


def _metrics(checkpoint: Mapping[str, Any], unit: str) -> list[dict[str, Any]]:
    if "best_mae_error" not in checkpoint:
        return []
    value = float(torch.as_tensor(checkpoint["best_mae_error"]))
    return [{"name": "MAE", "value": value, "unit": unit, "split": "validation"}]


def _provenance(checkpoint: Mapping[str, Any], path: Path) -> list[str]:
    epoch = f", epoch {int(checkpoint['epoch'])}" if "epoch" in checkpoint else ""
    return [f"imported from {path.name}{epoch}"]
