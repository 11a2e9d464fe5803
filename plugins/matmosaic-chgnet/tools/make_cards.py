"""Write the cards of the published weights, with checksums and golden outputs.

    python plugins/matmosaic-chgnet/tools/make_cards.py

To be run again when the architecture, its graphs or the golden crystals change.
"""

from __future__ import annotations

from typing import Any

from matmosaic_chgnet.backbone import CHGNet, graph_settings
from matmosaic_chgnet.published import WEIGHT_SETS, read_weights
from matmosaic_chgnet.store import CARDS, module_weights

from matmosaic.backbones import MLP
from matmosaic.modules import ModuleCard, PretrainedModule

PAPER = "Deng et al., Nat. Mach. Intell. 5, 1031 (2023), DOI 10.1038/s42256-023-00716-3"
TRANSFER_PAPER = (
    "Huang et al., Cross-functional transferability in foundation machine learning interatomic potentials"
)
MPTRJ = {"name": "MPtrj (1,580,395 frames; {share} of it to train)", "doi": "10.6084/m9.figshare.23713842"}
R2SCAN = {"name": "MP-r2SCAN (8/10 of it to train)", "doi": "10.6084/m9.figshare.28245650"}
# Mean absolute errors in eV/atom, total energies, as the package states them beside the weights.
# Lists of modules show the first.
ERRORS = {
    "0.2.0": {"test": 0.030, "validation": 0.030, "train": 0.022},
    "0.3.0": {"test": 0.029, "validation": 0.029, "train": 0.026},
    "r2scan": {"test": 0.01676, "validation": 0.01548, "train": 0.01182},
}
DATA = {
    "0.2.0": {**MPTRJ, "name": MPTRJ["name"].format(share="8/10")},
    "0.3.0": {**MPTRJ, "name": MPTRJ["name"].format(share="9/10")},
    "r2scan": R2SCAN,
}


def make_card(name: str, base: str | None) -> ModuleCard:
    """Return the card of a set of weights, with checksum and golden outputs."""
    weights = WEIGHT_SETS[name]
    settings = graph_settings(weights.cutoff)
    backbone = CHGNet(**weights.options, graph_settings=settings)
    card = ModuleCard(
        name=name,
        backbone="chgnet",
        backbone_options=backbone.options(),
        graph=settings.to_dict(),
        base=base,
        head=MLP(backbone.n_features, widths=()).options(),
        target="energy relative to a fitted composition reference",
        unit="eV/atom",
        n_train=None,  # Published is how many frames there are, and which share was trained on.
        dataset=DATA[name],
        metrics=[metric(value, split) for split, value in ERRORS[name].items()],
        license_code="MIT",
        license_weights="BSD-3-Clause",
        references=[PAPER, TRANSFER_PAPER] if name == "r2scan" else [PAPER],
    )
    return PretrainedModule(card, module_weights(read_weights(name))).with_golden().card


def metric(value: float, split: str) -> dict[str, Any]:
    """Return a mean absolute error as a card has it."""
    return {"name": "MAE", "value": value, "unit": "eV/atom", "split": split}


def main() -> None:
    """Run from the command line."""
    CARDS.mkdir(exist_ok=True)
    base = None
    for name in sorted(WEIGHT_SETS):
        card = make_card(name, base if name == "r2scan" else None)  # trained on from 0.3.0
        base = card.sha256 if name == "0.3.0" else base
        (CARDS / f"{name}.json").write_text(card.to_json(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
