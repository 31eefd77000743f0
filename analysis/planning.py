"""Plans a run from a law: the best split of a budget, or the cheapest split that reaches a target.

A split is N parameters, P tokens of pretraining (0 where they do not vary), D tokens to train on, C
FLOPs of RL (0: none) and k samples a query; Q queries are to be served. What it costs is linear in
D given the rest, so a budget's D is known in closed form, and the search is over N, P, C and k: a
grid in logs, then a finer one round its best, for the estimate and for every bootstrap sample of
the law's parameters at once.

`of_fit` makes a problem of any law of N, P, D, C and k fitted to a table, with training at
6 N (P + D) and a query at 2 N FLOPs a token (2001.08361, appendix B; attention not counted): with
Chinchilla's law that is its compute-optimal model for Q = 0 (2203.15556), and Sardana et al.'s
inference-aware one beyond (2401.00448). `frontier.problem` makes one of a study, with the costs of
its ledger.

A split outside what was measured is marked extrapolated, by how far. Where the best N or k runs to
the bounds of a search millions of times as wide as the data, there is no optimum: BadInput.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.errors import BadInput
from analysis.optimum import (
  AXES,
  VARIABLES,
  Problem,
  Region,
  axis,
  better,
  beyond,
  bounds_of,
  cheapest,
  dearest,
  percentiles,
  search,
)

ALIASES = {'X': 'N'}  # what laws of fine-tuning call the size of the model
LOWER_IS_BETTER = ('L', 'Err')
REACH = 1e6  # how far beyond the measured ranges the search for a fit's optimum goes


class Rates(NamedTuple):
  """FLOPs a second at which a device trains, prefills and decodes; price: of a device for an hour,
  in any currency, shown as $.

  Decoding is bound by memory, so its rate is the lowest, and a budget in seconds or in money buys
  fewer samples than one in FLOPs.
  """

  train: float
  prefill: float
  decode: float
  price: float | None = None

  def unit(self) -> str:
    return 'device-s' if self.price is None else '$'

  def spend(self, train=0.0, prefill=0.0, decode=0.0):
    """Seconds, or money, of FLOPs of each kind."""
    seconds = train / self.train + prefill / self.prefill + decode / self.decode
    return seconds if self.price is None else seconds * self.price / 3600


def spend(rates: Rates | None, train=0.0, prefill=0.0, decode=0.0):
  """What FLOPs of each kind come to: their sum, or seconds or money where rates are given."""
  return train + prefill + decode if rates is None else rates.spend(train, prefill, decode)


def unit(rates: Rates | None) -> str:
  return 'FLOP' if rates is None else rates.unit()


class Choice(NamedTuple):
  """A split with its costs; each interval is 95 %, and NaN where the law has no bootstrap."""

  split: dict  # of VARIABLES
  intervals: dict  # of the best of each: those that each bootstrap sample of the law chooses
  value: float  # what the law predicts of the split
  value_interval: tuple  # the same of the bootstrap samples at the same split
  train: float
  serve: float  # all queries
  total_interval: tuple  # of the total, as `intervals`; of a budget it is the budget
  extrapolated: dict  # variable -> how many times beyond what was measured
  edges: tuple  # variables at the bounds of what was searched
  unbounded: float  # share of the bootstrap samples whose own optimum lies at those bounds

  @property
  def total(self) -> float:
    return self.train + self.serve


def of_fit(
  fit,
  ranges: dict,
  queries: float = 0.0,
  prompt: float = 0.0,
  response: float = 0.0,
  *,
  pretrained: float = 0.0,
  inputs: dict | None = None,
  lower_is_better: bool | None = None,
  rates: Rates | None = None,
  reach: float = REACH,
) -> Problem:
  """The problem of a law fitted to a table.

  ranges: 'N', 'D' (and 'P', 'C', 'k' where the law or `inputs` has them) -> (low, high) measured.
  queries: to be served, each with `prompt` and k times `response` tokens. pretrained: tokens of
  pretraining to count, 6 N each (0: sunk), where D is of fine-tuning and the law has no P.
  inputs: input of the law -> function of (N, P, D, C, k), or a number, for inputs of other names;
  lower_is_better: whether the law's output is a loss, where its name does not say so.
  """
  law = fit.definition
  given = dict(inputs or {})
  places = {name: ALIASES.get(name, name) for name in law.inputs if name not in given}
  unknown = [name for name in places if places[name] not in VARIABLES]
  if unknown:
    raise BadInput(
      f'{law.name}: input {unknown[0]!r} is none of {", ".join(VARIABLES)}; say in `inputs` '
      'what it is of them'
    )
  if len(set(places.values())) < len(places):
    raise BadInput(f'{law.name}: two of its inputs are {", ".join(places.values())}; use `inputs`')
  ranges = {ALIASES.get(name, name): bounds for name, bounds in ranges.items()}
  missing = [name for name in ('N', 'D', *places.values()) if name not in ranges]
  if missing:
    raise BadInput(f'{law.name}: no range of {missing[0]} in `ranges`, so no plan in it')
  used = {name: ranges[name] for name in VARIABLES if name in ranges}
  for name, (low, high) in used.items():
    if low <= 0 < high:
      raise BadInput(f'{law.name}: the range of {name} begins at {low:g}; it must be above 0')
  if 'P' in used and pretrained:
    raise BadInput(f'{law.name} has tokens of pretraining, P: leave `pretrained` out')
  if queries < 0 or prompt < 0 or response < 0 or (queries and not prompt + response):
    raise BadInput(
      f'{queries:g} queries of {prompt:g} + {response:g} tokens: give the tokens of a query, '
      'its prompt and its response'
    )
  if lower_is_better is None:
    lower_is_better = law.output in LOWER_IS_BETTER

  def predict(theta, *where):
    variables = dict(zip(VARIABLES, where, strict=True))
    values = []
    for name in law.inputs:
      known = given.get(name)
      if callable(known):
        values.append(known(*where))
      else:
        values.append(variables[places[name]] if known is None else known)
    return law.function(*theta.T[:, :, None], *values)

  def costs(N, P, C, k):
    query = spend(rates, prefill=2 * N * prompt, decode=2 * N * response * k)
    return spend(rates, train=6 * N), spend(rates, train=6 * N * (P + pretrained) + C), query

  theta = np.array([[*fit.params.values()]])
  return Problem(
    predict=predict,
    theta=np.concatenate([theta, fit.samples]) if len(fit.samples) else theta,
    costs=costs,
    regions=(Region(**used),),
    lower_is_better=lower_is_better,
    what=law.output,
    queries=queries,
    unit=unit(rates),
    reach=reach,
    open=reach >= REACH,
  )


def for_budget(problem: Problem, budget: float, inside: bool = False) -> Choice:
  """The split of the best predicted quality whose total is at most `budget`.

  inside: among splits that were measured, or lie between them. BadInput where the budget buys
  none, or where the law has no optimum.
  """
  found = search(problem, problem.theta, np.full(len(problem.theta), float(budget)), inside)
  if not found['affordable'][0]:
    raise BadInput(
      f'a budget of {budget:.3g} {problem.unit} buys nothing in the range searched; '
      f'the least costs {cheapest(problem, inside):.3g}'
    )
  if not inside:
    _refuse(problem, budget, found)
  return _choice(problem, found)


def for_target(problem: Problem, target: float, inside: bool = False) -> Choice:
  """The cheapest split that is predicted to reach `target`. BadInput where none does."""
  rows = len(problem.theta)
  low, high = cheapest(problem, inside), dearest(problem, inside)
  # of a step that is only asked whether it reaches the target, fewer rounds: an optimum is flat
  reached = lambda budgets: _reaches(
    problem, search(problem, problem.theta, budgets, inside, rounds=12), target
  )
  top = search(problem, problem.theta, np.full(rows, high), inside)
  if not _reaches(problem, top, target)[0]:
    raise BadInput(
      f'{problem.what} = {target:g} is out of reach: the best that the law gives in the range '
      f'searched is {top["value"][0]:.4g}'
    )
  lows, highs = np.full(rows, np.log(low)), np.full(rows, np.log(high))
  for _ in range(int(np.ceil(np.log2(np.log(high / low) / 1e-8)))):
    middle = (lows + highs) / 2
    enough = reached(np.exp(middle))
    lows, highs = np.where(enough, lows, middle), np.where(enough, middle, highs)
  found = search(problem, problem.theta, np.exp(highs), inside)
  found['short'] = ~_reaches(problem, top, target)
  if not inside:
    _refuse(problem, float(np.exp(highs[0])), found)
  return _choice(problem, found)


def curve(problem: Problem, budgets: Sequence[float], inside: bool = False) -> dict:
  """The law's frontier: for each budget N, P, D, C, k, value, low, high, total, extrapolated.

  Arrays [B]; low, high: 95 % of the law at the split chosen; NaN where nothing is affordable.
  """
  budgets = np.asarray(budgets, float)
  found = search(problem, np.repeat(problem.theta[:1], len(budgets), 0), budgets, inside)
  splits = [found[name] for name in VARIABLES]
  where = [np.broadcast_to(x, (len(problem.theta), len(budgets))) for x in splits]
  with np.errstate(all='ignore'):
    values = problem.predict(problem.theta, *where)
  found['low'], found['high'] = percentiles(values[1:]) if len(values) > 1 else (np.nan, np.nan)
  found['extrapolated'] = np.array([bool(beyond(problem, s)) for s in zip(*splits)])
  for name in ('value', 'low', 'high', 'total'):
    found[name] = np.where(found['affordable'], found[name], np.nan)
  return found


def _refuse(problem, budget, found):
  """BadInput where the estimate's optimum lies at the bounds of an open search."""
  if not problem.open or not found['edge'][0].any():
    return
  name = VARIABLES[int(np.argmax(found['edge'][0]))]
  if name == 'k' and not problem.queries:
    raise BadInput('no optimum: with 0 queries samples cost nothing, so more is always better')
  concave = ''
  if name in 'ND':
    (region,) = problem.regions
    N = axis(*bounds_of(problem, region, inside=False)['N'])
    P, C, k = (np.full(len(N), found[x][0]) for x in ('P', 'C', 'k'))
    token, besides, query = problem.costs(N, P, C, k)
    D = (budget - besides - problem.queries * query) / token
    there = D > region.D[0] / problem.reach
    with np.errstate(all='ignore'):
      value = problem.predict(problem.theta[:1], *(x[there][None] for x in (N, P, D, C, k)))[0]
    worst = int(np.argmax(value if problem.lower_is_better else -value))
    if 0 < worst < len(value) - 1:
      concave = (
        f'; along that budget it is worst at N = {N[there][worst]:.3g} and better towards either '
        'end, so the law is concave there'
      )
  raise BadInput(
    f'no optimum at {budget:.3g} {problem.unit}: the best {name} runs to {found[name][0]:.3g}, the '
    f'bound of the search{concave}; the law does not determine a split'
  )


def _choice(problem, found):
  split = {name: float(found[name][0]) for name in VARIABLES}
  where = [np.full((len(problem.theta), 1), x) for x in split.values()]
  with np.errstate(all='ignore'):
    values = problem.predict(problem.theta, *where)[:, 0]
  token, besides, query = problem.costs(*(np.array(split[x]) for x in (*AXES, 'k')))
  some = len(problem.theta) > 1
  band = lambda x: tuple(float(v) for v in percentiles(x[1:])) if some else (np.nan, np.nan)
  total = np.where(found.get('short', False), np.inf, found['total'])
  return Choice(
    split=split,
    intervals={name: band(found[name]) for name in VARIABLES},
    value=float(values[0]),
    value_interval=band(values),
    train=float(token * split['D'] + besides),
    serve=float(problem.queries * query),
    total_interval=band(total),
    extrapolated=beyond(problem, split.values()),
    edges=tuple(x for x, at in zip(VARIABLES, found['edge'][0]) if at),
    unbounded=float(np.mean(found['edge'][1:].any(axis=1))) if some else 0.0,
  )


def _reaches(problem, found, target):
  return found['affordable'] & better(problem, found['value'], target, equal=True)
