import itertools

import pytest

from matmosaic.modules.licenses import most_restrictive

# From what allows most to what allows least: each has the terms of those before it, and more.
ORDER = [
    "CC0-1.0",
    "MIT",
    "CC-BY-4.0",
    "GPL-3.0-only",
    "AGPL-3.0-only",
    "CC-BY-NC-SA-4.0",
    None,
]


@pytest.mark.parametrize(("more", "less"), list(itertools.combinations(ORDER, 2)))
def test_order(more, less):
    assert most_restrictive([more, less, more]) == most_restrictive([less, more]) == less


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["CC-BY-ND-4.0", "CC-BY-NC-4.0"], "CC-BY-NC-4.0 AND CC-BY-ND-4.0"),
        (["CC-BY-ND-4.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0"], "CC-BY-NC-ND-4.0"),
        (["GPL-3.0-only", "MIT", "CC-BY-NC-4.0"], "GPL-3.0-only AND CC-BY-NC-4.0"),
        (["CC-BY-NC-4.0", "LicenseRef-x"], "CC-BY-NC-4.0 AND LicenseRef-x"),
        (["MIT", "LicenseRef-x"], "LicenseRef-x"),
        (["Other-1.0", "MIT", "Another-2.0"], "Another-2.0 AND Other-1.0"),
        # What was composed before may be composed again.
        (["GPL-3.0-only AND CC-BY-NC-4.0", "cc-by-nc-sa-4.0"], "CC-BY-NC-SA-4.0"),
        (["LicenseRef-x AND CC-BY-NC-4.0", "CC-BY-ND-4.0"], "CC-BY-NC-4.0 AND CC-BY-ND-4.0 AND LicenseRef-x"),
        (["MIT OR Apache-2.0", "CC-BY-NC-4.0"], "CC-BY-NC-4.0 AND (MIT OR Apache-2.0)"),
    ],
    ids=str,
)
def test_no_term_is_lost(given, expected):
    assert most_restrictive(given) == most_restrictive(given[::-1]) == expected


def test_case_does_not_matter():
    assert most_restrictive(["MIT", "cc-by-nc-4.0", "mit"]) == "CC-BY-NC-4.0"
    assert most_restrictive(["licenseref-x", "licenseref-x"]) == "licenseref-x"


def test_no_licence_at_all_is_none():
    assert most_restrictive(["CC-BY-NC-4.0", None, "LicenseRef-x"]) is None


def test_no_source():
    assert most_restrictive([]) is None
