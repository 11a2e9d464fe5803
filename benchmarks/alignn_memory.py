"""Peak memory of training ALIGNN on few and on many structures, in the same batches.

Structures of the fine-tuning paper's sets become one graph table per number of structures, which is
saved; a fresh process reads each and trains one epoch. ``same batches``: only the rows of the smallest table
are trained on, the others have weight 0, so that the table alone is larger. ``all rows``: with more rows
the largest of the random batches is larger, too. Labels are random: they cost what real ones do.

    python benchmarks/alignn_memory.py
    python benchmarks/alignn_memory.py --rows 1000,8000 --small --uncompressed

To reach: the peak grows by less than the table does, plus a tenth; a table takes at most 40 kB a structure.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import missing, parser, report

from matmosaic import GraphTable, TransferRegressor
from matmosaic.backbones.alignn import ALIGNN

SETS = ("gv", "fe", "bg")


def read(data: Path, n_rows: int) -> list[dict[str, Any]]:
    """Return structures of all sets in random order, as dictionaries that pymatgen reads."""
    lines: list[str] = []
    for name in SETS:
        with gzip.open(data / "devi" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            lines += file
    chosen = np.random.default_rng(0).permutation(len(lines))[:n_rows]
    return [json.loads(lines[row]) for row in chosen]


def make_table(arguments: argparse.Namespace) -> None:
    """Build a table and save it; runs in a process of its own."""
    from pymatgen.core import Structure

    records = read(arguments.data, arguments.build)
    structures = [Structure(one["lattice"], one["species"], one["frac_coords"]) for one in records]
    table = GraphTable.from_structures(structures, network(arguments), compressed=not arguments.uncompressed)
    table.save(arguments.table)


def network(arguments: argparse.Namespace) -> ALIGNN:
    """Return the network that is trained."""
    return ALIGNN.small() if arguments.small else ALIGNN()


def train(arguments: argparse.Namespace) -> None:
    """Train one epoch on a saved table and print the peak; runs in a process of its own."""
    import resource

    table = GraphTable.load(arguments.table)
    labels = np.random.default_rng(0).normal(size=len(table))
    weight = np.arange(len(table)) < (arguments.trained or len(table))
    model = TransferRegressor(
        None,
        backbone="alignn",
        backbone_options=network(arguments).options(),
        max_epochs=1,
        batch_size=arguments.batch_size,
        validation_fraction=0,
        random_state=0,
    )
    model.fit(table, labels, sample_weight=weight.astype(float))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kilobytes = peak / 1024 if sys.platform == "darwin" else peak
    found = {"table, MB": table.nbytes / 1e6, "peak, MB": kilobytes * 1024 / 1e6}
    if not arguments.uncompressed:  # Those angles are counted when a batch derives them.
        found["angles of the largest batch"] = largest_batch(table[weight], arguments.batch_size)
    print(json.dumps(found))


def largest_batch(table: GraphTable, batch_size: int, n_epochs: int = 20) -> float:
    """Return the number of angles in the largest random batch of an epoch, the mean of some epochs."""
    n_angles = table.pointers["angle"].diff().numpy()
    rng = np.random.default_rng(1)
    cuts = range(0, len(table), batch_size)
    epochs = [np.add.reduceat(rng.permutation(n_angles), cuts).max() for _ in range(n_epochs)]
    return float(np.mean(epochs))


def parse() -> argparse.Namespace:
    """Read the command line."""
    options = parser(__doc__)
    options.add_argument(
        "--rows", type=lambda text: [int(one) for one in text.split(",")], default=[1000, 8000]
    )
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument("--small", action="store_true", help="the small network")
    options.add_argument("--uncompressed", action="store_true")
    options.add_argument("--build", type=int, help=argparse.SUPPRESS)
    options.add_argument("--trained", type=int, help=argparse.SUPPRESS)
    options.add_argument("--table", type=Path, help=argparse.SUPPRESS)
    return options.parse_args()


def measure(n_rows: int, n_same: int, table: Path) -> list[dict[str, Any]]:
    """Return what training on some structures takes, in MB."""
    again = [sys.executable, *sys.argv, "--table", str(table)]
    subprocess.run([*again, "--build", str(n_rows)], check=True)
    rows = []
    for what, n_trained in {"same batches": n_same, "all rows": n_rows}.items():
        command = [*again, "--trained", str(n_trained)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        rows.append({"trained": what, "structures": n_rows, **found})
    return rows


def main() -> None:
    """Run from the command line."""
    arguments = parse()
    if missing(arguments.data, "devi/gv.jsonl.gz"):
        return
    if arguments.table:
        return make_table(arguments) if arguments.build else train(arguments)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.safetensors"
        rows = [row for n in arguments.rows for row in measure(n, arguments.rows[0], table)]
    first = {row["trained"]: row for row in reversed(rows)}
    for row in rows:
        grown = {name: row[name] - first[row["trained"]][name] for name in ("table, MB", "peak, MB")}
        row["kB a structure"] = 1000 * row["table, MB"] / row["structures"]
        row["peak grows by"], row["table grows by"] = grown["peak, MB"], grown["table, MB"]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
