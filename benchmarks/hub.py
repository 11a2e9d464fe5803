"""Time to open a hub of many modules, list it and filter it, in a fresh process and in one that runs.

python benchmarks/hub.py [--modules 1000]

The hub has an index alone: listing that read a card or weights would fail.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from matmosaic_hub import HubStore
from matmosaic_hub.index import CARD_FILE, INDEX_FILE, WEIGHTS_FILE, Entry, File, Index

from matmosaic.modules import DirectoryStore, ModuleCard
from matmosaic.modules.bundled_store import BUNDLED_MODULES

FRESH = """
import sys
from matmosaic.modules import list_modules
from matmosaic.modules.references import read_summary
found = list_modules(sys.argv[1] + "#*")
found = [one for one in found if read_summary(one).matches("property", "property 7*")]
assert len(found) == int(sys.argv[2]) and "torch" not in sys.modules
"""


def index_of(n: int) -> Index:
    """Return an index of modules with cards like those of the bundled ones, each of a property of its own."""
    cards = list(map(DirectoryStore(BUNDLED_MODULES).card, DirectoryStore(BUNDLED_MODULES).names()))
    names = (replace(cards[i % len(cards)], name=f"module-{i}", target=f"property {i}") for i in range(n))
    return Index({card.name: {card.version: entry_of(card)} for card in names}, source="the benchmark")


def entry_of(card: ModuleCard) -> Entry:
    """Return an entry with files that are not there."""
    fields = {key: value for key, value in card.to_dict().items() if key not in ("golden", "fingerprints")}
    files = {CARD_FILE: File("0" * 64, 1), WEIGHTS_FILE: File("0" * 64, 1)}
    return Entry(card.name, card.version, fields, files)


def median_seconds(call: Callable[[], object], repeats: int = 7) -> str:
    """Return the median wall and processor time; the latter misses other processes on Windows."""
    wall, processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), sum(os.times()[:4])
        call()
        wall.append(time.perf_counter() - start)
        processor.append(sum(os.times()[:4]) - used)
    return f"{statistics.median(wall):.3f} s (processor {statistics.median(processor):.2f} s)"


def filtered(url: str) -> list[str]:
    """Open a hub, list it and return what a filter lets through."""
    store = HubStore(url)
    return [name for name in store.names() if store.summary(name).matches("property", "property 7*")]


def run_fresh(arguments: list[str]) -> None:
    """Run Python with these arguments in a process of its own."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modules", type=int, default=1000)
    n = parser.parse_args().modules
    with tempfile.TemporaryDirectory() as folder:
        content = index_of(n).to_bytes()
        (Path(folder) / INDEX_FILE).write_bytes(content)
        url = Path(folder).as_uri()
        n_found = len(filtered(url))
        fresh = ["-c", FRESH, url, str(n_found)]
        command = ["-m", "matmosaic", "modules", "list", url, "--filter", "property=property 7*"]
        print(f"{n} modules, index of {len(content) / 1e6:.2f} MB, {n_found} pass the filter")
        print(f"in a process that runs    {median_seconds(lambda: filtered(url))}")
        print(f"in a fresh process        {median_seconds(lambda: run_fresh(fresh))}")
        print(f"matmosaic modules list    {median_seconds(lambda: run_fresh(command))}")
        print(f"(Python's start alone     {median_seconds(lambda: run_fresh(['-c', 'pass']))})")
    assert len(json.loads(content)["modules"]) == n


if __name__ == "__main__":
    main()
