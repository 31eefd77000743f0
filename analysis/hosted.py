"""What a study of a model behind an API says: its strategies against samples, tokens and money."""

import numpy as np
import pandas as pd
from matplotlib import ticker

from analysis import style
from analysis.readings import verdict
from analysis.style import Drawing, human, percent, points, signed
from analysis.tables import Study

NAMES = {
  'majority': 'majority vote',
  'judge': "the judge's choice",
  'oracle': 'the oracle (pass@k)',
}
COLOURS = {'oracle': style.MUTED, 'majority': '#0072b2', 'judge': '#d55e00'}


def is_hosted(study: Study) -> bool:
  """Whether all that a study measured is of hosted models."""
  return bool((study.records['kind'] == 'hosted').all())


def accuracies(study: Study) -> pd.DataFrame:
  """One row a seed x strategy x scorer x k, least first."""
  rows = study.records[study.records['metric'] == 'accuracy']
  return rows.sort_values(['seed', 'strategy', 'scorer', 'k'], ignore_index=True)


def findings(study: Study) -> list[str]:
  """What the vote and the judge gain over one sample, how responses look, and what it took."""
  lines = []
  for seed, rows in accuracies(study).groupby('seed'):
    once = rows[rows['k'] == 1].iloc[0]
    most = rows[rows['k'] == rows['k'].max()]
    said = f'{once["model"]}, seed {seed}: one sample solves {_share(once)} of '
    said += f'{int(once["problems"])} problems'
    for strategy in ('majority', 'judge'):
      for _, row in most[most['strategy'] == strategy].iterrows():
        change = row['value'] - once['value']
        error = 1.96 * np.hypot(row['stderr'], once['stderr'])  # as if apart: wider than need be
        word = verdict(change - error, change + error, 'better', 'worse')
        said += f'; {NAMES[strategy]} of {int(row["k"])} {_share(row)}, {points(change)} '
        said += f'({signed(change - error)} to {signed(change + error)}: {word})'
        said += f', for {_cost(row)} a query'
    oracle = most[most['strategy'] == 'oracle'].iloc[0]
    lines.append(f'{said}; a sample of {int(oracle["k"])} is right for {_share(oracle)}.')
  looks = study.records.groupby('metric')['value'].mean()
  said = f'{percent(1 - looks["parse_rate"])} of the responses gave no answer that could be read, '
  said += f'{percent(looks["truncation_rate"])} were cut off'
  if 'judge_failure_rate' in looks:
    said += f'; the judge gave no verdict on {percent(looks["judge_failure_rate"])} of what it read'
  lines.append(said + '.')
  total = account(study)
  if total['completions']:
    money = f', {total["money"]:.4g} in money' if total['money'] else ''
    lines.append(
      f'{total["completions"]:,.0f} completions used {human(total["input_tokens"])} input tokens '
      f'({human(total["cached_tokens"])} from a cache) and {human(total["output_tokens"])} output '
      f'tokens{money}. FLOPs of a hosted model are not known.'
    )
  return lines


def account(study: Study) -> dict:
  """Totals over the stages that ended: completions, tokens and money."""
  names = ('completions', 'input_tokens', 'output_tokens', 'cached_tokens', 'money')
  accounts = [done.get('account', {}) for done in study.outcomes.values()]
  return {name: sum(found.get(name, 0) for found in accounts) for name in names}


def table(study: Study) -> pd.DataFrame:
  """Every strategy at every k, for people."""
  rows = accuracies(study)
  return pd.DataFrame(
    {
      'model': rows['model'],
      'seed': rows['seed'],
      'strategy': rows['strategy'] + [f' ({s})' if s else '' for s in rows['scorer']],
      'k': rows['k'],
      'accuracy': [percent(v) for v in rows['value']],
      'stderr': ['' if np.isnan(s) else percent(s) for s in rows['stderr']],
      'input tokens a query': [human(v) for v in rows['query_prefill_tokens']],
      'output tokens': [human(v) for v in rows['query_decode_tokens']],
      'money': [f'{v:.4g}' if v else 'no prices' for v in rows['query_money']],
    }
  )


def _share(row) -> str:
  value, error = row['value'], 1.96 * row['stderr']
  if np.isnan(error):
    return percent(value)
  low, high = max(value - error, 0), min(value + error, 1)
  return f'{percent(value)} (95 % {percent(low)} to {percent(high)})'


def _cost(row) -> str:
  if row['query_money']:
    return f'{row["query_money"]:.3g} in money'
  return f'{human(row["query_prefill_tokens"] + row["query_decode_tokens"])} tokens'


@style.styled
def figure(study: Study) -> Drawing:
  """Share solved against samples, and against what a query costs; the least seed's."""
  rows = accuracies(study)
  rows = rows[rows['seed'] == rows['seed'].min()]
  priced = (rows['query_money'] > 0).all()
  spent = rows['query_money' if priced else 'query_prefill_tokens']
  if not priced:
    spent = spent + rows['query_decode_tokens']
  rows = rows.assign(spent=spent)
  drawing, (left, right) = style.new(1, 2, width=8.4, height=3.7, sharey=True)
  handles = {}
  for (strategy, scorer), points_ in rows.groupby(['strategy', 'scorer']):
    colour = COLOURS.get(strategy, style.INK)
    for axes, x in ((left, 'k'), (right, 'spent')):
      bars = 1.96 * points_['stderr'].fillna(0.0)
      line = axes.errorbar(
        points_[x], points_['value'], bars, color=colour, marker='o', markeredgecolor='white',
        ls=':' if strategy == 'oracle' else '-', lw=1.4, elinewidth=1,
      )  # fmt: skip
    handles[NAMES.get(strategy, strategy) + (f' ({scorer})' if scorer else '')] = line
  style.log_axis(left.xaxis, 1, rows['k'].max(), ticks=sorted(set(rows['k'])), base=2)
  right.set_xscale('log')
  right.xaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5)))
  right.xaxis.set_major_formatter('{x:g}')
  right.xaxis.set_minor_locator(ticker.NullLocator())
  style.percent_axis(left.yaxis)
  left.set_ylim(0, 1.03)
  left.set_xlabel('k samples')
  left.set_ylabel('share of problems solved')
  right.set_xlabel('money a query' if priced else 'tokens a query, input and output')
  left.set_title(f'{rows["model"].iloc[0]}, n = {int(rows["problems"].iloc[0])} problems')
  drawing.legend(handles.values(), handles.keys(), loc='outside lower center', ncols=3)
  return Drawing('hosted', 'Best-of-n of a hosted model', drawing, ' '.join(findings(study)[:1]))
