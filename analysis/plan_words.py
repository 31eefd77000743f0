"""What a plan says, in words and tables: of `planning` and `trades`, for any law."""

import numpy as np
import pandas as pd

from analysis.errors import BadInput
from analysis.fit_command import parse_pairs
from analysis.optimum import VARIABLES, Problem
from analysis.planning import Choice, Rates
from analysis.style import amount, human
from analysis.trades import Exchange, exchange

NAMES = {
  'N': 'parameters',
  'P': 'tokens of pretraining',
  'D': 'training tokens',
  'C': 'RL FLOPs',
  'k': 'samples a query',
}
FACTOR = 10.0
PAIRS = (('k', 'N'), ('k', 'D'), ('N', 'D'), ('D', 'N'), ('P', 'D'), ('D', 'P'), ('C', 'D'))


def varied(problem: Problem) -> list[str]:
  """The variables that the problem leaves to choose."""
  regions = problem.regions
  return [
    x
    for x in VARIABLES
    if any(getattr(r, x)[1] > getattr(r, x)[0] for r in regions)
    or len({getattr(r, x) for r in regions}) > 1
  ]


def value_words(problem: Problem, value: float) -> str:
  """A quality in percent where it is a share of problems, else as a number."""
  return f'{value:.4g}' if problem.lower_is_better else f'{100 * value:.1f} %'


def interval_words(bounds, say=human) -> str:
  low, high = bounds
  if np.isnan(low):
    return 'no interval'
  return f'{say(low)} to {"any" if np.isinf(high) else say(high)}'


def split_table(problem: Problem, asked: list[str], choices: list[Choice]) -> pd.DataFrame:
  """A row a choice: what was asked, its prediction, split, total, all with intervals."""
  rows = []
  spend = lambda x: amount(x, problem.unit)
  say = lambda x: value_words(problem, x)
  for words, choice in zip(asked, choices, strict=True):
    row = {'for': words, problem.what: say(choice.value)}
    if np.isfinite(choice.value_interval[0]):
      row[problem.what] += f' ({interval_words(choice.value_interval, say)})'
    for name in varied(problem):
      row[name] = human(choice.split[name])
      if np.isfinite(choice.intervals[name][0]):
        row[name] += f' ({interval_words(choice.intervals[name])})'
    row['serving'] = f'{100 * choice.serve / choice.total:.0f} %'
    row['total'] = spend(choice.total)
    low, high = choice.total_interval
    if high > low * 1.05:
      row['total'] += f' ({interval_words(choice.total_interval, spend)})'
    row[''] = beyond_words(problem, choice)
    rows.append(row)
  return pd.DataFrame(rows)


def beyond_words(problem: Problem, choice: Choice) -> str:
  """'extrapolated: N 12×, D 3×', and whether there is an optimum at all."""
  said = []
  if choice.extrapolated:
    far = ', '.join(f'{name} {human(ratio)}×' for name, ratio in choice.extrapolated.items())
    said.append(f'extrapolated: {far}')
    if choice.edges and not problem.open:
      said.append(f'as far as was searched in {", ".join(choice.edges)}')
  if problem.open and choice.unbounded > 0:
    said.append(f'no optimum in {100 * choice.unbounded:.1f} % of the resamples')
  return '; '.join(said)


def exchanges(problem: Problem, at: dict) -> list[Exchange]:
  """FACTOR times each resource in terms of another, at a split, as far as the law has them."""
  there = [x for x in varied(problem) if at[x] > 0]
  pairs = [pair for pair in PAIRS if set(pair) <= set(there)]
  return [exchange(problem, at, give, FACTOR, take) for give, take in pairs]


def exchange_words(rate: Exchange) -> str:
  """'10× samples a query ≈ 3.2× parameters (95 % 2.1 to 5.0)'."""
  gives = f'{rate.factor:g}× {NAMES[rate.give]}'
  far = ', extrapolated' if rate.extrapolated else ''
  if np.isinf(rate.ratio):
    return f'{gives}: more than any number of {NAMES[rate.take]} gives{far}'
  if rate.ratio == 0:
    return f'{gives}: worth nothing in {NAMES[rate.take]}{far}'
  interval = '' if np.isnan(rate.interval[0]) else f' (95 % {interval_words(rate.interval)})'
  return f'{gives} ≈ {human(rate.ratio)}× {NAMES[rate.take]}{interval}{far}'


def parse_rates(text: str) -> Rates:
  """Of 'train=4e14,prefill=3e14,decode=2e13,price=2.5'. BadInput where one is missing or none."""
  found = {}
  for name, value in parse_pairs('--rates', text).items():
    if name not in Rates._fields:
      raise BadInput(f'--rates: {name!r} is none of train, prefill, decode (FLOP/s) and price')
    try:
      found[name] = float(value)
    except ValueError:
      raise BadInput(f'--rates: {name}={value} is no number') from None
    if not found[name] > 0:
      raise BadInput(f'--rates: {name}={value} must be above 0')
  missing = [name for name in ('train', 'prefill', 'decode') if name not in found]
  if missing:
    raise BadInput(f'--rates: {missing[0]} is missing: give train=, prefill= and decode= in FLOP/s')
  return Rates(**found)
