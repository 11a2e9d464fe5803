"""The published weights as modules: ``chgnet:0.3.0``, ``chgnet:0.2.0`` and ``chgnet:r2scan``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from matmosaic.exceptions import StoreError, UnknownNameError, suggest
from matmosaic.modules import ModuleCard, PretrainedModule, check_module_name
from matmosaic_chgnet.published import WEIGHT_SETS, read_weights

if TYPE_CHECKING:
    from torch import Tensor

#: Where the cards lie; the weights are part of the package ``chgnet``.
CARDS = Path(__file__).with_name("cards")


class CHGNetStore:
    """The read-only store of the published weights of CHGNet: ``chgnet:NAME``.

    Cards are part of this package; weights are read from the files of the installed package ``chgnet``, which
    is not imported.

    Examples
    --------
    >>> CHGNetStore().names()
    ['0.2.0', '0.3.0', 'r2scan']
    """

    contract: ClassVar[int] = 1

    def names(self) -> list[str]:
        """Return the names of all published sets of weights, sorted."""
        return sorted(WEIGHT_SETS)

    def card(self, name: str) -> ModuleCard:
        """Return the card of a set of weights; reads no weights.

        Raises
        ------
        UnknownNameError
            If there is no such set.
        """
        return ModuleCard.from_json(self._card_text(name), source=str(CARDS / f"{name}.json"))

    def load(self, name: str) -> PretrainedModule:
        """Return a module whose checksum and golden outputs were checked.

        Raises
        ------
        UnknownNameError
            If there is no such set of weights.
        StoreError
            If the package ``chgnet`` is not installed, or lacks the file.
        CorruptModuleError
            If the weights in it are not those that the card was made for.
        ArchitectureMismatchError
            If they are those of another architecture.
        """
        import safetensors.torch

        contents = {"card.json": self._card_text(name)}
        weights = module_weights(read_weights(name))
        contents["weights.safetensors"] = safetensors.torch.save(dict(sorted(weights.items())))
        return PretrainedModule.from_files(contents, source=f"chgnet:{name}")

    def _card_text(self, name: str) -> bytes:
        if check_module_name(name) not in WEIGHT_SETS:
            raise UnknownNameError(suggest(name, self.names(), what="module") + " (store 'chgnet')")
        path = CARDS / f"{name}.json"
        try:
            return path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"Card {path} cannot be read ({error}); install 'matmosaic-chgnet' again."
            ) from error

    def __repr__(self) -> str:
        return "CHGNetStore()"


def module_weights(backbone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a module: a backbone's, and a linear head that passes on the energy.

    Parameters
    ----------
    backbone : mapping of str to Tensor
        State dict of a :class:`~matmosaic_chgnet.CHGNet` whose features end with the energy.

    Returns
    -------
    dict of str to Tensor
        With the prefixes ``backbone.`` and ``head.``.
    """
    import torch

    from matmosaic_chgnet.backbone import n_features_of

    n_features = n_features_of(backbone["stages.embedding.atoms.weight"].shape[1])
    head = {
        "scale.mean": torch.zeros(n_features),
        "scale.std": torch.ones(n_features),
        "layers.0.weight": torch.eye(n_features)[-1:].clone(),
        "layers.0.bias": torch.zeros(1),
    }
    return _prefixed("backbone.", backbone) | _prefixed("head.", head)


def _prefixed(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}
