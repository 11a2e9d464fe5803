"""What adapters cost against fine-tuning everything: what is stored, trained, and held in memory.

Each network is fine-tuned on structures of mp_phonons in a process of its own, once per strategy: everything,
the last layers, or adapters. CGCNN is a published extractor of width 64, ALIGNN has the published size and
random weights, CHGNet (where its plugin is installed) the published weights.

    python benchmarks/adapters.py
    python benchmarks/adapters.py --networks cgcnn --batch-size 250

``stored, kB`` is the weights file of the module. ``trained`` is the share of the network's parameters, and
``parameters`` their number; the head, which all strategies train, is left out. ``trunk`` is the number of
leading stages that are run once, need no gradient, and keep nothing for it. ``tensors, MB`` is what autograd
keeps from the forward to the backward pass of a batch (each memory once; weights and graphs left out), and
``optimiser, MB`` the gradients and the two moments of Adam. ``peak, MB`` is the resident memory that training
adds at its largest to that of the process with network and graphs; not on Windows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import load_task, missing, parser, published_module, report

from matmosaic import GraphTable, PretrainedModule, TransferRegressor, load_module
from matmosaic.backbones.alignn import ALIGNN
from matmosaic.exceptions import MatmosaicError
from matmosaic.modules import ModuleCard

TASK = "mp_phonons"
STRATEGIES = ("all", "last", "adapters")
N_EPOCHS = 3


def random_alignn() -> PretrainedModule:
    """Return an ALIGNN of the published size with random weights, as a module without head."""
    torch.manual_seed(0)
    network = ALIGNN()
    card = ModuleCard(
        name="alignn",
        backbone="alignn",
        backbone_options=network.options(),
        graph=network.graph_settings.to_dict(),
        target="nothing",
        unit="1",
    )
    return PretrainedModule(card, {f"backbone.{name}": value for name, value in network.state_dict().items()})


def module_of(network: str, data: Path) -> PretrainedModule:
    """Return what training starts from."""
    if network == "cgcnn":
        return published_module(data)
    return random_alignn() if network == "alignn" else load_module(f"{network}:0.3.0")


def available(network: str, data: Path) -> bool:
    """Return whether a network's module can be loaded; say why not."""
    try:
        return bool(module_of(network, data))
    except MatmosaicError as error:
        print(f"skipped {network}: {error}", file=sys.stderr)
        return False


def build(arguments: argparse.Namespace) -> None:
    """Build the graphs and save them; runs in a process of its own, as reading data takes memory."""
    structures, y = load_task(arguments.data, TASK)
    size = min(len(y), arguments.batches * arguments.batch_size)
    rows = np.random.default_rng(0).permutation(len(y))[:size]
    backbone = module_of(arguments.networks[0], arguments.data).build_backbone()
    GraphTable.from_structures([structures[row] for row in rows], backbone).save(arguments.table)


def train(arguments: argparse.Namespace) -> None:
    """Fine-tune one network by one strategy and print what it takes; runs in a process of its own."""
    (network,), (strategy,) = arguments.networks, arguments.strategies
    module, table = module_of(network, arguments.data), GraphTable.load(arguments.table)
    y = np.random.default_rng(0).normal(size=len(table))  # Random labels cost what real ones do.
    size = arguments.batch_size
    options = {"unfrozen": strategy, "batch_size": size, "validation_fraction": 0, "random_state": 0}
    TransferRegressor(module, **options, max_epochs=0).fit(table[:2], y[:2])  # What is imported late.
    before = peak_memory()
    estimator = TransferRegressor(module, **options, max_epochs=N_EPOCHS).fit(table, y)
    found = {"peak, MB": peak_memory() - before, "s per epoch": float(estimator.history_["dur"][1:].min())}
    print(json.dumps(costs(estimator, table[:size]) | found))


def peak_memory() -> float:
    """Return the largest resident memory of this process until now, in MB; not a number on Windows."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def costs(estimator: TransferRegressor, batch: GraphTable) -> dict[str, float]:
    """Return what is stored, trained and kept."""
    model = estimator.net_.module_
    module = estimator.to_module(name="x", target="frequency", unit="1/cm")
    own = sum(one.numel() for one in model.backbone.parameters() if one.requires_grad)
    trained = sum(one.nbytes for one in model.parameters() if one.requires_grad)
    return {
        "stored, kB": len(module.to_files()["weights.safetensors"]) / 1e3,
        "trained": own / sum(one.numel() for one in model.backbone.parameters()),
        "parameters": own,
        "trunk": model.depth,
        "tensors, MB": kept_tensors(model, batch),
        "optimiser, MB": 3 * trained / 1e6,
    }


def kept_tensors(model: torch.nn.Module, batch: GraphTable) -> float:
    """Return MB of what autograd keeps for the backward pass."""
    graphs = model.train().run_trunk(batch, batch_size=len(batch)).select(range(len(batch)))
    given = [*model.parameters(), *model.buffers(), *graphs.to_dict().values()]
    known = {one.untyped_storage().data_ptr() for one in given if isinstance(one, torch.Tensor)}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(graphs)
    assert output.requires_grad  # Until here the tensors live, so that no address is given twice.
    return sum(kept.values()) / 1e6


def parse() -> argparse.Namespace:
    """Read the command line."""
    options = parser(__doc__)

    def names(text: str) -> list[str]:
        return text.split(",")

    options.add_argument("--networks", type=names, default=["cgcnn", "alignn", "chgnet"])
    options.add_argument("--strategies", type=names, default=list(STRATEGIES))
    options.add_argument("--batch-size", type=int, default=16)
    options.add_argument("--batches", type=int, default=8)
    options.add_argument("--build", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--table", type=Path, help=argparse.SUPPRESS)
    return options.parse_args()


def main() -> None:
    """Run from the command line."""
    arguments = parse()
    if missing(arguments.data, f"moe/{TASK}.json.gz"):
        return
    if arguments.table:
        return build(arguments) if arguments.build else train(arguments)
    rows = []
    for network in arguments.networks:
        if not available(network, arguments.data):
            continue
        with tempfile.TemporaryDirectory() as folder:
            table = str(Path(folder) / "table.safetensors")
            again = [sys.executable, *sys.argv, "--table", table, "--networks", network]
            subprocess.run([*again, "--build"], check=True)
            for strategy in arguments.strategies:
                command = [*again, "--strategies", strategy]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                rows.append({"network": network, "unfrozen": strategy, **found})
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
