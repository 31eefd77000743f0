"""What a study found, in sentences computed from its numbers.

Each compares two numbers and can come out either way: better, worse, or no change beyond noise.
"""

from collections import Counter

import numpy as np
import pandas as pd

from analysis import frontier, frontier_words, hosted, readings, self_training_words, test_time
from analysis.frontier import FLOOR, TIED, cheapest
from analysis.interpret import Reading
from analysis.readings import NO_CHANGE, verdict
from analysis.strategies import hears_verdicts
from analysis.style import (
  counted,
  flops,
  human,
  percent,
  points,
  signed,
  stage_name,
  strategy_name,
)

METHODS = {
  'joint': 'joint law',
  'naive': 'nearest cell (naive)',
  'marginal_logit': 'logit law, one for each k',
  'marginal_power': 'power law, one for each k',
}
TRUNKS = (
  "The budgets of a size share a trunk, which the law's intervals ignore: they are too narrow."
)


def main(reading: Reading, queries: float | None = None) -> list[str]:
  """The main findings, in the order of the report: the best splits, and what they rest on."""
  if hosted.is_hosted(reading.study):
    return endings(reading) + hosted.findings(reading.study)
  lines = endings(reading)
  if reading.quality is not None:
    queries = frontier.default_queries(reading.quality) if queries is None else queries
    measured = frontier.measured(reading.deployable, queries, 'sunk')
    best = frontier.best_at(measured, frontier.default_budgets(measured.table))
    lines += frontier_words.best_split(measured, best)
  lines += loss(reading) + coverage(reading)
  lines += strategies(reading) + compute_optimal(reading) + rl(reading) + joint(reading)
  if reading.taught is not None:
    lines += self_training_words.findings(reading.taught)
  return lines + ledger(reading) + imported(reading.study.records)


def endings(reading: Reading) -> list[str]:
  """Which stages ended with a number that was not finite, and how many were left out for it."""
  outcomes, stages = reading.study.outcomes, reading.study.plan['stages']
  ended = lambda word: [s for s in stages if outcomes.get(s['id'], {}).get('outcome') == word]
  stopped, after = ended('non-finite'), ended('parent failed')
  if not stopped:
    return []
  names = '; '.join(str(stage.get('label') or stage['id']) for stage in stopped[:5])
  more = f'; and {len(stopped) - 5} more' if len(stopped) > 5 else ''
  line = f'{counted(len(stopped), "stage")} met a number that was not finite and stopped there: '
  line += names + more
  if after:
    was = 'was' if len(after) == 1 else 'were'
    line += f'. {counted(len(after), "stage")} that would have gone on from there {was} left out'
  return [line + '. What follows is without them.']


def _best_size(losses: pd.DataFrame, tokens: float) -> str:
  """A sentence where a smaller model has a lower loss than the largest, beyond noise; or ''."""
  at = losses[losses['tokens'] == tokens].sort_values('params_non_embedding')
  best, largest = at.loc[at['value'].idxmin()], at.iloc[-1]
  gap = largest['value'] - best['value']
  if not gap > 1.96 * np.hypot(largest['stderr'], best['stderr']):
    return ''
  noise = 'problems and seeds' if best['seeds'] > 1 else 'problems; other seeds were not run'
  return (
    f' The lowest there is not the largest model but {best["model"]}, {best["value"]:.3f}, beyond '
    f'the noise over {noise}.'
  )


def loss(reading: Reading) -> list[str]:
  """Does held-out loss fall with tokens, size and pretraining; does the law predict the held-out
  point."""
  losses = reading.losses
  if losses.empty:
    return []
  lines = []
  by_tokens = readings.loss_changes(losses, 'tokens')
  if not by_tokens.empty:
    last = by_tokens.sort_values(['params_non_embedding', 'pretrain_tokens']).iloc[-1]
    bases = by_tokens['pretrain_tokens'].nunique() > 1
    noun = 'base' if bases else 'size'
    lines.append(
      f'More SFT tokens: held-out loss {_tally(by_tokens, noun, "falls", "rises")}; '
      f'{readings.group_name(last, bases)} goes from {last["from"]:.3f} to {last["to"]:.3f} nats '
      f'per response token from {human(last["first"])} to {human(last["last"])} tokens '
      f'({_signed_interval(last, 3)}).'
    )
  by_size = readings.loss_changes(losses, 'params_non_embedding')
  if not by_size.empty:
    last = by_size.sort_values(['tokens', 'pretrain_tokens']).iloc[-1]
    same = losses[losses['pretrain_tokens'] == last['pretrain_tokens']]
    lines.append(
      f'Larger models: held-out loss {_tally(by_size, "SFT budget", "falls", "rises")}; at '
      f'{human(last["tokens"])} SFT tokens it goes from {last["from"]:.3f} to {last["to"]:.3f} '
      f'from {human(last["first"])} to {human(last["last"])} parameters '
      f'({_signed_interval(last, 3)}).{_best_size(same, last["tokens"])}'
    )
  by_base = readings.loss_changes(losses, 'pretrain_tokens')
  if not by_base.empty:
    last = by_base.sort_values(['params_non_embedding', 'tokens']).iloc[-1]
    lines.append(
      f'More pretraining: held-out loss after SFT {_tally(by_base, "SFT run", "falls", "rises")}; '
      f'of {last["model"]} after {human(last["tokens"])} SFT tokens it goes from '
      f'{last["from"]:.3f} to {last["to"]:.3f} from {human(last["first"])} to '
      f'{human(last["last"])} tokens of pretraining ({_signed_interval(last, 3)}).'
    )
  law = reading.loss_fit
  if law is not None and law.holdout_error is not None:
    held = losses[losses['held_out']].iloc[0]
    lines.append(
      f'The loss law, fitted without {held["model"]} at {human(held["tokens"])} tokens, misses '
      f'that loss by {percent(law.holdout_error)}; the nearest measured point misses it by '
      f'{percent(law.baseline_error)}'
      f'{_compare("the law", law.holdout_error, law.baseline_error, "0.1 %")}.'
    )
  return lines


def trunks(reading: Reading) -> list[str]:
  """TRUNKS, where the loss law is of several budgets that share a trunk."""
  rows = reading.study.records
  rows = rows[(rows['metric'] == 'loss') & (rows['sft_tokens'] > 0) & (rows['rl_updates'] == 0)]
  shared = rows.dropna(subset=['trunk']).query("trunk != ''").groupby('trunk')['sft_tokens']
  return [TRUNKS] if reading.loss_fit is not None and (shared.nunique() > 1).any() else []


def coverage(reading: Reading) -> list[str]:
  """How pass@k rises with k, and how well the coverage laws predict the largest from small k."""
  table = reading.coverage
  if table.empty or not {'a', 'beta_predicted'} <= set(table):
    return []
  tested = table.dropna(subset=['a', 'beta_predicted'])
  if tested.empty:
    return []
  K, few = int(tested['K'].iloc[0]), int(tested['few'].iloc[0])
  error = {
    name: float(np.sqrt(np.mean((tested[name] - tested['measured']) ** 2)))
    for name in ('power_predicted', 'beta_predicted', 'naive')
  }
  best = min(error['power_predicted'], error['beta_predicted'])
  exponents = tested['b']
  return [
    f'Coverage: −log pass@k = a k^−b fitted on k ≤ {few} misses pass@{K} by '
    f'{100 * error["power_predicted"]:.1f} points (RMSE over {len(tested)} banks), a beta-binomial '
    f'of the banks thinned to {few} samples a problem by {100 * error["beta_predicted"]:.1f}; '
    f'taking pass@{few} for it misses by '
    f'{100 * error["naive"]:.1f}{_compare("the better law", best, error["naive"])}. '
    f'b runs from {exponents.min():.2f} to {exponents.max():.2f}.'
  ]


def strategies(reading: Reading) -> list[str]:
  """For each model, the best deployable strategy at the largest budget, beside a majority vote that
  costs no more; and beside one sample. The choice of the best is in sample, and said to be."""
  if reading.strategies.empty:
    return []
  lines = []
  for _, rows in test_time.richest(reading.strategies).groupby('model', sort=False):
    usable = rows[~hears_verdicts(rows['strategy'])]
    votes = usable[usable['strategy'] == 'majority'].sort_values('k')
    if usable['strategy'].nunique() < 2 or votes.empty:
      continue
    best = _most(usable)
    within = votes[votes['flops'] <= best['flops'] * (1 + 1e-9)]
    vote = within.iloc[-1] if len(within) else votes.iloc[0]
    apart = best['low'] - vote['high'] > TIED or vote['low'] - best['high'] > TIED
    said = 'the intervals do not overlap' if apart else 'the intervals overlap'
    if best['strategy'] == 'majority':
      other = _most(usable[usable['strategy'] != 'majority'])
      compared = f'the best of the others is {_arm(other)} ({_share(other)})'
    else:
      compared = f'{_arm(vote)}, for {flops(vote["flops"])}, solves {_share(vote)}: {said}'
    bound = rows[rows['strategy'] == 'oracle'].sort_values('k').iloc[-1:]
    top = ''.join(f'; pass@{r["k"]:.0f} is {percent(r["value"])}' for _, r in bound.iterrows())
    lines.append(
      f'Test time, {best["model"]}: of {counted(usable["strategy"].nunique(), "strategy")} that '
      f'need no verdict, {_arm(best)} solves most, {_share(best)} of n = {best["problems"]:.0f} '
      f'problems for {flops(best["flops"])} a query (the best of many: optimistic); '
      f'{compared}{top}.'.replace('strategys', 'strategies')
    )
  return lines


def _most(rows):
  """The row that solves most; of those that tie, the cheapest."""
  rows = rows.sort_values('flops')
  return rows.iloc[cheapest(rows['value'].to_numpy())]


def _arm(row) -> str:
  """'majority vote of 8'."""
  name = strategy_name(row['strategy'], row['scorer_name'])
  return f'{name}, k = {row["k"]:.0f}' if row['k'] > 1 else f'{name}, 1 sample'


def _share(row) -> str:
  return f'{percent(row["value"])} ({percent(row["low"])} to {percent(row["high"])})'


def compute_optimal(reading: Reading) -> list[str]:
  """The gain of a strategy and k for each bin of difficulty over one for all, at the top budget."""
  found = reading.optimal
  if found is None or found.table.dropna(subset=['quality']).empty:
    return []
  row = found.table.dropna(subset=['quality']).iloc[-1]
  said = []
  for name, words in test_time.BASELINES.items():
    if np.isfinite(row[f'gain_{name}']):
      low, high = row[f'gain_{name}_low'], row[f'gain_{name}_high']
      word = verdict(low, high, 'a gain', 'a loss')
      said.append(
        f'{points(row[f"gain_{name}"])} over {words} ({signed(low)} to {signed(high)}: {word})'
      )
  return [
    f'Compute-optimal test time of {found.cell["model"]} at {flops(row["budget"])} a query, what a '
    f'majority vote of {found.ks[-1]} costs: a strategy and k for each of {test_time.BINS} bins of '
    f'difficulty solves {percent(row["quality"])}; {"; ".join(said)}. Difficulty is the pass rate '
    'of half of the samples, which takes verdicts and whose cost is not counted; values are of the '
    f'other half; chosen on half of the n = {row["problems"]:.0f} problems, scored on the rest. '
    f'Chosen and scored on the same problems, the gain over best-of-n would have seemed '
    f'{points(row["in_sample_gain"])}.'
  ]


def rl(reading: Reading) -> list[str]:
  """RL's change of pass@1 over every SFT parent, and of the oracle at the largest k."""
  changes = reading.changes
  if changes.empty:
    return []
  last = readings.last_changes(changes)
  once, K = last[last['k'] == 1], int(last['k'].max())
  each = '; '.join(
    f'{readings.run_name(row, changes)} after {human(row["sft_tokens"])} SFT tokens '
    f'{points(row["change"])} ({signed(row["change_low"])} to {signed(row["change_high"])})'
    for _, row in once.iterrows()
  )
  alone = changes['rl_algorithm'].nunique() == 1  # one run of each parent
  lines = [
    f"RL, at each run's last update: pass@1 "
    f'{_tally(once, "SFT parent" if alone else "run", "falls", "rises", "change", "over")} '
    f'(95 %, paired by problem): {each}.'
  ]
  votes = last[last['k'] == K]
  if K > 1:
    lines.append(
      f"Over the same {'parents' if alone else 'runs'} RL's majority@{K} "
      f'{_tally(votes, "parent" if alone else "run", "falls", "rises", "change", "over")}, and '
      f'pass@{K}, the oracle, '
      f'{_tally(votes, "parent" if alone else "run", "falls", "rises", "oracle_change", "over")}.'
    )
  return lines


def joint(reading: Reading) -> list[str]:
  """The joint law's error on the held-out corner, beside the baseline's and the marginals'; the
  same of the law of majority@k."""
  corner = reading.heldout
  if corner is None:
    return majority_corner(reading)
  law, naive = corner.error['joint'], corner.error['naive']
  marginal = min((m for m in corner.error if m.startswith('marginal')), key=corner.error.get)
  ks = sorted(corner.table['k'].unique())
  held = f'the {corner.heldout_cells} cells' if corner.heldout_cells > 1 else 'the one cell'
  unscored = (
    f' ({counted(corner.unscored_cells, "RL cell")} there not scored: no fitted cell had RL)'
    if corner.unscored_cells
    else ''
  )
  return [
    f'Joint law: fitted to {counted(corner.fitted_cells, "cell")} below the largest size and the '
    f'largest SFT budget, it misses pass@k of {held} at '
    f'both{unscored} by {100 * law:.1f} points on average (k = {ks[0]:.0f} to {ks[-1]:.0f}); the '
    f'naive baseline, the nearest fitted cell, by {100 * naive:.1f}'
    f'{_compare("the law", law, naive)}. The better of the laws fitted to one k at a time (the '
    f'{METHODS[marginal].split(",")[0]}, picked for its held-out error) misses by '
    f'{100 * corner.error[marginal]:.1f}'
    f'{_compare("the joint law", law, corner.error[marginal])}. '
    f'{_inside(corner)}{_terms_left_out(corner)}'
  ] + majority_corner(reading)


def majority_corner(reading: Reading) -> list[str]:
  """The error of the law of majority@k, which the frontier's line is drawn by, on the corner."""
  corner = reading.heldout_majority
  if corner is None:
    return []
  law, naive = corner.error['joint'], corner.error['naive']
  return [
    f'The law of majority@k, held out in the same way, misses by {100 * law:.1f} points; the '
    f'nearest fitted cell by {100 * naive:.1f}{_compare("the law", law, naive)}. {_inside(corner)}'
  ]


def _inside(corner) -> str:
  """How many of the measured values lie in the law's intervals."""
  table = corner.table
  inside = int(((table['low'] <= table['measured']) & (table['measured'] <= table['high'])).sum())
  said = (
    f'{inside} of the {counted(len(table), "measured value")} {"lies" if inside == 1 else "lie"}'
  )
  said += " in the law's 95 % intervals"
  return said + ('.' if inside >= 0.9 * len(table) else ', which hold no error of its form.')


def _terms_left_out(corner) -> str:
  """The interactions and squares that the fitted cells do not identify."""
  products = [term.replace('*', ' × ') for term in corner.left_out if '*' in term]
  if not products:
    return ''
  return f' The fitted cells do not identify {", ".join(products)}: left out.'


def ledger(reading: Reading) -> list[str]:
  """Totals by kind and by stage, and what the shared trunks saved."""
  totals = readings.ledger_totals(reading.study)
  if totals.empty:
    return []
  total = totals['model'].sum()
  by_stage = totals.groupby('stage_kind')['model'].sum()
  by_kind = totals.groupby('kind')['model'].sum()
  order = readings.in_order(by_stage.index)
  stages = ', '.join(f'{percent(by_stage[s] / total, 0)} {stage_name(s)}' for s in order)
  kinds = ', '.join(
    f'{flops(by_kind[k])} {k.replace("_", " ")}' for k in by_kind.sort_values(ascending=False).index
  )
  line = f'The ledger: {flops(total)} of model FLOPs ({stages}; {kinds})'
  executed = totals['executed'].sum()
  if executed > 0:
    line += f'; the program executed {flops(executed)}, {executed / total:.2f} times that'
  lines = [line + '.']
  shared = reading.study.plan.get('shared') or {}
  planned, alone = shared.get('flops_planned'), shared.get('flops_independent')
  if planned and alone:
    saved = 1 - planned / alone
    what = f'saved {percent(saved, 0)}' if saved > 0 else 'saved nothing'
    lines.append(
      f'Sharing trunks and banks {what}: {flops(planned)} planned against {flops(alone)} for '
      'independent runs.'
    )
  return lines


def imported(records: pd.DataFrame) -> list[str]:
  """What is known of the pretraining of models that a study did not train itself."""
  if 'pretrain_source' not in records:
    return []
  lines = []
  for source, words in (
    ('estimated', 'estimated from the number of tokens given: 6 FLOPs a token and parameter'),
    ('unknown', 'unknown and left out: where pretraining is counted, totals are too low'),
  ):
    models = sorted(set(records.loc[records['pretrain_source'] == source, 'model']))
    if models:
      lines.append(f'The pretraining FLOPs of {", ".join(models)} are {words}.')
  return lines


def _tally(rows, noun, down, up, change='', at='at') -> str:
  """'falls at 2 of 3 sizes, shows no change beyond noise at 1'; `change`: before _low, _high."""
  low, high = (f'{change}_low', f'{change}_high') if change else ('low', 'high')
  tally = Counter(verdict(row[low], row[high], up, down) for _, row in rows.iterrows())
  order = sorted(tally, key=lambda word: -tally[word])
  verb = {up: up, down: down, NO_CHANGE: f'shows {NO_CHANGE}'}
  said = [f'{verb[order[0]]} {at} {tally[order[0]]} of {counted(len(rows), noun)}']
  return ', '.join(said + [f'{verb[word]} {at} {tally[word]}' for word in order[1:]])


def _compare(who, error, baseline, floor='0.1 points') -> str:
  """', so WHO is 2.0 times better', or worse; an error below FLOOR counts as FLOOR."""
  low, high = sorted((max(error, FLOOR), max(baseline, FLOOR)))
  if high == FLOOR:
    return f', both within {floor}, so {who} is no better and no worse'
  if np.isclose(error, baseline, rtol=0.05):
    return f', so {who} is no better and no worse'
  more = 'more than ' if min(error, baseline) < FLOOR else ''
  return f', so {who} is {more}{high / low:.1f} times {"better" if error < baseline else "worse"}'


def _signed_interval(row, digits):
  text = f'{row["change"]:+.{digits}f}, 95 % {row["low"]:+.{digits}f} to {row["high"]:+.{digits}f}'
  return text.replace('-', '−')
