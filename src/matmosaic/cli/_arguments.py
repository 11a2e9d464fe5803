"""Options that commands share, and the forms of their values."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from typing import Any

from matmosaic.exceptions import InvalidParameterError

DEVICES = ("auto", "cpu", "cuda", "mps")
HEADS = ("new", "inherit")
GUARDS = ("none", "report", "fallback")
AGGREGATIONS = ("add", "concat", "ensemble")
COMBINATIONS = ("parameters", "features")
DATA_HELP = (
    "a matminer table (.json), JSON lines, extended XYZ, parquet, a folder of CIFs with id_prop.csv, "
    "a folder or pattern of CIF or POSCAR files, or bundled:alloys"
)
MODULE_HELP = "a module: store:name such as bundled:emt-eform, URL#name, or the path of its directory"
REFERENCE_HELP = f"{MODULE_HELP}; globs match many"
FEATURIZER_HELP = "for probe and mixtures also featurizer:NAME"


def common_options(*, nested: bool = False) -> argparse.ArgumentParser:
    """Return the parent parser with the options of every command.

    Those of a command ``nested`` in another one that takes them, too, leave what was given before it.
    """
    unset = argparse.SUPPRESS if nested else None
    parser = argparse.ArgumentParser(add_help=False, argument_default=unset)
    group = parser.add_argument_group("options of every command")
    group.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    group.add_argument(
        "--device", choices=DEVICES, default=unset or "auto", help="where to compute (default: auto)"
    )
    group.add_argument(
        "--seed", type=seed, default=unset or 0, metavar="N", help="of all random numbers (default: 0)"
    )
    group.add_argument("--verbose", action="store_true", help="say on stderr what is being done")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_command(
    subparsers: Any, name: str, common: argparse.ArgumentParser, *, help: str, **options: Any
) -> argparse.ArgumentParser:
    """Add the parser of a command; its help is also the first sentence of its description."""
    options.setdefault("description", f"{help[0].upper()}{help[1:]}.")
    return subparsers.add_parser(name, parents=[common], help=help, allow_abbrev=False, **options)


def add_data(
    parser: argparse.ArgumentParser, *, labelled: bool = True, target_help: str = "column of the labels"
) -> None:
    """Add DATA and how to read it; for training also the labels."""
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument("--structure", metavar="COL", help="column of the structures, if it is not evident")
    if labelled:
        parser.add_argument("--target", metavar="COL", required=True, help=target_help)
        parser.add_argument(
            "--drop-missing",
            action="store_true",
            help="leave out rows without a label instead of refusing them",
        )


def add_epochs(parser: argparse.ArgumentParser) -> None:
    """Add the length of training, the same whatever is trained."""
    parser.add_argument("--epochs", type=count, default=300, metavar="N", help="of training (default: 300)")


def add_own_epochs(parser: argparse.ArgumentParser) -> None:
    """Add the length of training, by default that of the estimator."""
    parser.add_argument(
        "--epochs",
        type=count,
        metavar="N",
        help="of training (default: as in Python, 300 for scratch, transfer and composed, 100 for moe)",
    )


def add_unfrozen(parser: argparse.ArgumentParser) -> None:
    """Add what of a module is trained."""
    parser.add_argument(
        "--unfrozen",
        type=groups,
        default="last",
        metavar="GROUPS",
        help="what of a module is trained besides the head: head (nothing), last, all, adapters (of transfer "
        "and composed: small layers between its own, which stay as they are), or names of layer groups with "
        "commas between (default: last)",
    )


def add_head(parser: argparse.ArgumentParser) -> None:
    """Add where the head of a module that is fine-tuned comes from."""
    parser.add_argument(
        "--head",
        choices=HEADS,
        default="new",
        help="of a module that is fine-tuned: new, or inherit the module's own for the same property in the "
        "same unit (default: new)",
    )


def add_mixture(parser: argparse.ArgumentParser) -> None:
    """Add what is particular to mixtures of modules."""
    parser.add_argument(
        "--n-active", type=positive, metavar="K", help="modules that moe or composed keeps (default: all)"
    )
    parser.add_argument(
        "--aggregation",
        choices=AGGREGATIONS,
        default="add",
        help="one head on the weighted sum of features, one on all of them side by side, or a head per "
        "module (default: add)",
    )
    parser.add_argument(
        "--width",
        type=positive,
        metavar="N",
        help="map the features of each module to this width (default: those of unlike width to that of most)",
    )
    parser.add_argument(
        "--combine",
        choices=COMBINATIONS,
        default="parameters",
        help="what composed averages: parameters, for modules of one base and architecture, or features, "
        "for any (default: parameters)",
    )
    parser.add_argument(
        "--guard",
        choices=GUARDS,
        default="none",
        help="compare a mixture with simple answers on its validation rows: report warns if one is better, "
        "fallback predicts with the best (default: none)",
    )


def count(text: str) -> int:
    """Return a number >= 0."""
    return _at_least(text, 0)


def positive(text: str) -> int:
    """Return a number >= 1."""
    return _at_least(text, 1)


def folds(text: str) -> int:
    """Return a number of folds, >= 2."""
    return _at_least(text, 2)


def seed(text: str) -> int:
    """Return a seed that numpy and torch both take."""
    number = _at_least(text, 0)
    if number >= 2**32:
        raise argparse.ArgumentTypeError(f"expected a number below 2^32, got {text!r}")
    return number


def _at_least(text: str, low: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if number < low:
        raise argparse.ArgumentTypeError(f"expected a whole number >= {low}, got {text!r}")
    return number


def names(text: str) -> list[str]:
    """Return names that were written with commas between."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"expected names with commas between, got {text!r}")
    return found


def property_names(text: str, columns: Collection[str]) -> list[str]:
    """Return the column that a text names, commas included, or the several that it names with commas between.

    Raises
    ------
    InvalidParameterError
        If one of several names is empty.
    """
    return [text] if text in columns else separated(text, "--target")


def separated(text: str, option: str) -> list[str]:
    """Return the texts between the commas, none of which may be empty."""
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise InvalidParameterError(
            f"{option} takes one name, or several with commas between. Got {text!r}, in which number "
            f"{found.index('') + 1} of {len(found)} is empty."
        )
    return found


def groups(text: str) -> str | list[str]:
    """Return the name of one layer group, or a list of several."""
    found = names(text)
    return found[0] if len(found) == 1 else found


def key_value(text: str) -> tuple[str, Any]:
    """Return ``("width", 32)`` for ``width=32``: the value is JSON, or else text."""
    key, value = key_text(text)
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def key_text(text: str) -> tuple[str, str]:
    """Return ``("unit", "eV")`` for ``unit=eV``."""
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, value
