"""Tables of elements, read once per process, and statistics over the elements of a composition."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from matmosaic_matminer.descriptors import with_unit

# Properties of matminer's MagpieData (Ward et al., 10.1038/npjcompumats.2016.28) and their units.
MAGPIE = {
    "Number": "",
    "MendeleevNumber": "",
    "AtomicWeight": "u",
    "MeltingT": "K",
    "Column": "",
    "Row": "",
    "CovalentRadius": "pm",
    "Electronegativity": "",
    "NsValence": "",
    "NpValence": "",
    "NdValence": "",
    "NfValence": "",
    "NValence": "",
    "NsUnfilled": "",
    "NpUnfilled": "",
    "NdUnfilled": "",
    "NfUnfilled": "",
    "NUnfilled": "",
    "GSvolume_pa": "Å^3/atom",
    "GSbandgap": "eV",
    "GSmagmom": "μB/atom",
    "SpaceGroupNumber": "",
}
# Not in the preset "magpie" of matminer, yet known for nearly all elements up to bismuth.
MAGPIE_MORE = {
    "AtomicRadius": "Å",
    "BoilingT": "K",
    "ElectronAffinity": "kJ/mol",
    "FirstIonizationEnergy": "eV",
    "GSenergy_pa": "eV/atom",
    "HeatCapacityMolar": "J/(mol K)",
    "HeatFusion": "kJ/mol",
    "HeatVaporization": "kJ/mol",
    "LogThermalConductivity": "log10 W/(m K)",
    "MolarVolume": "cm^3/mol",
    "Polarizability": "10^-24 cm^3",
    "SecondIonizationEnergy": "eV",
    "ZungerPP-r_sigma": "bohr",
}
STATISTICS = ("minimum", "maximum", "range", "mean", "avg_dev", "mode")


@cache
def magpie_data() -> Any:
    """Return matminer's table of elements; what is not known is NaN."""
    from matminer.utils.data import MagpieData

    return MagpieData(impute_nan=False)


@cache
def element_row(symbol: str, properties: tuple[str, ...]) -> np.ndarray:
    """Return properties of one element, shape (n_properties,), NaN where not known."""
    table = magpie_data().all_elemental_props
    return np.array([table[name].get(symbol, np.nan) for name in properties], dtype=float)


def element_rows(symbols: list[str] | np.ndarray, properties: tuple[str, ...]) -> np.ndarray:
    """Return properties of elements, shape (n_elements, n_properties), NaN where not known."""
    return np.stack([element_row(str(symbol), properties) for symbol in symbols])


def labels(properties: dict[str, str], statistics: tuple[str, ...] = STATISTICS) -> list[str]:
    """Return names of statistics over elements, as matminer writes them, with units."""
    return [
        with_unit(f"MagpieData {statistic} {name}", unit)
        for name, unit in properties.items()
        for statistic in statistics
    ]


def summarize(
    values: np.ndarray, weights: np.ndarray, statistics: tuple[str, ...] = STATISTICS
) -> np.ndarray:
    """Return weighted statistics of columns.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        Of elements or sites. A column with a NaN is NaN in all its statistics, but for the mode.
    weights : ndarray of shape (n_rows,)
        Positive: fractions of elements, or numbers of equal sites.
    statistics : tuple of str, default=STATISTICS
        Of minimum, maximum, range, mean, avg_dev (mean absolute deviation), std_dev (of the population) and
        mode (the least of the most frequent values).

    Returns
    -------
    ndarray of shape (n_columns * n_statistics,)
        In the units of the values; all statistics of the first column first.
    """
    shares = weights / weights.sum()
    mean = shares @ values
    low, high = values.min(axis=0), values.max(axis=0)
    known = {
        "minimum": lambda: low,
        "maximum": lambda: high,
        "range": lambda: high - low,
        "mean": lambda: np.clip(mean, low, high),  # equal values have that very mean
        "avg_dev": lambda: shares @ np.abs(values - mean),
        "std_dev": lambda: np.sqrt(shares @ (values - mean) ** 2),
        "mode": lambda: values[np.isclose(shares, shares.max())].min(axis=0),
    }
    return np.stack([known[one]() for one in statistics], axis=1).ravel()
