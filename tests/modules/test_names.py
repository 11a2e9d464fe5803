"""Names of modules cannot leave their store or break on any system."""

import pytest

from matmosaic.exceptions import InvalidParameterError
from matmosaic.modules import check_module_name


@pytest.mark.parametrize("name", ["mp_eform", "emt-eform", "A.1+b", "9", "console", "com10"])
def test_good_name_is_returned(name):
    assert check_module_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../up", "only letters"),
        ("a/b", "only letters"),
        ("a\\b", "only letters"),
        ("C:", "only letters"),
        ("", "only letters"),
        ("-flag", "only letters"),
        (".hidden", "only letters"),
        ("name\n", "only letters"),
        ("énergie", "only letters"),
        ("a..b", "'..'"),
        ("dot.", "ends in a dot"),
        ("NUL", "Windows"),
        ("com1.backup", "Windows"),
        ("x" * 129, "longer"),
        (3, "not int"),
    ],
    ids=repr,
)
def test_bad_name_is_refused_with_its_reason(name, reason):
    with pytest.raises(InvalidParameterError, match=reason):
        check_module_name(name)
