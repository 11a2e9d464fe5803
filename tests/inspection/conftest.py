import matplotlib
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend without windows is chosen


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


@pytest.fixture(params=["default", "dark_background"], ids=["light", "dark"])
def style(request):
    with plt.style.context(request.param):
        yield request.param


@pytest.fixture
def fits():
    """Fail if something that was drawn lies outside its figure."""

    def check(figure):
        figure.draw_without_rendering()
        drawn, whole = figure.get_tightbbox(), figure.bbox_inches.padded(0.01)  # both in inches
        assert whole.x0 <= drawn.x0 < drawn.x1 <= whole.x1
        assert whole.y0 <= drawn.y0 < drawn.y1 <= whole.y1

    return check
