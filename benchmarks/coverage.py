"""How often 95 % intervals hold the truth: over data sets made up from a law that is known.

    python -m benchmarks.coverage --out=docs/results/coverage.json [--laws='power;sigmoid']

Each set is drawn anew from the law and fitted as a user would fit it. Of each parameter, and of
each kind of interval: the share of the sets whose interval holds the truth, with its own 95 %
interval (Clopper-Pearson). Laws that are named replace their rows in the file, others stay; beside
the file goes a table, coverage.md.

- percentile: 200 resamples of the rows (of problems, where rows are problems).
- analytic: the normal interval by the estimator's own variance, given the problems.
- profile: where the objective has risen by the likelihood ratio's (or F's) quantile; of counts,
  `estimators.beta_binomial_region`.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis import bands, estimators, joint, laws
from analysis.fit import fit
from analysis.fit_command import text_table
from analysis.interpret import power_coverage
from benchmarks import harness

LEVEL = 0.95
SETS = 2000


class Case(NamedTuple):
  """A law with its truth, and what draws a set of data and fits it."""

  data: str
  truth: dict  # quantity -> value
  intervals: Callable  # rng -> {(quantity, kind of interval): (low, high)}


def of_law(law, truth, inputs, noise, loss, data, log=True, fixed=()):
  """A case of a law on a fixed design: normal noise of the output, or of its log."""
  names = [p.name for p in laws.LAWS[law].params]
  output = laws.LAWS[law].output
  exact = laws.LAWS[law].function(*truth.values(), *inputs.values())
  columns = {name: name for name in (*inputs, output)}
  options = {'loss': loss, 'fixed': {name: truth[name] for name in fixed}}

  def intervals(rng):
    error = noise * rng.normal(size=len(exact))
    table = inputs | {output: exact * np.exp(error) if log else exact + error}
    found = fit(law, table, columns, bootstrap=200, profile=True, **options)
    of = {'percentile': found.intervals, 'profile': found.profiles}
    return {(x, kind): ends[x] for kind, ends in of.items() for x in names if x not in fixed}

  return Case(data, {x: truth[x] for x in names if x not in fixed}, intervals)


def _grid():
  N, D = np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6))
  return {'N': N.ravel(), 'D': D.ravel()}


CHINCHILLA = {'E': 1.8172, 'A': 482.01, 'alpha': 0.3478, 'B': 2085.43, 'beta': 0.3658}
ALPHA, BETA, PROBLEMS, SAMPLES = 0.4, 1.6, 64, 32


def _counts(rng):
  return rng.binomial(SAMPLES, rng.beta(ALPHA, BETA, PROBLEMS))


def _beta_binomial(rng):
  """By the joint law of one cell: its two parameters, and pass@k beyond the samples drawn; and by
  the likelihood region."""
  c = _counts(rng)
  table = pd.DataFrame({'problem': range(PROBLEMS), 'c': c, 'n': SAMPLES})
  where = {'params_non_embedding': 1e6, 'pretrain_tokens': 0.0, 'sft_tokens': 1e6, 'rl_flops': 0.0}
  table = table.assign(**where)
  found = joint.fit_joint(table, bootstrap=200, seed=int(rng.integers(1 << 30)))
  ends = {'logit of the mean': found.intervals['1'], 'log(a + b)': found.intervals['dispersion 1']}
  for k in (1, 8, 128):
    ends[f'pass@{k}'] = joint.predict_pass_at_k(found, *where.values(), k)[1:]
  a, b = estimators.beta_binomial_region(c, SAMPLES)
  edge = {'logit of the mean': np.log(a / b), 'log(a + b)': np.log(a + b)}
  edge |= {f'pass@{k}': estimators.coverage_from_beta(a, b, k) for k in (1, 8, 128)}
  profiles = {(name, 'profile'): (x.min(), x.max()) for name, x in edge.items()}
  return {(name, 'percentile'): x for name, x in ends.items()} | profiles


def _coverage(rng):
  """-log pass@k = a k^-b over k = 1, 2, 4, 8 of 32: b, against b of infinitely many problems."""
  ks = [1, 2, 4, 8, 16, 32]
  found = power_coverage(estimators.pass_at_k(SAMPLES, _counts(rng), ks).T, ks)
  return {('b', 'percentile'): (found['b_low'], found['b_high'])}


def _coverage_truth():
  ks = [1, 2, 4, 8, 16, 32]
  exact = estimators.coverage_from_beta(ALPHA, BETA, np.array(ks))
  return {'b': power_coverage(np.stack([exact, exact], axis=1), ks)['b']}


def _pass_at_k(rng):
  """The interval of a mean over problems."""
  c = _counts(rng)
  ends = {}
  for k in (1, 8):
    values = estimators.pass_at_k(SAMPLES, c, k)
    ends[f'pass@{k}', 'percentile'] = bands.bootstrap_problems(values, 1000)
  return ends


CHANCES = np.random.default_rng(0).beta(ALPHA, BETA, PROBLEMS)  # of problems that are given


def _these_problems(rng):
  """The interval of the mean over these problems, and no others: their samples' own variance."""
  c = rng.binomial(SAMPLES, CHANCES)
  ends = {}
  for k in (1, 8):
    mean = estimators.pass_at_k(SAMPLES, c, k).mean()
    error = np.sqrt(estimators.pass_at_k_variance(SAMPLES, c, k).sum()) / PROBLEMS
    reach = stats.norm.ppf((1 + LEVEL) / 2) * error
    ends[f'pass@{k}', 'analytic'] = mean - reach, mean + reach
  return ends


def _passes():
  return {f'pass@{k}': float(estimators.coverage_from_beta(ALPHA, BETA, k)) for k in (1, 8, 128)}


def _both():
  mean = {'logit of the mean': np.log(ALPHA / BETA), 'log(a + b)': np.log(ALPHA + BETA)}
  return mean | _passes()


def _cases():
  counts = f'{PROBLEMS} problems × {SAMPLES} samples'
  rising = {'R_0': 0.2, 'A': 0.6, 'C_mid': 1.0, 'B': 1.5}
  falling = {'E': 1.5, 'A': 300.0, 'alpha': 0.35}
  x, C = {'x': np.geomspace(1e5, 1e9, 12)}, {'C': np.geomspace(0.1, 10, 20)}
  noisy = '36 rows, noise 0.5 %'
  return {
    'power': of_law('power', falling, x, 0.01, 'squares_log', '12 rows, noise 1 %'),
    'chinchilla': of_law('chinchilla', CHINCHILLA, _grid(), 0.005, 'squares_log', noisy),
    'chinchilla, huber_log:1e-3': of_law(
      'chinchilla', CHINCHILLA, _grid(), 0.005, 'huber_log:1e-3', noisy
    ),
    'sigmoid': of_law(
      'sigmoid', rising, C, 0.01, 'squares', '20 rows, noise 0.01, R_0 given', False, ('R_0',)
    ),
    'beta-binomial': Case(counts, _both(), _beta_binomial),
    'coverage': Case(counts, _coverage_truth(), _coverage),
    'pass@k of these problems': Case(
      counts,
      {f'pass@{k}': float(np.mean(1 - (1 - CHANCES) ** k)) for k in (1, 8)},
      _these_problems,
    ),
    'pass@k': Case(counts, {x: _passes()[x] for x in ('pass@1', 'pass@8')}, _pass_at_k),
  }


def simulate(name: str, case: Case, sets: int, seed: int = 0) -> list[dict]:
  """A row a quantity and kind of interval: the share of `sets` whose interval holds the truth."""
  held, widths, began, clock = {}, {}, time.process_time(), time.monotonic()
  for i in range(sets):
    if i and i % 50 == 0:
      harness.say(
        f'{name}: {i} of {sets} sets; {(time.monotonic() - clock) * (sets / i - 1):.0f} s left'
      )
    for key, (low, high) in case.intervals(np.random.default_rng([seed, i])).items():
      held.setdefault(key, []).append(low <= case.truth[key[0]] <= high)
      widths.setdefault(key, []).append(high - low)
  seconds = time.process_time() - began
  rows = []
  for (quantity, kind), inside in held.items():
    ends = stats.binomtest(sum(inside), sets).proportion_ci(LEVEL)
    row = {'law': name, 'data': case.data, 'quantity': quantity, 'interval': kind, 'sets': sets}
    row |= {'covered': sum(inside) / sets, 'low': ends.low, 'high': ends.high}
    width = float(np.median(widths[quantity, kind]))
    rows.append(row | {'truth': case.truth[quantity], 'median_width': width, 'seconds': seconds})
  return rows


def table(rows: list[dict]) -> str:
  """The rows as a Markdown table; bold: short of 95 % beyond the noise of the simulation."""
  lines = ['| law | data | quantity | interval | holds the truth, 95 % | median width |']
  lines.append('|---|---|---|---|---|---|')
  for row in rows:
    share = f'{100 * row["covered"]:.1f} % ({100 * row["low"]:.1f} to {100 * row["high"]:.1f})'
    share = f'**{share}**' if row['high'] < LEVEL else share
    data = f'{row["data"]}; {row["sets"]:,} sets'
    cells = [row['law'], data, row['quantity'], row['interval']]
    lines.append(f'| {" | ".join(cells)} | {share} | {row["median_width"]:.3g} |')
  return '\n'.join(lines)


def _key(row):
  return row['law'], row['quantity']


def page(rows: list[dict]) -> str:
  """coverage.md: the table, and in words which intervals fall short and which do not."""
  short = [row for row in rows if row['high'] < LEVEL]
  fine = {(*_key(row), row['interval']) for row in rows if row not in short}
  said = []
  for row in short:
    kinds = [kind for kind in ('profile', 'percentile') if (*_key(row), kind) in fine]
    mend = f'the {kinds[0]} interval does not fall short' if kinds else 'none here does better'
    said.append(
      f'- {row["law"]}, {row["quantity"]}: the {row["interval"]} interval holds the truth in '
      f'{100 * row["covered"]:.1f} %; {mend}.'
    )
  words = 'Short of 95 % beyond the noise of the simulation (bold):\n\n' + '\n'.join(said)
  return (
    '# How often 95 % intervals hold the truth\n\n'
    '`python -m benchmarks.coverage --out=docs/results/coverage.json`: sets of data made up from a '
    'known law, fitted as a user would; in brackets the interval of the share itself. Bold: short '
    'of 95 % beyond that.\n\n'
    f'{table(rows)}\n\n{words if said else "None falls short of 95 % beyond the noise."}\n'
  )


def main(argv=None) -> int:
  cases = _cases()
  parser = argparse.ArgumentParser(prog='python -m benchmarks.coverage', description=__doc__)
  parser.add_argument('--out', required=True, help='the JSON file; the table goes beside it')
  parser.add_argument('--laws', default=';'.join(cases), help='semicolon-separated')
  parser.add_argument('--sets', type=int, default=SETS)
  args = parser.parse_args(argv)
  names = args.laws.split(';')
  for name in names:
    if name not in cases:
      parser.error(f'--laws: {name!r} is none of {"; ".join(cases)}')
  out = pathlib.Path(args.out)
  before = json.loads(out.read_text())['rows'] if out.exists() else []
  for name in names:
    found = simulate(name, cases[name], args.sets)
    before = [row for row in before if row['law'] != name] + found
    order = list(cases)
    before.sort(key=lambda row: order.index(row['law']))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({'machine': harness.machine(), 'rows': before}, indent=1) + '\n')
    out.with_suffix('.md').write_text(page(before))
    shown = pd.DataFrame(found)[['law', 'quantity', 'interval', 'covered', 'low', 'high']].round(4)
    print(text_table(shown), flush=True)
  return 0


if __name__ == '__main__':
  sys.exit(main())
