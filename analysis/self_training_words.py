"""What `analysis.self_training` found, in sentences computed from its numbers, and as a table."""

import numpy as np
import pandas as pd

from analysis.self_training import GRAM, RUN, Found
from analysis.style import counted, flops, percent, signed


def _span(row, name: str, digits: int = 1) -> str:
  """'+4.0 points (+2.1 to +5.9)' of a change in the columns NAME_change, NAME_low, NAME_high."""
  change, low, high = (getattr(row, f'{name}_{part}') for part in ('change', 'low', 'high'))
  return f'{signed(change, digits)} points ({signed(low, digits)} to {signed(high, digits)})'


def words(found: Found) -> list[str]:
  """A sentence a run, and `findings`."""
  said = []
  for last in last_rounds(found):
    said.append(
      f'{last.run}, {last.model}, {counted(int(last.round), "round")}: pass@1 '
      f'{percent(last.pass_1)}, {_span(last, "pass_1")} over the SFT branch; pass@{found.K} '
      f'{percent(last.pass_K)}, {_span(last, "pass_K")}; entropy {last.entropy:.3f} nats a token '
      f'({last.entropy_change:+.3f}), distinct-{GRAM} {last.distinct:.3f} '
      f'({last.distinct_change:+.3f}).'.replace('(-', '(−')
    )
  return said + findings(found)


def findings(found: Found) -> list[str]:
  """A sentence for each comparison with human data, gap, line over paths, and loss of coverage."""
  said = [line for row in last_rounds(found) for line in collapse(row, found.K)]
  for row in found.against.itertuples():
    line = f'{row.run}, {row.model}, over human data alone: '
    parts = [
      f'{_span(row, axis)} at equal {what}'
      for axis, what in (('tokens', 'tokens of SFT'), ('flops', 'FLOPs'))
      if not np.isnan(getattr(row, f'{axis}_change'))
    ]
    said += [line + '; '.join(parts) + f' ({flops(row.training)}).'] * bool(parts)
  for row in found.recovered.itertuples():
    line = (
      f'{row.teacher} teaches {row.model} ({row.run}): weak {percent(row.weak)}, student '
      f'{percent(row.student)}, ceiling {percent(row.strong)}'
    )
    gap = 'the gap is not above 0 beyond noise, so none of it is said to be recovered'
    if not np.isnan(row.pgr):
      gap = f'{row.pgr:.2f} of the gap is recovered ({row.low:.2f} to {row.high:.2f})'
    said.append(f'{line}; {gap}.'.replace('-', '−'))
  return said + [line_words(row) for row in found.paths.itertuples()]


def line_words(row) -> str:
  """A row of `paths` in a sentence."""
  return (
    f'{row.recipe}, {row.model}: {signed(row.slope)} points ({signed(row.low)} to '
    f'{signed(row.high)}) of pass@1 for each doubling of distinct reasoning paths, from '
    f'{row.fewest:,.0f} to {row.most:,.0f} in {row.runs} runs; the line through the others misses '
    f'the most by {100 * row.held:.1f} points, the nearest run by {100 * row.naive:.1f}.'
  )


def last_rounds(found: Found) -> list:
  """The rows of `watch` at the last round of each run whose round 0 was measured."""
  last = found.watch.sort_values('round', kind='stable').drop_duplicates(RUN, keep='last')
  last = last.sort_index()
  return list(last[(last['round'] > 0) & last['pass_1_change'].notna()].itertuples())


def collapse(row, K: int) -> list[str]:
  """The sentence that a round has more of its first answers right and finds fewer problems in K
  tries; none where either change is within noise."""
  if not (row.pass_1_low > 0 and row.pass_K_high < 0):
    return []
  return [
    f'{row.run}, {row.model}: pass@1 up, pass@{K} down: what it gains at the first try it has lost '
    'in coverage, and more samples at test time buy less than before.'
  ]


def shown(table: pd.DataFrame, K: int) -> pd.DataFrame:
  """`watch` for a page."""
  out = table[[*RUN, 'round', 'seeds']].copy()
  out['examples'] = [f'{v:,.0f}' for v in table['synthetic_examples']]
  for name, title in (('pass_1', 'pass@1'), ('pass_K', f'pass@{K}')):
    out[title] = [percent(v) for v in table[name]]
    out[f'{title}, change'] = [
      '' if row.round == 0 or np.isnan(getattr(row, f'{name}_change')) else _span(row, name)
      for row in table.itertuples()
    ]
  for name, title in (('entropy', 'entropy, nats'), ('distinct', f'distinct-{GRAM}')):
    out[title] = [f'{v:.3f}' for v in table[name]]
  out['held-out loss'] = ['' if np.isnan(v) else f'{v:.3f}' for v in table['loss']]
  out['FLOPs'] = [flops(v) for v in table['training']]
  return out.astype({'round': int})
