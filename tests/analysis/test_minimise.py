"""Resamples that go on in fewer chunks, from others' minima, along bent steps: the same minima."""

import numpy as np
import pytest
from law_cases import CASES
from scipy import optimize

from analysis import fit as fits
from analysis import intervals, laws, minimise
from analysis.laws import LAWS


def optimum_of(law, monkeypatch, sigma=0.01):
  """What the bootstrap of a noisy planted law is given, and 60 resamples' weights."""
  _, inputs, y = CASES[law]
  y = y * np.exp(sigma * np.random.default_rng(0).normal(size=len(y)))
  table = dict(zip((*LAWS[law].inputs, LAWS[law].output), (*inputs, y), strict=True))
  given = []

  def stop(optimum, *rest):
    given.append(optimum)
    raise StopIteration

  with monkeypatch.context() as patch:
    patch.setattr(intervals, 'bootstrap', stop)
    with pytest.raises(StopIteration):
      fits.fit(law, table, {name: name for name in table})
  n = len(y)
  weights = np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), 60).astype(float)
  return given[0], weights, table


def minima(optimum, weights):
  begin = np.tile(optimum.theta, (len(weights), 1))
  return minimise.minimise(optimum.problem, begin, weights, optimum.free, [], 1e-6, tolerance=1e-9)


@pytest.mark.parametrize('law', ['t2', 'power'])
def test_rows_that_go_on_in_new_chunks_end_where_they_would_have(law, monkeypatch):
  optimum, weights, _ = optimum_of(law, monkeypatch)
  whole = []
  for rounds in (10_000, 4, 1):
    monkeypatch.setattr(minimise, 'ROUND', rounds)
    whole.append(minima(optimum, weights))
  monkeypatch.setattr(minimise, 'CELLS', 7 * weights.shape[1])
  whole.append(minima(optimum, weights))
  for found in whole[1:]:  # a chunk of one row rounds in another order
    np.testing.assert_allclose(found[0], whole[0][0], rtol=1e-9)
    np.testing.assert_allclose(found[1], whole[0][1], rtol=1e-12)
    assert found[2].all()


@pytest.mark.parametrize('law', ['chinchilla', 't2', 'data_constrained'])
def test_from_others_minima_as_low_as_from_the_optimum(law, monkeypatch):
  optimum, weights, _ = optimum_of(law, monkeypatch)
  monkeypatch.setattr(intervals, 'PILOT', 10)
  theta = intervals._refit(optimum, optimum.problem, weights)
  cost = np.vecdot(minimise.losses(optimum.problem, theta), weights)
  assert np.sum(cost) <= np.sum(minima(optimum, weights)[1]) * (1 + 1e-9)
  np.testing.assert_array_equal(theta, intervals._refit(optimum, optimum.problem, weights))


def test_no_other_minimiser_finds_less_of_a_resample(monkeypatch):
  optimum, weights, table = optimum_of('chinchilla', monkeypatch)
  theta = intervals._refit(optimum, optimum.problem, weights)

  def objective(t, w):
    E, A, alpha, B, beta = t * scale
    y = laws.chinchilla(E, np.exp(A), alpha, np.exp(B), beta, table['N'], table['D'])
    r = np.abs(np.log(y / table['L']))
    return w @ np.where(r < 1e-3, r**2 / 2, 1e-3 * (r - 5e-4))

  for t, w in zip(theta[:4], weights):
    scale = t
    cost = objective(np.ones(5), w)
    rival = optimize.minimize(
      objective, np.full(5, 1.003), (w,), 'Nelder-Mead', options={'maxfev': 3000, 'fatol': 1e-15}
    )
    assert cost <= rival.fun * (1 + 1e-9)
    assert rival.fun < objective(np.full(5, 1.003), w)


def test_a_step_bends_with_the_residuals():
  """Of y = a x^-b the points with one value at x0 lie on a curve of (a, b): the step follows it."""

  def law(a, b, x):
    return a * np.exp(-b * np.log(x))

  x, theta = np.array([2.0, 50.0]), np.array([[1.0, 0.5]])
  problem = minimise.Problem(
    law, [x], law(1.0, 0.5, x) - np.array([0.0, 0.5]), np.ones(2), minimise.parse_loss('huber'),
    np.full(2, -np.inf), np.full(2, np.inf), np.zeros(2, bool),
  )  # fmt: skip
  weights = np.ones((1, 2))
  state = minimise.expand(problem, theta, weights, problem.target, 1e-3)
  assert np.abs(state.residuals[0, 0]) < 1e-15 and state.residuals[0, 1] == pytest.approx(0.5)
  step = np.array([[0.1 * np.log(2.0), 0.1]])  # keeps a 2^-b to first order
  newton = minimise._Step(step, np.zeros(1), state.hessian + np.eye(2) * 1e-6, np.ones((1, 2)))
  end, share = minimise._along(problem, theta, newton, state, weights, problem.target, 1e-3)
  assert share[0] >= 1
  first_order = law(*(theta + share[0] * step)[0], x)[0] - law(1.0, 0.5, x)[0]
  assert abs(law(*end[0], x)[0] - law(1.0, 0.5, x)[0]) < 0.3 * abs(first_order)
