"""Composing against the base alone, with all, 100 and 10 labels of eight tasks.

Wang et al., MoMa, arXiv:2502.15483, compare theirs so in Table 4, on sets and splits of their own. Tasks and
splits here are those of Chang, Wang, Ertekin, npj Comput. Mater. 8, 242 (2022), DOI
10.1038/s41524-022-00929-x; of each, the first training rows are kept, and as many validation rows.

    python benchmarks/make_hub.py --output hubs/chgnet
    python benchmarks/fewshot.py --hub hubs/chgnet

The table gives, for each number of labels, the error of each method relative to transfer from the base, the
geometric mean over tasks and splits, and in how many of these it is lower. Options and results are those of
``hub_tables.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import circumstances, missing, print_table
from hub_tables import arguments_parser, collect, summary

METHODS = ["transfer", "composed", "composed-all-average", "svr"]
AGAINST = "transfer"


def relative(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per number of labels and method: errors relative to transfer on the same split."""
    error = {(row["labels"], row["method"], row["task"], row["seed"]): row["mae"] for row in rows}
    lines = []
    for labels, method in dict.fromkeys(key[:2] for key in error):
        logs: dict[str, list[float]] = {}
        for *_, task, seed in (key for key in error if key[:2] == (labels, method)):
            ratio = error[labels, method, task, seed] / error[labels, AGAINST, task, seed]
            logs.setdefault(task, []).append(np.log(ratio))
        every = np.concatenate(list(logs.values()))
        line = {
            "labels": labels or "all",
            "method": method,
            "of": len(every),
            "lower": int((every < 0).sum()),
        }
        line["error / transfer"] = float(np.exp(every.mean()))
        line["each task"] = ", ".join(f"{np.exp(np.mean(some)):.3f}" for some in logs.values())
        lines.append(line)
    return lines


def main() -> int:
    """Run from the command line."""
    options = arguments_parser(__doc__)
    options.set_defaults(methods=METHODS, labels=[None, 100, 10])
    arguments = options.parse_args()
    if missing(arguments.data):
        return 0
    rows = collect(arguments)
    print_table(summary(rows), {})
    print_table(relative(rows), circumstances())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
