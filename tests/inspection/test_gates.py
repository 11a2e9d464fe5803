import builtins
import itertools
import json
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

from matmosaic.exceptions import DataFileError, InvalidParameterError, UnknownNameError
from matmosaic.inspection import GateScoresDisplay


class Mixture(BaseEstimator):
    """What of a fitted MoERegressor the display reads."""

    def __init__(self, **scores):
        self.module_names_ = list(scores)
        self.gate_scores_ = np.array(list(scores.values()), dtype=np.float32)


@pytest.fixture
def folds():
    """Three fits; in none is `idle` active."""
    return [
        Mixture(gap=0.25, eform=0.75, idle=0),
        Mixture(gap=0.5, eform=0.5, idle=0),
        Mixture(gap=0.0, eform=1.0, idle=0),
    ]


@pytest.fixture
def many_modules():
    """Scores of five fits over 18 modules with long names."""
    scores = np.random.default_rng(0).dirichlet(np.ones(18), size=5)
    return pd.DataFrame(scores, columns=[f"bundled:jarvis-2d-property-{i}" for i in range(18)])


def result(task, seed, method="moe", **scores):
    return {"task": task, "seed": seed, "method": method, "gate_scores": scores}


@pytest.fixture
def results():
    """Two tasks, two seeds, and a method without a gate."""
    return [
        result("phonons", 0, eform=0.8, gap=0.2),
        result("phonons", 1, eform=0.6, gap=0.4),
        result("dielectric", 0, gap=1.0),
        {"task": "phonons", "seed": 0, "method": "scratch", "mae": 0.1},
    ]


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


# --- constructors ------------------------------------------------------------------------------------


def test_one_estimator_is_one_row(folds):
    scores = GateScoresDisplay.from_estimator(folds[0]).scores
    assert scores.to_dict("index") == {0: {"gap": 0.25, "eform": 0.75, "idle": 0.0}}
    assert scores.index.name == "fit"


@pytest.mark.parametrize("kind", [list, tuple, pd.Series, lambda fits: np.array(fits, dtype=object)])
def test_every_sequence_of_estimators_is_read(folds, kind):
    display = GateScoresDisplay.from_estimator(kind(folds), names=["a", "b", "c"])
    assert display.scores["eform"].to_dict() == {"a": 0.75, "b": 0.5, "c": 1.0}


def test_pipeline_shows_its_last_step(folds):
    assert GateScoresDisplay.from_estimator(make_pipeline("passthrough", folds[0])).scores.shape == (1, 3)


def test_module_that_was_not_offered_counts_as_0():
    display = GateScoresDisplay.from_estimator([Mixture(a=0.5, b=0.5), Mixture(c=1.0)])
    assert display.scores.to_numpy().tolist() == [[0.5, 0.5, 0], [0, 0, 1]]
    assert list(display.scores.columns) == ["a", "b", "c"]


@pytest.mark.parametrize("from_file", [False, True], ids=["frame", "file"])
def test_results_become_means_of_seeds_per_task(results, from_file, tmp_path):
    source = pd.DataFrame(results)
    if from_file:
        source = tmp_path / "moe.jsonl"
        source.write_text("\n".join(map(json.dumps, results)) + "\n\n", encoding="utf-8")
    scores = GateScoresDisplay.from_results(source).scores
    assert scores.index.tolist() == ["phonons", "dielectric"]
    assert scores["eform"].tolist() == pytest.approx([0.7, 0.0])
    assert scores["gap"].tolist() == pytest.approx([0.3, 1.0])


def test_method_chooses_among_results(results):
    both = pd.DataFrame([*results, result("phonons", 0, "moe-k1", gap=1.0)])
    assert GateScoresDisplay.from_results(both, method="moe-k1").scores.to_dict() == {"gap": {"phonons": 1.0}}
    with pytest.raises(InvalidParameterError, match=r"'method' must choose one of \['moe', 'moe-k1'\]"):
        GateScoresDisplay.from_results(both)


# --- numbers -----------------------------------------------------------------------------------------


def test_summary(folds):
    summary = GateScoresDisplay.from_estimator(folds).summary()
    assert summary.loc["gap"].to_dict() == {
        "mean": 0.25,
        "std": 0.25,
        "min": 0,
        "max": 0.5,
        "active_share": 2 / 3,
    }
    assert summary.loc["idle", "active_share"] == 0
    assert list(summary.index) == ["gap", "eform", "idle"]


def test_summary_of_one_row_has_no_spread(folds):
    assert GateScoresDisplay.from_estimator(folds[0]).summary()["std"].isna().all()


# --- bars --------------------------------------------------------------------------------------------


def test_bars_show_means_spread_rows_and_even_share(folds):
    display = GateScoresDisplay.from_estimator(folds)
    assert display.plot() is display
    ax = display.ax_
    assert [bar.get_width() for bar in ax.patches] == [0.75, 0.25, 0]
    assert tick_labels(ax.yaxis) == ["eform", "gap", "idle"]
    dots, bars = ax.collections
    assert sorted(dots.get_offsets()[:, 0]) == [0, 0, 0, 0, 0.25, 0.5, 0.5, 0.75, 1]
    assert [np.ptp(segment[:, 0]) for segment in bars.get_segments()] == [0.5, 0.5, 0]
    (line,) = (line for line in ax.lines if line.get_linestyle() == "--")
    assert line.get_xdata() == [0.5, 0.5]
    texts = {text.get_text() for text in ax.get_legend().get_texts()}
    assert texts == {"mean of 3 fits", "one fit", "standard deviation", "even share, 1/2"}


def test_even_share_is_that_of_the_row_with_most_active_modules():
    """Three modules are active in some row, but two at once; that all are offered does not count."""
    display = GateScoresDisplay.from_estimator(
        [Mixture(a=1.0, b=0, c=0, d=0), Mixture(a=0.5, b=0.5, c=0, d=0), Mixture(a=0, b=0, c=1.0, d=0)]
    )
    lines = {line.get_label(): line.get_xdata() for line in display.plot().ax_.lines}
    assert lines["even share, 1/2"] == [0.5, 0.5]


def test_bars_run_downwards_from_the_first(folds):
    lower, upper = GateScoresDisplay.from_estimator(folds).plot().ax_.get_ylim()
    assert lower > upper


def test_one_fit_has_bars_without_spread(folds):
    ax = GateScoresDisplay.from_estimator(folds[0]).plot().ax_
    assert len(ax.patches) == 3
    assert not ax.collections


def test_order_by_name(folds):
    display = GateScoresDisplay.from_estimator([Mixture(b=0.75, a=0.25)])
    assert tick_labels(display.plot(order="name").ax_.yaxis) == ["a", "b"]
    assert tick_labels(display.plot(order="score").ax_.yaxis) == ["b", "a"]


# --- heat map ----------------------------------------------------------------------------------------


def test_several_tasks_are_a_heat_map(results):
    display = GateScoresDisplay.from_results(pd.DataFrame(results)).plot()
    ax = display.ax_
    assert ax.images[0].get_array().data == pytest.approx(np.array([[0.3, 0.7], [1.0, 0.0]]))
    assert [text.get_text() for text in ax.texts] == ["0.30", "0.70", "1.00", "0"]
    assert tick_labels(ax.xaxis) == ["gap", "eform"]
    assert tick_labels(ax.yaxis) == ["phonons", "dielectric"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Module", "Task")
    assert [other.get_ylabel() for other in display.figure_.axes if other is not ax] == ["Gate score"]


def test_one_task_is_bars(results):
    assert not GateScoresDisplay.from_results(pd.DataFrame(results[:2])).plot().ax_.images


def test_kind_overrules(folds, results):
    assert GateScoresDisplay.from_estimator(folds).plot(kind="heatmap").ax_.images
    assert not GateScoresDisplay.from_results(pd.DataFrame(results)).plot(kind="bar").ax_.images


def luminance(colour):
    channels = np.asarray(to_rgb(colour))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


def test_numbers_are_legible_on_every_colour(many_modules, style):
    """4.5 is the contrast that WCAG 2 asks of text."""
    ax = GateScoresDisplay(many_modules).plot(kind="heatmap").ax_
    (image,) = ax.images
    cells = image.to_rgba(image.get_array())[..., :3].reshape(-1, 3)
    pairs = [
        sorted([luminance(cell), luminance(t.get_color())]) for cell, t in zip(cells, ax.texts, strict=True)
    ]
    assert min((light + 0.05) / (dark + 0.05) for dark, light in pairs) >= 4.5
    assert {text.get_color() for text in ax.texts} == {"black", "white"}


# --- both --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bar", "heatmap"])
def test_no_names_overlap(many_modules, kind):
    """Boxes of upright labels are compared as drawn, those of slanted ones by the distance of their lines."""
    display = GateScoresDisplay(many_modules).plot(kind=kind)
    display.figure_.draw_without_rendering()
    if kind == "bar":
        boxes = [label.get_window_extent() for label in display.ax_.get_yticklabels()]
        gaps = [upper.y0 - lower.y1 for upper, lower in itertools.pairwise(boxes)]
    else:
        labels = display.ax_.get_xticklabels()
        steps = np.diff([label.get_window_extent().x1 for label in labels])
        line = labels[0].get_fontsize() * display.figure_.dpi / 72
        gaps = steps * np.sin(np.radians(labels[0].get_rotation())) - line
    assert len(gaps) == 17
    assert min(gaps) > 0


@pytest.mark.parametrize("kind", ["bar", "heatmap"])
@pytest.mark.parametrize("n_modules", [1, 4, 18])
def test_everything_drawn_lies_within_the_figure(many_modules, fits, style, kind, n_modules):
    scores = many_modules.iloc[:1, :n_modules]
    fits(GateScoresDisplay(scores / scores.sum(axis=1).item()).plot(kind=kind).figure_)


@pytest.mark.parametrize("kind", ["bar", "heatmap"])
def test_given_axes_are_drawn_on(folds, kind):
    figure, (left, right) = plt.subplots(ncols=2)
    display = GateScoresDisplay.from_estimator(folds).plot(kind=kind, ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert plt.get_fignums() == [figure.number]


def test_plot_leaves_the_scores_as_they_are(folds):
    display = GateScoresDisplay.from_estimator(folds)
    before = display.scores.copy()
    display.plot()
    pd.testing.assert_frame_equal(display.scores, before)


def test_import_loads_no_matplotlib():
    code = "import sys, matmosaic.inspection; print('matplotlib' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "False"


def test_missing_matplotlib_names_the_extra(folds, monkeypatch):
    real_import = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match=r'pip install "matmosaic\[plot\]"'):
        GateScoresDisplay.from_estimator(folds).plot()


# --- misuse ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5, 0.5], "must be a DataFrame .* Got list"),
        (pd.DataFrame(), "each once. Got the columns"),
        (pd.DataFrame([[0.5, 0.5]], columns=["a", "a"]), r"each once. Got the columns \['a', 'a'\]"),
        (pd.DataFrame({"a": ["much"]}), "are no numbers"),
        (pd.DataFrame({"a": [1.0, 0.5], "b": [0.0, 0.2]}), "Row 1 does not, it sums to 0.7"),
        (pd.DataFrame({"a": [1.5], "b": [-0.5]}), "Row 0 does not"),
        (pd.DataFrame({"a": [1.0], "b": [np.nan]}), "Row 0 does not, it sums to nan"),
    ],
    ids=["list", "empty", "duplicate", "text", "sum", "negative", "nan"],
)
def test_scores_of_no_gate_are_refused(scores, message):
    with pytest.raises(InvalidParameterError, match=message):
        GateScoresDisplay(scores)


def test_rounded_scores_are_accepted():
    GateScoresDisplay(pd.DataFrame({"a": [0.333], "b": [0.333], "c": [0.333]}))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (BaseEstimator(), "must be a fitted MoERegressor, .* Got BaseEstimator at place 0"),
        ([Mixture(a=1.0), BaseEstimator()], "Got BaseEstimator at place 1, .* call fit first"),
        ({"estimator": [Mixture(a=1.0)]}, 'Got dict .* give the entry "estimator"'),
        (make_pipeline(BaseEstimator()), "Got BaseEstimator at place 0"),
        ([], "at least one fitted MoERegressor. Got none"),
    ],
    ids=["other", "unfitted", "cross_validate", "pipeline", "none"],
)
def test_estimator_without_gate_is_refused(estimator, message):
    with pytest.raises(InvalidParameterError, match=message):
        GateScoresDisplay.from_estimator(estimator)


def test_names_must_be_as_many_as_estimators(folds):
    with pytest.raises(InvalidParameterError, match="one name per estimator, 3. Got 1: \\['a'\\]"):
        GateScoresDisplay.from_estimator(folds, names=["a"])


@pytest.mark.parametrize("parameter", ["kind", "order"])
def test_unknown_choice_is_refused(folds, parameter):
    with pytest.raises(InvalidParameterError, match=f"'{parameter}' must be one of .* Got 'pie'"):
        GateScoresDisplay.from_estimator(folds).plot(**{parameter: "pie"})
    assert plt.get_fignums() == []


def test_unknown_method_is_suggested(results):
    with pytest.raises(UnknownNameError, match="Did you mean 'moe'"):
        GateScoresDisplay.from_results(pd.DataFrame(results), method="mow")


def test_column_must_exist(results):
    with pytest.raises(DataFileError, match="must have a column 'seed'"):
        GateScoresDisplay.from_results(pd.DataFrame(results).drop(columns="seed"))


def test_results_without_gates_are_refused(results):
    rows = pd.DataFrame(results)
    with pytest.raises(DataFileError, match="hold no 'gate_scores'"):
        GateScoresDisplay.from_results(rows[rows["method"] == "scratch"])


def test_seed_that_comes_twice_is_refused(results):
    with pytest.raises(InvalidParameterError, match=r"\('phonons', 0\) comes twice"):
        GateScoresDisplay.from_results(pd.DataFrame([*results, results[0]]))


def test_saved_scores_of_no_gate_name_task_and_seed():
    with pytest.raises(InvalidParameterError, match=r"Row \('phonons', 3\) does not, it sums to 0.5"):
        GateScoresDisplay.from_results(pd.DataFrame([result("phonons", 3, gap=0.5)]))


@pytest.mark.parametrize(
    ("text", "message"),
    [('{}\n{"task": ', "line 2 is no JSON"), ("[1]", "line 1 is no JSON object. Got list")],
    ids=["truncated", "list"],
)
def test_malformed_line_is_named(tmp_path, text, message):
    path = tmp_path / "results.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataFileError, match=f"results.jsonl: {message}"):
        GateScoresDisplay.from_results(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataFileError, match="none.jsonl: does not exist"):
        GateScoresDisplay.from_results(str(tmp_path / "none.jsonl"))
