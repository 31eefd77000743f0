"""Plans from laws: against closed forms, scipy and brute force; what has no optimum is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize

from analysis import plan_words, planning, trades
from analysis.errors import BadInput
from analysis.laws import LAWS, Law, Param

HOFFMANN = {'E': 1.8172, 'A': 477.8, 'alpha': 0.3473, 'B': 2143.4, 'beta': 0.3672}  # 2404.10102
RANGES = {'N': (4e7, 1.6e10), 'D': (1e9, 3e11)}


def fitted(params, law=LAWS['chinchilla'], spread=0.0, samples=50):
  """What `of_fit` reads of a fit: parameters, and bootstrap samples about them."""
  rng = np.random.default_rng(0)
  values = np.array([*params.values()])
  draws = values * np.exp(spread * rng.normal(size=(samples if spread else 0, len(values))))
  return SimpleNamespace(definition=law, params=params, samples=draws)


def custom(function, names, inputs, output='L'):
  """A law of one's own."""
  params = tuple(Param(name, 0.0, np.inf) for name in names)
  return Law('own', '', inputs, output, params, function, source='')


def chinchilla_optimal(p, C):
  """(N, D) of the least loss at 6 N D = C: 2203.15556, equation 4."""
  G = (p['alpha'] * p['A'] / (p['beta'] * p['B'])) ** (1 / (p['alpha'] + p['beta']))
  N = G * (C / 6) ** (p['beta'] / (p['alpha'] + p['beta']))
  return N, C / (6 * N)


def loss(p, N, D):
  return p['E'] + p['A'] * N ** -p['alpha'] + p['B'] * D ** -p['beta']


@settings(max_examples=12, deadline=None)
@given(
  alpha=st.floats(0.15, 0.6),
  beta=st.floats(0.15, 0.6),
  A=st.floats(50, 5000),
  B=st.floats(50, 5000),
  log_C=st.floats(19, 24),
)
def test_without_queries_it_is_chinchillas_closed_form(alpha, beta, A, B, log_C):
  params = HOFFMANN | {'alpha': alpha, 'beta': beta, 'A': A, 'B': B}
  problem = planning.of_fit(fitted(params), RANGES)
  N, D = chinchilla_optimal(params, 10**log_C)
  assume(RANGES['N'][0] / 1e5 < N < RANGES['N'][1] * 1e5)
  assume(RANGES['D'][0] / 1e5 < D < RANGES['D'][1] * 1e5)
  choice = planning.for_budget(problem, 10**log_C)
  assert choice.split['N'] == pytest.approx(N, rel=1e-3)
  assert choice.split['D'] == pytest.approx(D, rel=1e-3)
  assert choice.value == pytest.approx(loss(params, N, D), rel=1e-9)
  assert choice.total == pytest.approx(10**log_C) and choice.serve == 0
  back = planning.for_target(problem, choice.value)
  assert back.total == pytest.approx(10**log_C, rel=1e-6)


@pytest.mark.parametrize('queries', [1e8, 1e10, 1e12])
def test_inference_aware_against_scipy(queries):
  """2401.00448: least 6 N D + 2 N D_inf subject to L(N, D) = l, by a bounded search over N."""
  target, tokens = 2.1, 768
  problem = planning.of_fit(fitted(HOFFMANN), RANGES, queries, prompt=512, response=256)
  p = HOFFMANN

  def total(log_N):
    gap = target - p['E'] - p['A'] * np.exp(-p['alpha'] * log_N)
    if gap <= 0:
      return np.inf
    return np.exp(log_N) * (6 * (p['B'] / gap) ** (1 / p['beta']) + 2 * queries * tokens)

  grid = np.linspace(np.log(1e8), np.log(1e13), 4000)
  near = grid[np.argmin([total(x) for x in grid])]
  best = optimize.minimize_scalar(
    total, bounds=(near - 0.01, near + 0.01), method='bounded', options={'xatol': 1e-9}
  )
  choice = planning.for_target(problem, target)
  assert choice.total == pytest.approx(best.fun, rel=1e-6)
  assert choice.split['N'] == pytest.approx(np.exp(best.x), rel=1e-3)
  assert choice.value == pytest.approx(target, rel=1e-7)
  trained_alone = planning.for_target(planning.of_fit(fitted(HOFFMANN), RANGES), target)
  assert choice.split['N'] < trained_alone.split['N'] and choice.train > trained_alone.train


def coverage_law(E, A, alpha, B, beta, G, gamma, N, D, k):
  """-log pass@k = E + A/N^alpha + B/D^beta + G/k^gamma, in the form of 2604.01411."""
  return E + A * N**-alpha + B * D**-beta + G * k**-gamma


COVERAGE = dict(zip('EAaBbGg', (0.05, 60.0, 0.3, 120.0, 0.3, 0.8, 0.5)))
WITH_K = custom(coverage_law, COVERAGE, ('N', 'D', 'k'))


def with_k(queries, rates=None, spread=0.0, **options):
  ranges = RANGES | {'k': (1, 64)}
  fit = fitted(COVERAGE, WITH_K, spread)
  return planning.of_fit(fit, ranges, queries, 200, 300, rates=rates, **options)


@pytest.mark.parametrize('queries', [1e6, 1e9, 1e12])
def test_with_samples_against_brute_force(queries):
  choice = planning.for_budget(with_k(queries), 1e22)
  k = np.unique(np.round(np.geomspace(1, 1e6, 600)))[:, None]
  N = np.geomspace(1e6, 1e13, 3000)[None]
  D = (1e22 - queries * 2 * N * (200 + 300 * k)) / (6 * N)
  with np.errstate(invalid='ignore'):
    value = np.where(D > 0, coverage_law(*COVERAGE.values(), N, np.maximum(D, 1), k), np.inf)
  assert choice.value == pytest.approx(value.min(), rel=2e-3)
  N, D, k = (choice.split[x] for x in 'NDk')
  assert choice.value == pytest.approx(coverage_law(*COVERAGE.values(), N, D, k))
  assert choice.train == pytest.approx(6 * N * D) and k == int(k)
  assert choice.serve == pytest.approx(queries * 2 * N * (200 + 300 * k))
  assert choice.total == pytest.approx(1e22)


def transfer_law(E, A, alpha, B, beta, G, gamma, delta, N, P, D):
  """A loss that falls with pretraining, the less the more is fine-tuned: D counts as more tokens
  after more of P, as in the effective data of 2102.01293."""
  return E + A * N**-alpha + B * (D * P**delta) ** -beta + G * P**-gamma


TRANSFER = dict(zip('EAaBbGgd', (1.5, 400.0, 0.34, 900.0, 0.35, 80.0, 0.25, 0.2)))
WITH_P = custom(transfer_law, TRANSFER, ('N', 'P', 'D'))
BASES = {'N': (1e8, 1e10), 'P': (1e9, 1e11), 'D': (1e7, 1e9)}


@pytest.mark.parametrize('queries', [0.0, 1e10])
def test_pretraining_against_brute_force(queries):
  problem = planning.of_fit(fitted(TRANSFER, WITH_P), BASES, queries, 200, 300)
  choice = planning.for_budget(problem, 1e21)
  N, P = np.geomspace(1e7, 1e11, 1500)[:, None], np.geomspace(1e8, 1e14, 1500)[None]
  D = (1e21 - queries * 2 * N * 500 - 6 * N * P) / (6 * N)
  value = np.where(D > 0, transfer_law(*TRANSFER.values(), N, P, np.maximum(D, 1)), np.inf)
  assert choice.value == pytest.approx(value.min(), rel=1e-5)
  i, j = np.unravel_index(np.argmin(value), value.shape)
  assert choice.split['N'] == pytest.approx(N[i, 0], rel=0.02)
  assert choice.split['P'] == pytest.approx(P[0, j], rel=0.02)
  N, P, D = (choice.split[x] for x in 'NPD')
  assert choice.train == pytest.approx(6 * N * (P + D)) and choice.total == pytest.approx(1e21)
  assert choice.extrapolated.get('P', 1.0) == pytest.approx(max(1e9 / P, P / 1e11, 1.0))
  back = planning.for_target(problem, choice.value)
  assert back.total == pytest.approx(1e21, rel=1e-5)


def test_pretraining_has_its_exchange_rates_and_iso_performance():
  problem = planning.of_fit(fitted(TRANSFER, WITH_P, 0.002, 4), BASES, 1e10, 200, 300, reach=100)
  at = {'N': 1e9, 'P': 1e10, 'D': 1e8, 'C': 0.0, 'k': 1.0}
  value = lambda P, D: transfer_law(*TRANSFER.values(), at['N'], P, D)
  found = trades.exchange(problem, at, 'P', 10, 'D')
  D = optimize.brentq(lambda x: value(1e10, np.exp(x)) - value(1e11, 1e8), 10, 60)
  assert found.ratio == pytest.approx(np.exp(D) / 1e8, rel=1e-6)
  assert [x.give + x.take for x in plan_words.exchanges(problem, at)] == ['ND', 'DN', 'PD', 'DP']
  iso = trades.iso_performance(problem, 3.0, points=400)
  least = (iso['train'] + 1e10 * iso['query']).min()
  assert least == pytest.approx(planning.for_target(problem, 3.0).total, rel=0.02)


def test_pretraining_is_within_what_was_measured_where_a_problem_says_so():
  """A base that costs nothing is the best of those measured, however far the rest is searched."""
  problem = planning.of_fit(fitted(TRANSFER, WITH_P), BASES, reach=4.0)
  costs = problem.costs
  free = problem._replace(costs=lambda N, P, C, k: costs(N, 0.0, C, k), within=('P',))
  choice = planning.for_budget(free, 3e20)
  assert choice.split['P'] == pytest.approx(1e11) and 'P' not in choice.extrapolated
  assert choice.split['D'] > 1e9 and choice.train == pytest.approx(3e20)


def test_a_slow_decode_buys_fewer_samples_and_more_training():
  rates = planning.Rates(train=4e14, prefill=4e14, decode=4e12)
  plain = planning.for_budget(with_k(1e9), 1e22)
  slow = planning.for_budget(with_k(1e9, rates), 1e22 / 4e14)
  assert with_k(1e9, rates).unit == 'device-s'
  assert slow.split['k'] * slow.split['N'] < plain.split['k'] * plain.split['N']
  N, D, k = (slow.split[x] for x in 'NDk')
  seconds = 6 * N * D / 4e14 + 1e9 * (2 * N * 200 / 4e14 + 2 * N * 300 * k / 4e12)
  assert slow.total == pytest.approx(seconds) and seconds == pytest.approx(1e22 / 4e14)
  money = with_k(1e9, rates._replace(price=36.0))
  assert money.unit == '$'
  assert planning.for_budget(money, 1e22 / 4e14 / 100).value == pytest.approx(slow.value, rel=1e-6)


def test_equal_cost_inference_multiple():
  """2408.03314: M times the model costs as much as the smaller one that samples
  M + 3 (D_pre / D_inf)(M - 1) times as much."""
  M, N, pretrained, response = 14.0, 1e9, 3e11, 1000.0
  fit = fitted(COVERAGE, WITH_K)
  problem = planning.of_fit(fit, RANGES | {'k': (1, 64)}, 1e8, 0, response, pretrained=pretrained)

  def total(N, k):
    _, once, query = problem.costs(N, 0.0, 0.0, k)
    return once + 1e8 * query

  multiple = M + 3 * pretrained / (1e8 * response) * (M - 1)
  assert total(M * N, 1.0) == pytest.approx(total(N, multiple))


def test_exchange_rates_in_closed_form():
  p, at = HOFFMANN, {'N': 1e9, 'P': 0.0, 'D': 2e10, 'C': 0.0, 'k': 1.0}
  problem = planning.of_fit(fitted(p, spread=0.002), RANGES)
  found = trades.exchange(problem, at, 'D', 10, 'N')
  gained = p['B'] * (at['D'] ** -p['beta'] - (10 * at['D']) ** -p['beta'])
  ratio = (1 - gained / (p['A'] * at['N'] ** -p['alpha'])) ** (-1 / p['alpha'])
  assert found.ratio == pytest.approx(ratio, rel=1e-9)
  assert found.interval[0] < ratio < found.interval[1] and not found.extrapolated
  back = trades.exchange(problem, at, 'N', ratio, 'D')
  assert back.ratio == pytest.approx(10, rel=1e-6)
  # a model that bounds the loss from below by more than the tokens would gain
  never = trades.exchange(problem, at | {'N': 1e10, 'D': 1e9}, 'D', 1e3, 'N')
  assert never.ratio == np.inf and never.interval[1] == np.inf


def test_more_samples_in_place_of_a_larger_model():
  at = {'N': 1e7, 'P': 0.0, 'D': 1e11, 'C': 0.0, 'k': 4.0}
  found = trades.exchange(with_k(1e6, spread=0.01), at, 'k', 10, 'N')
  value = lambda N, k: coverage_law(*COVERAGE.values(), N, at['D'], k)
  N = optimize.brentq(lambda x: value(np.exp(x), 4.0) - value(1e7, 40.0), 10, 60)
  assert found.ratio == pytest.approx(np.exp(N) / 1e7, rel=1e-6)
  assert found.interval[0] < found.ratio < found.interval[1]


def test_iso_performance_holds_the_cheapest_split():
  """Every point of the curve is a split that reaches the target, and its cheapest total for Q
  queries is the optimum that `for_target` finds."""
  queries, target = 1e9, 2.1
  problem = planning.of_fit(fitted(HOFFMANN, spread=0.002), RANGES, queries, 512, 256)
  iso = trades.iso_performance(problem, target, points=400)
  assert (np.diff(iso['train']) < 0).all() and (np.diff(iso['query']) > 0).all()
  total = iso['train'] + queries * iso['query']
  assert total.min() == pytest.approx(planning.for_target(problem, target).total, rel=0.01)
  assert (iso['low'] <= iso['train']).all() and (iso['train'] <= iso['high']).all()
  i = len(iso['query']) // 2
  p, N = HOFFMANN, iso['query'][i] / (2 * 768)
  D = (p['B'] / (target - p['E'] - p['A'] * N ** -p['alpha'])) ** (1 / p['beta'])
  assert iso['train'][i] == pytest.approx(6 * N * D)


def test_uncertainty_is_carried_through():
  """Each sample's own optimum: the intervals are the quantiles of the closed form over them."""
  fit = fitted(HOFFMANN, spread=0.01, samples=400)
  choice = planning.for_budget(planning.of_fit(fit, RANGES), 1e21)
  names = [*HOFFMANN]
  each = [chinchilla_optimal(dict(zip(names, row)), 1e21)[0] for row in fit.samples]
  low, high = np.quantile(each, [0.025, 0.975])
  assert choice.intervals['N'] == pytest.approx((low, high), rel=0.02)
  values = [loss(dict(zip(names, row)), *(choice.split[x] for x in 'ND')) for row in fit.samples]
  assert choice.value_interval == pytest.approx(
    tuple(np.quantile(values, [0.025, 0.975])), rel=1e-3
  )
  assert choice.unbounded == 0


def test_extrapolation_is_marked():
  problem = planning.of_fit(fitted(HOFFMANN), RANGES)
  assert planning.for_budget(problem, 1e20).extrapolated == {}
  far = planning.for_budget(problem, 1e25)
  assert far.extrapolated['N'] == pytest.approx(far.split['N'] / RANGES['N'][1])
  inside = planning.for_budget(problem, 1e25, inside=True)
  assert inside.extrapolated == {} and inside.value > far.value
  line = planning.curve(problem, np.geomspace(1e10, 1e25, 5))
  assert np.isfinite(line['value']).all() and list(line['extrapolated'])[-1]
  chosen = planning.for_budget(problem, 1e25)
  assert line['value'][-1] == pytest.approx(chosen.value)


def test_names_of_other_laws():
  """A law of other inputs, told what they are: over-training, L(C, M), is the law of (N, D)."""
  law = custom(lambda E, a, N, C: E + a * N**-0.3 + a * (C / (6 * N)) ** -0.3, 'Ea', ('X', 'C6'))
  fit = fitted({'E': 1.0, 'a': 50.0}, law)
  problem = planning.of_fit(fit, RANGES, inputs={'C6': lambda N, P, D, C, k: 6 * N * D})
  choice = planning.for_budget(problem, 6e20)
  assert choice.split['N'] == pytest.approx(1e10, rel=1e-3)
  assert choice.split['D'] == pytest.approx(1e10, rel=1e-3)


def test_a_law_of_effective_tokens_plans_pretraining():
  """Where D counts P^0.2 times as much, and both cost 6 N a token, the best has P = 0.2 D."""
  inputs = {'D': lambda N, P, D, C, k: D * P**0.2}
  problem = planning.of_fit(fitted(HOFFMANN), RANGES | {'P': (1e8, 1e11)}, inputs=inputs)
  split = planning.for_budget(problem, 1e21).split
  assert split['P'] == pytest.approx(0.2 * split['D'], rel=1e-3)


def rising(E, A, alpha, N, D):
  return E + A * N**alpha - D**-0.01


def no_trade(a, b, c, N, D):
  return a - b * np.log(N) - c * np.log(D)


def saddle(a, N, D):
  """Along N D = const it is highest in the middle."""
  return a - 0.01 * np.log(N / D) ** 2


@pytest.mark.parametrize(
  'law, params, words',
  [
    (no_trade, {'a': 9.0, 'b': 0.05, 'c': 0.02}, 'the best N runs to'),
    (saddle, {'a': 9.0}, 'concave'),
  ],
)
def test_a_law_without_an_optimum_is_refused(law, params, words):
  problem = planning.of_fit(fitted(params, custom(law, params, ('N', 'D'))), RANGES)
  with pytest.raises(BadInput, match=words) as error:
    planning.for_budget(problem, 1e21)
  assert '\n' not in str(error.value)


def test_samples_that_cost_nothing_are_refused():
  with pytest.raises(BadInput, match='samples cost nothing'):
    planning.for_budget(with_k(0.0), 1e21)


def test_bad_input():
  problem = planning.of_fit(fitted(HOFFMANN), RANGES, 1e6, 100, 100)
  with pytest.raises(BadInput, match=r'out of reach.*1\.8'):
    planning.for_target(problem, 1.7)
  with pytest.raises(BadInput, match='out of reach'):
    trades.iso_performance(problem, 1.7)
  with pytest.raises(BadInput, match='buys nothing'):
    planning.for_budget(problem, 1.0)
  with pytest.raises(BadInput, match='tokens of a query'):
    planning.of_fit(fitted(HOFFMANN), RANGES, 1e6)
  with pytest.raises(BadInput, match='no range of D'):
    planning.of_fit(fitted(HOFFMANN), {'N': (1e6, 1e9)})
  with pytest.raises(BadInput, match="'x' is none of N, P, D, C, k"):
    planning.of_fit(fitted({'E': 1.0, 'A': 1.0, 'alpha': 0.3}, LAWS['power']), RANGES)
  with_p = fitted(TRANSFER, WITH_P)
  with pytest.raises(BadInput, match='no range of P'):
    planning.of_fit(with_p, RANGES)
  with pytest.raises(BadInput, match='the range of P begins at 0'):
    planning.of_fit(with_p, BASES | {'P': (0.0, 1e9)})
  with pytest.raises(BadInput, match='leave `pretrained` out'):
    planning.of_fit(with_p, BASES, pretrained=1e9)
  with pytest.raises(BadInput, match='no C'):
    trades.exchange(problem, {'N': 1.0, 'P': 0.0, 'D': 1.0, 'C': 0.0, 'k': 1.0}, 'C', 10, 'N')
