"""What holds for every display: it needs matplotlib only to draw, and says so where there is none."""

import builtins
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from matmosaic.inspection import ParityDisplay
from matmosaic.inspection._drawing import LINES, MARKERS, number, series_style, size_axis


def test_numbers_have_three_digits_that_count():
    texts = [number(value) for value in (0.0, 0.05, 0.1234, 12.0, 123.0, 1234.0, 12345.0, 0.00012)]
    assert texts == ["0", "0.0500", "0.123", "12.0", "123", "1.23e+03", "1.23e+04", "0.00012"]


def test_styles_of_neighbours_differ_in_marker_and_line():
    styles = [series_style(place) for place in range(12)]
    assert len({(one["marker"], one["linestyle"]) for one in styles}) == 12
    assert all(a["marker"] != b["marker"] for a, b in itertools.pairwise(styles))
    assert len(set(MARKERS)) == len(MARKERS)
    assert len(set(LINES)) == len(LINES)


def test_ticks_that_would_overlap_are_left_to_matplotlib():
    near, far = plt.subplots(ncols=2)[1]
    size_axis(near, np.array([100, 101, 300]))
    size_axis(far, np.array([100, 200, 300]))
    assert [tick.get_text() for tick in far.get_xticklabels()] == ["100", "200", "300"]
    assert len(near.get_xticks()) != 3


def test_missing_matplotlib_names_the_extra(monkeypatch):
    real_import = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real_import(name, *args, **kwargs)

    display = ParityDisplay([1.0], [1.0])
    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match=r'pip install "matmosaic\[plot\]"'):
        display.plot()
