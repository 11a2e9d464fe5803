"""Write the element descriptors of CGCNN from the table that matminer packages.

The descriptors are facts of the periodic table (group, period, electronegativity, covalent radius,
valence electrons, first ionisation energy, electron affinity, block, atomic volume), one-hot in
bins (Xie, Grossman, Phys. Rev. Lett. 120, 145301, 2018, DOI 10.1103/PhysRevLett.120.145301).

Run ``python tools/make_element_table.py``; it rewrites ``src/matmosaic/backbones/cgcnn_elements.json``.
"""

from __future__ import annotations

import json
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

OUTPUT = Path(__file__).parent.parent / "src" / "matmosaic" / "backbones" / "cgcnn_elements.json"
SOURCE = "cgcnn_atom_feature.json"


def main() -> None:
    """Write the table, each element as the positions of its ones."""
    table = json.loads(files("matminer.utils").joinpath("data_files", SOURCE).read_text(encoding="utf-8"))
    elements = {}
    for number in sorted(table, key=int):
        values = table[number]
        if set(values) - {0, 1}:
            raise ValueError(f"Element {number} has descriptors other than 0 and 1: {sorted(set(values))}.")
        elements[number] = [position for position, value in enumerate(values) if value]
    document = {
        "name": "cgcnn-92",
        "source": f"matminer {version('matminer')}, matminer/utils/data_files/{SOURCE}",
        "n_descriptors": len(values),
        "sha256": sha256(json.dumps(elements).encode()).hexdigest(),
        "elements": elements,
    }
    rows = ",\n".join(f"    {json.dumps(number)}: {json.dumps(ones)}" for number, ones in elements.items())
    head = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in document.items() if k != "elements")
    OUTPUT.write_text(f'{{\n{head},\n  "elements": {{\n{rows}\n  }}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
