import json

import numpy as np
import pytest

from matmosaic.exceptions import InvalidParameterError
from matmosaic.graphs import GraphSettings

ANGLES = {"angles": True, "ties": "whole"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cutoff": 0}, r"'cutoff' must be a positive distance in Å. Got 0"),
        ({"cutoff": float("nan")}, r"'cutoff' must be .* Got nan"),
        ({"cutoff": float("inf")}, r"'cutoff' must be .* Got inf"),
        ({"cutoff": "8"}, r"'cutoff' must be .* Got '8'"),
        ({"max_neighbors": 0}, r"'max_neighbors' must be an int >= 1. Got 0"),
        ({"max_neighbors": 2.5}, r"'max_neighbors' must be an int >= 1. Got 2.5"),
        (
            {"max_neighbors": None},
            r"'max_neighbors' must be an int >= 1, or None with angles=True .* Got None",
        ),
        ({"angles": "yes"}, r"'angles' must be True or False. Got 'yes'"),
        ({"angle_cutoff": 3.0}, r"'angle_cutoff' must be .* with angles=True.* Got 3.0 with angles=False"),
        ({"angle_cutoff": 0, **ANGLES}, r"'angle_cutoff' must be None or a positive distance in Å.* Got 0"),
        ({"undirected": True, **ANGLES}, r"'undirected' needs an 'angle_cutoff'"),
        ({"tolerance": -1e-4}, r"'tolerance' must be in \[0, 0.1\) Å. Got -0.0001"),
        ({"ties": "fractionnal"}, r"Unknown value of 'ties' 'fractionnal'. Did you mean 'fractional'\?"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(InvalidParameterError, match=message):
        GraphSettings(**values)


def test_round_trip_through_json():
    settings = GraphSettings(cutoff=5.5, max_neighbors=7, ties="reference", tolerance=0.0)
    assert GraphSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_settings_of_angles_are_stated_where_they_are_not_the_defaults():
    settings = GraphSettings(**ANGLES, max_neighbors=None, angle_cutoff=3, undirected=True)
    values = settings.to_dict()
    assert (values["max_neighbors"], values["angle_cutoff"], values["undirected"]) == (None, 3.0, True)
    assert GraphSettings.from_dict(json.loads(json.dumps(values))) == settings
    assert list(GraphSettings(**ANGLES).to_dict()) == [
        "cutoff",
        "max_neighbors",
        "ties",
        "tolerance",
        "angles",
    ]


def test_equal_numbers_of_other_types_are_equal_settings():
    settings = GraphSettings(cutoff=8, max_neighbors=np.int64(12))
    assert settings == GraphSettings()
    assert json.dumps(settings.to_dict()) == json.dumps(GraphSettings().to_dict())


def test_unknown_and_missing_fields_are_errors():
    values = GraphSettings().to_dict()
    with pytest.raises(InvalidParameterError, match="Did you mean 'cutoff'"):
        GraphSettings.from_dict({**values, "cutof": 8.0})
    del values["ties"]
    with pytest.raises(InvalidParameterError, match=r"lack \['ties'\]"):
        GraphSettings.from_dict(values)
