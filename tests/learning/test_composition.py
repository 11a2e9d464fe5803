import cvxpy
import numpy as np
import pytest
from scipy.optimize import minimize

from matmosaic.exceptions import InvalidParameterError, MatmosaicError, SolverWarning
from matmosaic.learning.composition import (
    SOLVERS,
    convex_weights,
    leave_one_out_mean,
    rmse,
    sparse_weights,
)


@pytest.fixture
def y(rng):
    return rng.normal(3, 2, 60)


@pytest.fixture
def predictions(rng, y):
    """Of eight modules, the later the worse."""
    return y + np.arange(1, 9)[:, None] * rng.normal(size=(8, 60)) / 3 + rng.normal(size=(8, 1))


def error(weights, predictions, y, weight=None):
    return rmse(weights @ predictions, y, weight) ** 2


def independent(predictions, y, weight=None):
    """The smallest error by another program, on the rows as they are."""
    n_modules = len(predictions)
    share = np.full(len(y), 1 / len(y)) if weight is None else weight / weight.sum()
    solution = minimize(
        lambda w: share @ (w @ predictions - y) ** 2,
        np.full(n_modules, 1 / n_modules),
        jac=lambda w: 2 * predictions @ (share * (w @ predictions - y)),
        bounds=[(0, 1)] * n_modules,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return solution.fun


# --- the convex program ------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
def test_error_is_that_of_an_independent_solver(predictions, y, rng, solver, scale):
    weight = rng.uniform(0, 2, 60)
    for some in (None, weight):
        weights = convex_weights(scale * predictions, scale * y, weight=some, solvers=[solver])
        assert error(weights, predictions, y, some) == pytest.approx(
            independent(predictions, y, some), rel=1e-6
        )


@pytest.mark.parametrize("seed", range(5))
def test_more_modules_than_rows(seed):
    rng = np.random.default_rng(seed)
    y, predictions = rng.normal(size=10), rng.normal(size=(18, 10))
    weights = convex_weights(predictions, y)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert error(weights, predictions, y) <= independent(predictions, y) + 1e-9


def test_error_is_never_above_that_of_the_best_module(predictions, y):
    weights = convex_weights(predictions, y)
    assert error(weights, predictions, y) <= min(error(one, predictions, y) for one in np.eye(8))


def test_perfect_module_has_all_the_weight(predictions, y):
    predictions[3] = y
    np.testing.assert_allclose(convex_weights(predictions, y), np.eye(8)[3], atol=1e-5)


def test_equal_modules_have_equal_weights(predictions, y):
    weights = convex_weights(np.repeat(predictions[:3], 2, axis=0), y)
    np.testing.assert_allclose(weights[::2], weights[1::2], atol=1e-5)
    np.testing.assert_allclose(convex_weights(np.tile(y, (3, 1)), y), 1 / 3)


def test_rows_of_weight_zero_are_absent(predictions, y):
    weight = np.arange(60) % 3.0
    used = weight > 0
    np.testing.assert_allclose(
        convex_weights(predictions, y, weight=weight),
        convex_weights(predictions[:, used], y[used], weight=weight[used]),
    )


def test_one_module_needs_no_solver(predictions, y):
    assert convex_weights(predictions[:1], y, solvers=["none"]).tolist() == [1.0]


def test_same_weights_bit_for_bit(predictions, y):
    assert convex_weights(predictions, y).tobytes() == convex_weights(predictions, y).tobytes()


# --- solvers that fail -------------------------------------------------------------------------------


def test_next_solver_takes_over(predictions, y):
    with pytest.warns(SolverWarning, match=r"found by OSQP, as MISSING failed \(.*MISSING") as caught:
        weights = convex_weights(predictions, y, solvers=["MISSING", "OSQP"])
    assert caught[0].filename == __file__
    assert error(weights, predictions, y) == pytest.approx(independent(predictions, y), rel=1e-6)


def test_solver_without_a_solution_is_a_failure(predictions, y, monkeypatch):
    monkeypatch.setitem(SOLVERS, "OSQP", {"max_iter": 1, "eps_abs": 1e-12, "eps_rel": 1e-12})
    with pytest.warns(SolverWarning, match="found by CLARABEL, as OSQP failed"):
        convex_weights(predictions, y, solvers=["OSQP", "CLARABEL"])


def test_no_solver_left(predictions, y, monkeypatch):
    def fail(self, **options):
        raise cvxpy.SolverError("out of luck")

    monkeypatch.setattr(cvxpy.Problem, "solve", fail)
    with pytest.raises(MatmosaicError, match="No solver found weights of the 8 modules: .*out of luck"):
        convex_weights(predictions, y)


def test_predictions_that_are_not_finite(predictions, y):
    predictions[2, 5] = np.inf
    with pytest.raises(InvalidParameterError, match="predictions must be finite. Got inf in row 2, column 5"):
        convex_weights(predictions, y)


# --- few modules -------------------------------------------------------------------------------------


def test_at_most_so_many_modules(predictions, y):
    assert np.count_nonzero(sparse_weights(predictions, y)) > 3
    for most in (1, 2, 3):
        weights = sparse_weights(predictions, y, max_modules=most)
        used = np.flatnonzero(weights)
        assert len(used) <= most
        assert weights.sum() == pytest.approx(1)
        # What is left was solved again.
        np.testing.assert_allclose(weights[used], convex_weights(predictions[used], y))


def test_no_weight_is_too_small(predictions, y):
    for least in (0.1, 0.3, 1.0):
        weights = sparse_weights(predictions, y, min_weight=least)
        assert weights[weights > 0].min() >= least
    assert np.count_nonzero(weights) == 1


def test_without_limits_the_weights_are_the_convex_ones(predictions, y):
    np.testing.assert_array_equal(sparse_weights(predictions, y), convex_weights(predictions, y))


# --- errors ------------------------------------------------------------------------------------------


def test_mean_of_the_others(y, rng):
    np.testing.assert_allclose(
        leave_one_out_mean(y), [np.delete(y, row).mean() for row in range(60)], rtol=1e-12
    )
    weight = rng.uniform(0, 1, 60)
    expected = [np.average(np.delete(y, row), weights=np.delete(weight, row)) for row in range(60)]
    np.testing.assert_allclose(leave_one_out_mean(y, weight), expected, rtol=1e-12)


def test_root_mean_squared_error():
    assert rmse(np.array([1.0, 5.0]), np.array([1.0, 2.0]), np.array([2.0, 1.0])) == pytest.approx(3**0.5)
