import itertools

import pytest

from matmosaic.modules.licenses import most_restrictive

# From each kind, from what allows most to what allows least.
ORDER = ["CC0-1.0", "MIT", "CC-BY-4.0", "GPL-3.0-only", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "Other-1.0", None]


@pytest.mark.parametrize(("more", "less"), list(itertools.combinations(ORDER, 2)))
def test_order(more, less):
    assert most_restrictive([more, less, more]) == most_restrictive([less, more]) == less


def test_two_licences_that_are_not_known_are_none():
    assert most_restrictive(["Other-1.0", "MIT", "Another-2.0"]) is None
    assert most_restrictive(["Other-1.0", "Other-1.0"]) == "Other-1.0"


def test_no_source():
    assert most_restrictive([]) is None
