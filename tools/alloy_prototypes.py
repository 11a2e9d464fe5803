"""The ordered arrangements of atoms from which ``make_alloys.py`` makes crystals.

Names are Strukturbericht symbols where there is one. Others name the parent lattice, the letters
of successive layers and the direction of their stacking, such as ``fcc-ABB-111``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations

METALS = ("Ag", "Au", "Cu", "Ni", "Pd", "Pt")

# Lattice vectors in units of the lattice parameter.
FCC = ((0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))
BCC = ((-0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.5, 0.5, -0.5))
CUBE = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
R2, R3, HCP = 2**0.5, 3**0.5, (8 / 3) ** 0.5


def hexagonal(a: float, c: float) -> tuple:
    """Return the vectors of a hexagonal lattice."""
    return (a, 0, 0), (-a / 2, a * R3 / 2, 0), (0, 0, c)


def orthogonal(a: float, b: float, c: float) -> tuple:
    """Return the vectors of an orthorhombic lattice."""
    return (a, 0, 0), (0, b, 0), (0, 0, c)


def body_centred(c: float) -> tuple:
    """Return the vectors of a body-centred tetragonal lattice with a = 1."""
    return (-0.5, 0.5, c / 2), (0.5, -0.5, c / 2), (0.5, 0.5, -c / 2)


@dataclass(frozen=True)
class Prototype:
    """An arrangement of the letters A, B and C on the sites of a lattice.

    ``sites`` lists each letter with its fractional coordinates; exchanging the letters named in
    ``alike`` gives the same crystal, so that only one order of their elements is kept.
    """

    lattice: tuple
    sites: str
    alike: str = ""

    def parsed_sites(self) -> tuple[list[str], list[list[float]]]:
        """Return the letters and the fractional coordinates."""
        words = [site.split() for site in self.sites.split(",")]
        return [w[0] for w in words], [[float(Fraction(x)) for x in w[1:]] for w in words]


LAYERS_001 = ((0.5, 0.5, 0), (-0.5, 0.5, 0), (0, 0, 2))  # four (001) layers of fcc
LAYERS_111 = ((0.5, -0.5, 0), (0, 0.5, -0.5), (1, 1, 1))  # three (111) layers of fcc
HEUSLER = "{} 0 0 0, {} 1/4 1/4 1/4, {} 1/2 1/2 1/2, {} 3/4 3/4 3/4"
FOUR_LAYERS = "{} 0 0 0, {} 1/2 1/2 1/4, {} 0 0 1/2, {} 1/2 1/2 3/4"
THREE_BODY = "{} 0 0 0, {} 1/3 1/3 0, {} 2/3 2/3 0"
THREE_111 = "{} 0 0 0, {} 1/3 2/3 1/3, {} 2/3 1/3 2/3"
HALF = "{} 0 0 0, {} 1/2 1/2 1/2"
CLOSE_PACKED = "{} 1/3 2/3 1/4, {} 2/3 1/3 3/4"

PROTOTYPES = {
    # elements
    "fcc": Prototype(FCC, "A 0 0 0"),
    "bcc": Prototype(BCC, "A 0 0 0"),
    "sc": Prototype(CUBE, "A 0 0 0"),
    "hcp": Prototype(hexagonal(1, HCP), CLOSE_PACKED.format(*"AA")),
    # AB
    "L1_0": Prototype(((0.5, 0.5, 0), (-0.5, 0.5, 0), (0, 0, 1)), HALF.format(*"AB"), "AB"),
    "L1_1": Prototype(((0.5, 0.5, 1), (1, 0.5, 0.5), (0.5, 1, 0.5)), HALF.format(*"AB"), "AB"),
    "fcc-AABB-001": Prototype(LAYERS_001, FOUR_LAYERS.format(*"AABB"), "AB"),
    "B2": Prototype(CUBE, HALF.format(*"AB"), "AB"),
    "B11": Prototype(orthogonal(1, 1, 2), FOUR_LAYERS.format(*"AABB"), "AB"),
    "B32": Prototype(FCC, HEUSLER.format(*"AABB"), "AB"),
    "B_h": Prototype(hexagonal(1, HCP), CLOSE_PACKED.format(*"AB"), "AB"),
    "B19": Prototype(orthogonal(1, R3, HCP), "A 0 0 0, A 1/2 1/6 1/2, B 1/2 1/2 0, B 0 2/3 1/2", "AB"),
    "B1": Prototype(FCC, HALF.format(*"AB"), "AB"),
    # AB2
    "C11_b": Prototype(body_centred(3), THREE_BODY.format(*"ABB")),
    "fcc-ABB-001": Prototype(body_centred(3 * R2), THREE_BODY.format(*"ABB")),
    "fcc-ABB-111": Prototype(LAYERS_111, THREE_111.format(*"ABB")),
    "MoPt2": Prototype(((0, 0, 1), (0.5, -0.5, 0), (1, 0.5, 0.5)), "A 0 0 0, B 1/3 1/3 1/3, B 2/3 2/3 2/3"),
    "C1": Prototype(FCC, "A 0 0 0, B 1/4 1/4 1/4, B 3/4 3/4 3/4"),
    "C15": Prototype(
        FCC,
        "A 1/8 1/8 1/8, A 7/8 7/8 7/8, B 1/2 1/2 1/2, B 0 1/2 1/2, B 1/2 0 1/2, B 1/2 1/2 0",
    ),
    # AB3
    "L1_2": Prototype(CUBE, "A 0 0 0, B 1/2 1/2 0, B 1/2 0 1/2, B 0 1/2 1/2"),
    "D0_22": Prototype(body_centred(2), "A 0 0 0, B 1/2 1/2 0, B 3/4 1/4 1/2, B 1/4 3/4 1/2"),
    "D0_23": Prototype(
        body_centred(4),
        "A 1/8 1/8 0, A 7/8 7/8 0, B 3/8 3/8 0, B 5/8 5/8 0,"
        "B 1/2 0 1/2, B 0 1/2 1/2, B 3/4 1/4 1/2, B 1/4 3/4 1/2",
    ),
    "D0_3": Prototype(FCC, HEUSLER.format(*"ABBB")),
    "D0_19": Prototype(
        hexagonal(2, HCP),
        "A 1/3 2/3 1/4, A 2/3 1/3 3/4, B 5/6 2/3 1/4, B 1/3 1/6 1/4,"
        "B 5/6 1/6 1/4, B 1/6 1/3 3/4, B 2/3 5/6 3/4, B 1/6 5/6 3/4",
    ),
    "D0_a": Prototype(
        orthogonal(2, R3, HCP),
        "A 0 0 0, A 1/2 2/3 1/2, B 1/2 0 0, B 1/4 1/2 0,"
        "B 3/4 1/2 0, B 1/4 1/6 1/2, B 3/4 1/6 1/2, B 0 2/3 1/2",
    ),
    "A15": Prototype(
        CUBE,
        "A 0 0 0, A 1/2 1/2 1/2, B 1/4 0 1/2, B 3/4 0 1/2,"
        " B 1/2 1/4 0, B 1/2 3/4 0, B 0 1/2 1/4, B 0 1/2 3/4",
    ),
    # ternary
    "L2_1": Prototype(FCC, HEUSLER.format(*"BACA"), "BC"),
    "X_A": Prototype(FCC, HEUSLER.format(*"AABC"), "BC"),
    "C1_b": Prototype(FCC, "B 0 0 0, A 1/4 1/4 1/4, C 1/2 1/2 1/2", "BC"),
    "fcc-A2BC": Prototype(CUBE, "B 0 0 0, C 1/2 1/2 0, A 1/2 0 1/2, A 0 1/2 1/2", "BC"),
    "fcc-ABAC-001": Prototype(LAYERS_001, FOUR_LAYERS.format(*"ABAC"), "BC"),
    "bcc-ABAC-001": Prototype(orthogonal(1, 1, 2), FOUR_LAYERS.format(*"ABAC"), "BC"),
    "bcc-ABC-001": Prototype(body_centred(3), THREE_BODY.format(*"ABC"), "ABC"),
    "fcc-ABC-001": Prototype(body_centred(3 * R2), THREE_BODY.format(*"ABC"), "ABC"),
    "fcc-ABC-111": Prototype(LAYERS_111, THREE_111.format(*"ABC"), "ABC"),
}


def crystals() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every distinct prototype with elements for its letters, in a fixed order."""
    for name, prototype in PROTOTYPES.items():
        letters = sorted(set(prototype.parsed_sites()[0]))
        alike = [letters.index(letter) for letter in prototype.alike]
        for elements in permutations(METALS, len(letters)):
            exchanged = [elements[i] for i in alike]
            if exchanged == sorted(exchanged):
                yield name, elements
