"""What a network learns and what the user gets are inverse to each other."""

import numpy as np
import pytest

from matmosaic.modules.transforms import TRANSFORMS, from_unit, to_unit


@pytest.mark.parametrize("name", TRANSFORMS)
def test_round_trip(name):
    transform = {"name": name, "mean": 0.7, "std": 1.9, "right_skewed": False}
    targets = np.array([0.1, 1.0, 42.0])
    np.testing.assert_allclose(to_unit(from_unit(targets, transform), transform), targets, rtol=1e-12)


def test_scale_is_applied_inside_the_transform():
    transform = {"name": "log10", "mean": 1.0, "std": 2.0, "right_skewed": True}
    np.testing.assert_allclose(to_unit([0.0, 0.5], transform), [10.0, 100.0])
