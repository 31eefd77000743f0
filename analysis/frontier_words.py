"""The frontier of a study in words: the best splits, what they spend, what a law would buy."""

import pandas as pd

from analysis import frontier, readings
from analysis.frontier import FLOOR
from analysis.style import amount, flops, human, percent, stage_name, strategy_name

SCORER = 'What training a scorer took is not in the totals; its passes are.'


def law_split(law_best: pd.DataFrame, unit: str = 'FLOP') -> list[str]:
  """What the law of majority@k would buy with each budget, and whether that is extrapolated."""
  said = []
  several = 'pretrain_tokens' in law_best
  bases = lambda row: f'{human(row["pretrain_tokens"])} pretrained, ' if several else ''
  for _, row in law_best[~law_best['inside']].iterrows():
    if row['affordable'] and row['quality'] > FLOOR:
      mark = ', extrapolated' if row['extrapolated'] else ''
      rl_words = f'{flops(row["rl_flops"])} of RL' if row['rl_flops'] else 'no RL'
      said.append(
        f'{amount(row["budget"], unit)}: {human(row["params_non_embedding"])} parameters, '
        f'{bases(row)}{human(row["sft_tokens"])} SFT tokens, {rl_words}, k = {row["k"]:.0f} '
        f'({percent(row["quality"], 0)}, {percent(row["low"], 0)} to {percent(row["high"], 0)}'
        f'{mark})'
      )
  reach = f'{frontier.STRETCH:g} times beyond the measured ranges at most'
  return [f'The law of majority@k would choose ({reach}): ' + '; '.join(said) + '.'] if said else []


def best_split(measured: frontier.Measured, best: pd.DataFrame) -> list[str]:
  """For each budget, what the best split was and what it scores on problems not chosen on.

  A split that is best for several budgets is said once. No split is called best where none that
  the budget buys solves more than FLOOR.
  """
  lines, first = [], {}
  for _, row in best.iterrows():
    budget = amount(row['budget'], measured.unit)
    if not row['affordable']:
      lines.append(f'{budget} buys none of the measured splits.')
      continue
    if not row['solves']:
      lines.append(
        f'No split that {budget} buys solves more than {percent(FLOOR)} of the problems: none is '
        'called best.'
      )
      continue
    score = f'{percent(row["quality"])} solved (95 % {percent(row["low"])} to '
    score += f'{percent(row["high"])}) on problems it was not chosen on'
    split = tuple(row[[*frontier.SPLIT, 'strategy', 'scorer_name']])
    if split in first:
      place, so_far = first[split]
      lines[place] = f'{so_far}; still the best of {budget}, chosen anew: {score}.'
      first[split] = place, lines[place].removesuffix('.')
      continue
    line = f'Best split of {budget} for {human(measured.queries)} queries (pretraining '
    split_said = split_words(row, runs=readings.several_runs(measured.table))
    line += f'{measured.pretraining}): {split_said}; {score}; '
    line += 'spent on ' + ', '.join(
      f'{100 * row[f"share_{stage}"]:.0f} % {stage_name(stage)}'
      for stage in frontier.STAGES
      if stage != 'pretrain' or measured.pretraining == 'counted'
    )
    line += ', the training of its scorer not counted' if row['scorer_name'] else ''
    first[split] = len(lines), line
    lines.append(line + '.')
  return list(dict.fromkeys(lines))


def scorer(chosen: pd.DataFrame) -> list[str]:
  """SCORER, where a split that `frontier.best_at` chose has a scorer."""
  rows = frontier.solving(chosen)
  return [SCORER] if len(rows) and (rows['scorer_name'] != '').any() else []


def split_words(row, short: bool = False, runs: bool = False) -> str:
  """'150k, 1.6M SFT tokens, 80 RL updates, majority of 4'; runs: '… 80 RL updates of dapo, …'."""
  if not row['affordable'] or not row['solves']:
    return 'nothing solved' if row['affordable'] else 'nothing affordable'
  updates, k = int(row['rl_updates']), int(row['k'])
  model = readings.group_name(row, row.get('bases', 1) > 1)
  rl_words = f'{updates} RL updates' if updates else 'no RL'
  if short:
    how = '' if row['strategy'] == 'majority' else f'{strategy_name(row["strategy"])}, '
    return f'{model}, {human(row["sft_tokens"])} SFT, {rl_words}, {how}k = {k}'
  rl_words += f' of {row["rl_algorithm"]}' if updates and runs else ''
  vote = f'majority of {k}' if k > 1 else '1 sample'
  if row['strategy'] != 'majority':
    vote = f'{strategy_name(row["strategy"], row["scorer_name"])} with k = {k}'
  return f'{model}, {human(row["sft_tokens"])} SFT tokens, {rl_words}, {vote}'


def largest_share(best: pd.DataFrame, pretraining: str) -> str:
  """What the best splits spend most on, from the smallest budget to the largest."""
  rows = frontier.solving(best)
  if rows.empty:
    return f'With pretraining {pretraining}, no budget buys a split that solves anything.'
  first, last = rows.iloc[0], rows.iloc[-1]
  most = lambda row: max(frontier.STAGES, key=lambda stage: row[f'share_{stage}'])
  spent = lambda row: f'{stage_name(most(row))} ({percent(row["share_" + most(row)], 0)})'
  others = f', that of {flops(last["budget"])} on {spent(last)}' if len(rows) > 1 else ''
  return (
    f'With pretraining {pretraining}, the best split of {flops(first["budget"])} spends most on '
    f'{spent(first)}{others}; '
    f'halves of the problems chose the split shown '
    f'{percent(rows["agreement"].min(), 0)} of the time or more.'
  )
