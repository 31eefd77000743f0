"""The tables of a report, as frames of the words that it shows."""

import numpy as np
import pandas as pd

from analysis import findings, readings
from analysis.style import flops, human, percent


def by_k(corner) -> pd.DataFrame:
  """The errors of each law on the held-out cells by k, in points."""
  table = corner.table
  rows = []
  for k, part in table.groupby('k'):
    row = {'k': f'{k:.0f}', 'measured': percent(part['measured'].mean())}
    for m in corner.error:
      row[findings.METHODS[m]] = f'{100 * (part[m] - part["measured"]).abs().mean():.1f}'
    inside = (part['low'] <= part['measured']) & (part['measured'] <= part['high'])
    rows.append(row | {"in the law's 95 %": f'{inside.sum()} of {len(part)}'})
  return pd.DataFrame(rows)


def parameters(params, intervals, unidentified) -> pd.DataFrame:
  """Each parameter of a law: its value and interval, and why it is not identified."""
  rows = []
  for name, value in params.items():
    low, high = intervals.get(name, (np.nan, np.nan))
    fixed = name in intervals and low == high == value
    interval = 'given' if fixed else f'{low:.4g} to {high:.4g}' if np.isfinite(low) else ''
    rows.append((name, f'{value:.4g}', interval, unidentified.get(name, '')))
  return pd.DataFrame(rows, columns=['parameter', 'value', '95 %', ''])


def coverage(cells) -> pd.DataFrame:
  """The parameters of both laws of coverage of each cell, and what they predict."""
  out = pd.DataFrame({'model': cells['model'], 'seed': cells['seed']})
  out['SFT tokens'] = [human(v) for v in cells['sft_tokens']]
  out['RL updates'] = cells['rl_updates'].astype(int)
  if readings.several_runs(cells):
    out['of'] = cells['rl_algorithm'].where(cells['rl_updates'] > 0, '')
  told = lambda column, say: ['' if np.isnan(v) else say(v) for v in cells[column]]

  def between(name, say):
    bounds = zip(cells[f'{name}_low'], cells[f'{name}_high'])
    return ['' if np.isnan(x) else f'{say(x)} to {say(y)}' for x, y in bounds]

  for column, title in (('alpha', 'α'), ('beta', 'β'), ('a', 'a'), ('b', 'b')):
    if column in cells:
      out[title] = told(column, '{:.3g}'.format)
  if 'b' in cells:
    out['b, 95 %'] = between('b', '{:.2g}'.format)
  out['measured'] = told('measured', percent)
  if 'beta_low' in cells:
    out['95 %'] = between('beta', lambda v: percent(v, 0))
  by = {'power_predicted': 'by a, b', 'beta_predicted': 'by a beta-binomial', 'naive': 'naive'}
  for column, title in by.items():
    if column in cells:
      out[title] = told(column, percent)
  return out


def scorers(reading) -> pd.DataFrame:
  """How good each scorer's scores are, on problems it did not learn from."""
  table = reading.scorers
  rows = {'objective': table['objective'], 'scorer': table['size'], 'responses of': table['model']}
  rows |= {'seed': table['seed'], 'problems': table['problems'].astype(int)}
  titles = {'auc': 'AUC', 'auc_within': 'AUC within problems'}
  titles |= {'verdict_accuracy': 'accuracy at 0.5', 'calibration_error': 'calibration error'}
  for metric, title in titles.items():
    if metric in table:
      errors = table.get(f'{metric}_stderr', table[metric] * np.nan)
      rows[title] = [
        f'{value:.3f}' + (f' ± {1.96 * error:.3f}' if np.isfinite(error) else '')
        for value, error in zip(table[metric].astype(float), errors.astype(float))
      ]
  return pd.DataFrame(rows)


def ledger(study) -> pd.DataFrame:
  """FLOPs by stage and kind."""
  totals = study.ledger.groupby(['stage_kind', 'kind'], as_index=False)[['model', 'executed']].sum()
  totals = totals[totals['model'] + totals['executed'] > 0]
  all_kinds = totals.groupby('kind', as_index=False)[['model', 'executed']].sum()
  rows = pd.concat([totals, all_kinds.assign(stage_kind='all stages')])
  whole = {'stage_kind': 'all stages', 'kind': 'all kinds'} | totals[
    ['model', 'executed']
  ].sum().to_dict()
  rows = pd.concat([rows, pd.DataFrame([whole])], ignore_index=True)
  return pd.DataFrame(
    {
      'stage': rows['stage_kind'],
      'kind': rows['kind'].str.replace('_', ' '),
      'model FLOPs': [flops(v) for v in rows['model']],
      'executed': [flops(v) for v in rows['executed']],
    }
  )


def environment(study) -> pd.DataFrame:
  """The command of a study, and where it ran."""
  plan = study.plan
  rows = [('command', plan.get('command', ''))]
  for key, value in (plan.get('environment') or {}).items():
    if isinstance(value, dict):
      value = ', '.join(f'{name} {version}' for name, version in value.items())
    rows.append((key.replace('_', ' '), value))
  if plan.get('seconds'):
    rows.append(('wall time', f'{plan["seconds"]:.0f} s'))
  return pd.DataFrame(rows, columns=['', 'value'])
