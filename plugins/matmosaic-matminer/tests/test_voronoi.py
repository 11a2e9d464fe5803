import numpy as np
import pytest
from matmosaic_matminer.crystal import Crystal

pytestmark = pytest.mark.usefixtures("silent")


def test_cells_fill_the_crystal(symmetric, displaced):
    for structure in [*symmetric, *displaced]:
        crystal = Crystal(structure)
        volumes = [cell.volumes.sum() for cell in crystal.cells]
        assert volumes @ crystal.multiplicities == pytest.approx(structure.volume, rel=1e-6)
        for cell in crystal.cells:
            assert cell.solid_angles.sum() == pytest.approx(4 * np.pi)
            np.testing.assert_allclose(cell.areas @ cell.normals, 0, atol=1e-6)  # it is closed


def test_cubic_cell():
    from pymatgen.core import Lattice, Structure

    (cell,) = Crystal(Structure(Lattice.cubic(3.0), ["Po"], [[0, 0, 0]])).cells
    np.testing.assert_allclose(cell.areas, [9.0] * 6)
    np.testing.assert_allclose(cell.volumes, [4.5] * 6)
    np.testing.assert_allclose(cell.distances, [3.0] * 6)
    assert cell.n_edges.tolist() == [4] * 6


def test_corners_that_coincide_are_one():
    """In a face-centred lattice many faces meet in a corner: they are rhombs all the same."""
    from pymatgen.core import Lattice, Structure

    lattice = Lattice.from_parameters(2.556, 2.556, 2.556, 60, 60, 60)
    (cell,) = Crystal(Structure(lattice, ["Cu"], [[0, 0, 0]])).cells
    assert cell.n_edges.tolist() == [4] * 12


def test_cells_are_those_of_pymatgen(displaced):
    from pymatgen.analysis.local_env import VoronoiNN

    structure = displaced[0]
    crystal = Crystal(structure)
    for row, cell in zip(crystal.representatives, crystal.cells, strict=True):
        expected = [*VoronoiNN().get_voronoi_polyhedra(structure, int(row)).values()]
        for ours, theirs in [
            (cell.areas, "area"),
            (cell.volumes, "volume"),
            (cell.solid_angles, "solid_angle"),
            (cell.distances / 2, "face_dist"),
            (cell.n_edges, "n_verts"),
        ]:
            np.testing.assert_allclose(np.sort(ours), np.sort([face[theirs] for face in expected]))
