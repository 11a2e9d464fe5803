"""Weights as bytes, and weights against the network that they are meant for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from matmosaic.exceptions import ArchitectureMismatchError, CorruptModuleError
from matmosaic.modules.card import ModuleCard

#: What the weights of adapters are named, in a network and in a module that holds nothing else.
ADAPTER_PREFIX = "backbone.adapters."

_LINES_SHOWN = 12


def to_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Return the content of a safetensors file; the same weights give the same bytes."""
    return safetensors.torch.save({name: weights[name] for name in sorted(weights)})


def from_bytes(content: bytes, *, source: str) -> dict[str, Tensor]:
    """Return the weights in the content of a safetensors file."""
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        message = f"{source} is no safetensors file ({error}); restore it from its origin."
        raise CorruptModuleError(message) from error


def sha256(content: bytes) -> str:
    """Return the checksum of a weights file as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def check_sha256(expected: str | None, content: bytes, *, source: str) -> None:
    """Raise CorruptModuleError unless a card's checksum is that of this weights file."""
    got = sha256(content)
    if got != expected:
        raise CorruptModuleError(
            f"{source} was truncated or altered: its card expects sha256 {expected}, got {got} "
            f"({len(content)} bytes). Restore it from its origin."
        )


def check_prefixes(card: ModuleCard, weights: Mapping[str, Tensor]) -> None:
    """Raise ArchitectureMismatchError for weights of neither the network nor the head of a card."""
    network = ADAPTER_PREFIX if card.kind == "adapter" else "backbone."
    allowed = (network,) if card.head is None else (network, "head.")
    strays = sorted(name for name in weights if not name.startswith(allowed))
    if strays:
        raise ArchitectureMismatchError(
            f"Weights of module {card.name!r} must be named {' or '.join(prefix + '*' for prefix in allowed)}"
            f"{' (its card has no head)' if card.head is None else ''}. Got {strays[:5]}."
        )


def copy_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU that share no memory with a network."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def fill(network: nn.Module, weights: Mapping[str, Tensor], *, what: str) -> None:
    """Load weights into a network; raise ArchitectureMismatchError showing what does not fit."""
    differences = compare(network.state_dict(), weights)
    if differences:
        remedy = "Correct the card, or use the weights it was written for."
        raise ArchitectureMismatchError(describe(differences, what=what, remedy=remedy))
    network.load_state_dict(dict(weights), strict=True)


def compare(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> list[str]:
    """Return one line for each missing, unexpected or misshapen tensor."""
    missing = [f"- {name} {_shape(expected[name])} is missing" for name in expected if name not in got]
    unexpected = [f"+ {name} {_shape(got[name])} is unexpected" for name in got if name not in expected]
    misshapen = [
        f"! {name} is {_shape(got[name])}, expected {_shape(expected[name])}"
        for name in expected
        if name in got and expected[name].shape != got[name].shape
    ]
    return missing + unexpected + misshapen


def describe(differences: list[str], *, what: str, remedy: str) -> str:
    """Return the message that shows how weights differ from what is expected."""
    shown = differences[:_LINES_SHOWN]
    if len(differences) > len(shown):
        shown.append(f"... and {len(differences) - len(shown)} more")
    lines = "\n".join(shown)
    return f"{what} does not fit its weights:\n{lines}\n{remedy}"


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "scalar"
