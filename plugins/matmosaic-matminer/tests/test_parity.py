"""Descriptors agree with matminer's own, site by site where these are statistics over sites."""

import numpy as np
import pytest
from matmosaic_matminer import charges, composition, coordination, sites, structure
from matmosaic_matminer.crystal import Crystal

pytestmark = pytest.mark.usefixtures("silent")
FOUR = ("mean", "std_dev", "minimum", "maximum")
FIVE = ("minimum", "maximum", "range", "mean", "avg_dev")


def over_sites(make, statistics=FOUR):
    def made():
        from matminer.featurizers.structure import SiteStatsFingerprint

        return SiteStatsFingerprint(make(), stats=statistics)

    return made


def site(name, *arguments, **options):
    def make():
        import matminer.featurizers.site as matminer

        return getattr(matminer, name)(*arguments, **options)

    return make


def preset(name, *arguments, **options):
    def make():
        import matminer.featurizers.site as matminer

        return getattr(matminer, name).from_preset(*arguments, **options)

    return make


def with_voronoi(name, nn_options, **options):
    def make():
        import matminer.featurizers.site as matminer
        from pymatgen.analysis.local_env import VoronoiNN

        return getattr(matminer, name)(VoronoiNN(**nn_options), **options)

    return make


def whole(name, **options):
    def make():
        import matminer.featurizers.structure as matminer

        return getattr(matminer, name)(**options)

    return make


STRUCTURE = [
    (structure.DENSITY, whole("DensityFeatures")),
    (structure.HETEROGENEITY, whole("StructuralHeterogeneity")),
    (structure.PACKING, whole("MaximumPackingEfficiency")),
    (structure.ORDERING, whole("ChemicalOrdering", shells=(1,))),
    (coordination.DIMENSIONALITY, whole("Dimensionality")),
    (coordination.COORDINATION_NUMBERS, over_sites(preset("CrystalNNFingerprint", "cn"))),
    (
        sites.COORDINATION,
        over_sites(with_voronoi("CoordinationNumber", {"weight": "area"}, use_weights="effective"), FIVE),
    ),
    (sites.BOND_LENGTH, over_sites(with_voronoi("AverageBondLength", {}))),
    (sites.BOND_ORDER, over_sites(site("BondOrientationalParameter"))),
    (sites.VORONOI, over_sites(site("VoronoiFingerprint"))),
    (
        sites.LOCAL_DIFFERENCE,
        over_sites(preset("LocalPropertyDifference", "ward-prb-2017", impute_nan=False), FIVE),
    ),
    (sites.GRDF, over_sites(preset("GeneralizedRadialDistributionFunction", "gaussian"))),
    (sites.AGNI, over_sites(site("AGNIFingerprints", directions=(None,)))),
    (sites.BEHLER, over_sites(site("GaussianSymmFunc"))),
]


@pytest.mark.parametrize(("descriptor", "make"), STRUCTURE, ids=[one.name for one, _ in STRUCTURE])
def test_structure_descriptors_are_those_of_matminer(descriptor, make, displaced):
    theirs = make()
    for crystal in displaced:
        expected = np.array(theirs.featurize(crystal), dtype=float)
        np.testing.assert_allclose(descriptor.values(Crystal(crystal)), expected, rtol=1e-6, atol=1e-6)


def test_structure_descriptors_bear_the_labels_of_matminer():
    for descriptor, make in STRUCTURE:
        for name, label in zip(descriptor.names, make().feature_labels(), strict=True):
            assert name.removeprefix(f"{descriptor.name} ").rpartition(" (")[0] == label


def test_motifs_and_numbers_together_are_the_crystalnn_fingerprint(displaced):
    theirs = over_sites(preset("CrystalNNFingerprint", "ops"))()
    expected = dict(zip(theirs.feature_labels(), theirs.featurize(displaced[0]), strict=True))
    crystal = Crystal(displaced[0])
    for descriptor in (coordination.COORDINATION_NUMBERS, coordination.MOTIFS):
        for name, value in zip(descriptor.names, descriptor.values(crystal), strict=True):
            label = name.removeprefix("CrystalNNFingerprint ").rpartition(" (")[0]
            assert value == pytest.approx(expected.pop(label), abs=1e-9)
    assert not expected


def test_symmetry_is_that_of_matminer(symmetric):
    import matminer.featurizers.structure as matminer

    for crystal in symmetric:
        number, _, system, centre, _ = matminer.GlobalSymmetryFeatures().featurize(crystal)
        complexity = matminer.StructuralComplexity(symprec=0.01).featurize(crystal)[0]
        assert [*structure.SYMMETRY.values(Crystal(crystal))[:3]] == [number, system, centre]
        assert structure.COMPLEXITY.values(Crystal(crystal))[0] == pytest.approx(complexity)


def test_point_group_order_does_not_grow_with_the_cell(symmetric):
    orders = {48: symmetric[1], 16: symmetric[0], 24: symmetric[2]}
    for order, crystal in orders.items():
        for one in (crystal, crystal.make_supercell([2, 1, 1], in_place=False)):
            assert structure.SYMMETRY.values(Crystal(one))[3] == order


def test_element_statistics_are_those_of_matminer(displaced):
    from matminer.featurizers.composition import ElementProperty

    theirs = ElementProperty.from_preset("magpie", impute_nan=False)
    names = [name.rpartition(" (")[0] for name in composition.ELEMENT_PROPERTY.names]
    assert names == theirs.feature_labels()
    for crystal in displaced:
        expected = theirs.featurize(crystal.composition)
        np.testing.assert_allclose(composition.ELEMENT_PROPERTY.values(Crystal(crystal)), expected)


def test_ewald_energy_is_that_of_matminer_and_of_any_cell(symmetric):
    from matminer.featurizers.structure import EwaldEnergy

    charged = symmetric[0].copy()
    charged.add_oxidation_state_by_element({"Ti": 4, "O": -2})
    expected = EwaldEnergy(accuracy=6).featurize(charged)[0]
    doubled = symmetric[0].make_supercell([1, 1, 2], in_place=False)
    assert charges.EWALD.values(Crystal(symmetric[0]))[0] == pytest.approx(expected, rel=1e-4)
    assert charges.EWALD.values(Crystal(doubled))[0] == pytest.approx(expected, rel=1e-4)
    assert charges.EWALD.values(Crystal(symmetric[2]))[0] == 0  # a metal has no charges
