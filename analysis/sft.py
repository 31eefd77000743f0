"""The laws of SFT, fitted to a study's own cells and compared by what they say of cells left out.

    python -m analysis.sft WORKDIR [--study=NAME] [--out=sft.png] [--csv=sft.csv]

Each law (`analysis.laws`) is fitted to the cells below a cut, and errs by so much on those beyond:

    largest budget    all sizes at the most tokens of their trunk
    largest size      every budget of the largest size
    corner            the largest size at its most tokens, fitted to what is neither

Where some cells repeat their tokens, laws that know of unique tokens are compared on all cells, and
all laws once more on the cells that repeat none. Cells that share a trunk are correlated: intervals
resample whole trunks, of the cells fitted and of those left out; where there are fewer than TRUNKS
of the former, as for a size alone, there are none.

Where models learned from their own samples by runs of 'rft' (config.synthetic), pass@1 is also set
against the number of distinct reasoning paths (2308.01825), and of examples.
"""

import sys
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import command, fit, style, tables
from analysis.errors import BadInput
from analysis.style import ACCENT, INK, MUTED, Drawing

SAME = 1.05  # tokens that differ by less are the same budget
REPEATED = 1.001  # tokens seen over unique ones, from which on a cell repeats
RESAMPLES = 200
TRUNKS = 5  # the fewest of which resamples say anything
SPLITS = ('largest budget', 'largest size', 'corner')
MEASURES = {'loss': 'huber_log:1e-3', 'pass@1': 'squares'}  # and the loss of their fits


class Candidate(NamedTuple):
  """A law among those compared. by: a column, of which each value has a fit of its own."""

  name: str
  law: str  # of laws.LAWS
  columns: dict
  by: str | None = None


class Held(NamedTuple):
  """A candidate on one split. residuals: of the log, or raw, as the measure is fitted."""

  candidate: Candidate
  fits: tuple[fit.Fit, ...]
  rows: pd.DataFrame  # of the cells: with held, predicted, residual


class Compared(NamedTuple):
  """All laws of a study beside each other."""

  table: pd.DataFrame  # a row a (measure, cells, split, law), the least error first
  held: dict  # (measure, cells, split, law) -> Held
  missing: tuple[str, ...]  # a line for each law or split that these cells do not allow
  cells: pd.DataFrame


def cells(records: pd.DataFrame) -> pd.DataFrame:
  """One row an SFT cell and seed: seed, model, size (parameters without embeddings), pretrained,
  tokens, unique, budget (its place among those of its trunk, from the end: 0 the most), trunk,
  loss, and pass@1 where there is a bank. Cells after RL, and of examples that a model made, are
  left out.
  """
  rows = records[(records['rl_updates'] == 0) & (records['sft_tokens'] > 0)]
  if 'synthetic' in rows:
    rows = rows[rows['synthetic'] == 'none']
  key = ['seed', 'model', 'pretrain_tokens', 'sft_tokens', 'sft_unique_tokens', 'trunk']
  rows = rows.fillna({'trunk': ''})
  loss = rows[(rows['metric'] == 'loss') & np.isfinite(rows['value'])].drop_duplicates(key)
  once = rows[(rows['metric'] == 'accuracy') & (rows['strategy'] == 'oracle') & (rows['k'] == 1)]
  once = once.drop_duplicates(key)[[*key, 'value']].rename(columns={'value': 'pass@1'})
  found = loss.merge(once, on=key, how='left')
  found = pd.DataFrame(
    {
      'seed': found['seed'],
      'model': found['model'],
      'size': found['params_non_embedding'].astype(float),
      'pretrained': found['pretrain_tokens'].astype(float),
      'tokens': found['sft_tokens'].astype(float),
      'unique': found['sft_unique_tokens'].astype(float),
      'trunk': found['trunk'].where(found['trunk'] != '', found['stage']),
      'loss': found['value'],
      'pass@1': found['pass@1'],
    }
  )
  found['repeats'] = found['tokens'] > REPEATED * found['unique']
  bases = found.groupby('model')['pretrained'].transform('nunique')
  named = found['model'] + ', ' + found['pretrained'].map(style.human).astype(str) + ' pretrained'
  found['model'] = found['model'].where(bases == 1, named)  # a law "a size each" is of one base
  return _placed(found).sort_values(['size', 'seed', 'tokens'], ignore_index=True)


def _placed(found: pd.DataFrame) -> pd.DataFrame:
  """Cells with `budget`: their places among those that are there."""
  trunks = found.groupby(['seed', 'size', 'pretrained'])['tokens']
  return found.assign(budget=trunks.transform(_places))


def _places(tokens: pd.Series) -> pd.Series:
  """0 for the most tokens, 1 for the next fewer, …; see SAME.

  Subsets of a pool have rows that are not equally full, so equal budgets are not equal counts.
  """
  values = np.sort(tokens.unique())[::-1]
  steps = np.cumsum([0, *(values[:-1] > SAME * values[1:])])
  return tokens.map(dict(zip(values, steps, strict=True)))


def paths(records: pd.DataFrame) -> pd.DataFrame:
  """One row a model that learned from its own samples by a run of 'rft': as `cells` has them, with
  paths and examples, both above 0. The runs of one seed and size share their base: a trunk.
  """
  if 'synthetic' not in records:
    return pd.DataFrame()
  rows = records[(records['metric'] == 'accuracy') & (records['strategy'] == 'oracle')]
  rows = rows[(rows['k'] == 1) & rows['synthetic'].fillna('none').str.match(r'rft\b')]
  rows = rows[rows['synthetic_paths'] > 0].drop_duplicates('stage')
  found = pd.DataFrame(
    {
      'seed': rows['seed'],
      'model': rows['model'],
      'size': rows['params_non_embedding'].astype(float),
      'paths': rows['synthetic_paths'].astype(float),
      'examples': rows['synthetic_examples'].astype(float),
      'trunk': [f'{model} {seed}' for model, seed in zip(rows['model'], rows['seed'])],
      'pass@1': rows['value'],
    }
  )
  place = found.groupby(['seed', 'model'])['paths'].transform(_places)
  return found.assign(budget=place).sort_values(['size', 'seed', 'paths'], ignore_index=True)


def candidates(found: pd.DataFrame, measure: str) -> list[Candidate]:
  """The laws that cells of these sizes and budgets are about."""
  if 'paths' in found:
    return [
      Candidate(f'log-linear in {x}, a size each', 'log_linear', {'x': x, 'y': measure}, 'model')
      for x in ('paths', 'examples')
    ]
  if measure == 'pass@1':
    one = {'x': 'tokens', 'y': measure}
    return [Candidate('log-linear, a size each', 'log_linear', one, 'model')]
  laws = [
    Candidate('power, a size each', 'power', {'x': 'tokens', 'L': measure}, 'model'),
    Candidate('rectified, a size each', 'rectified', {'D': 'tokens', 'L': measure}, 'model'),
  ]
  varied = [x for x in ('size', 'pretrained') if found[x].nunique() > 1]
  along = varied[0] if len(varied) == 1 else None  # laws of both are not there
  if along is not None and found[along].min() > 0:
    both = {'X': along, 'D': 'tokens', 'L': measure}
    laws += [
      Candidate('multiplicative', 'sft_multiplicative', both),
      Candidate("additive (Chinchilla's form)", 'sft_additive', both),
    ]
  if found['repeats'].any():
    unique = {'D': 'tokens', 'U': 'unique', 'L': measure}
    if varied == ['size']:
      laws.append(Candidate('data-constrained', 'data_constrained', {'N': 'size', **unique}))
    laws.append(Candidate('data-constrained, a size each', 'repeated', unique, 'model'))
  return laws


def splits(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
  """Split -> the cells it is about, with `held`: those left out of the fit."""
  most, largest = found['budget'] == 0, found['size'] == found['size'].max()
  parts = {}
  if found['budget'].nunique() >= 3:
    parts['largest budget'] = found.assign(held=most)
  if found['size'].nunique() >= 3:
    parts['largest size'] = found.assign(held=largest)
  if found['size'].nunique() >= 3 and found['budget'].nunique() >= 3:
    kept = found.assign(held=most & largest)
    parts['corner'] = kept[(most & largest) | (~most & ~largest)].reset_index(drop=True)
  return parts


def hold_out(candidate: Candidate, rows: pd.DataFrame, measure: str, resamples: int) -> Held:
  """Fits the cells that are not `held` and predicts all. BadInput where they do not allow it."""
  loss, found, parts = MEASURES[measure], [], []
  for _, part in rows.groupby(candidate.by, sort=False) if candidate.by else [(None, rows)]:
    part = part.reset_index(drop=True)
    fitted = part[~part['held']]
    if fitted.empty:
      raise BadInput('a size that is left out whole has no fit of its own')
    enough = resamples if fitted['trunk'].nunique() >= TRUNKS else 0
    law = fit.fit(
      candidate.law, fitted, candidate.columns, loss=loss, bootstrap=enough, clusters='trunk'
    )
    found.append(law)
    parts.append(part.assign(predicted=fit.predict(law, part)))
  rows = pd.concat(parts, ignore_index=True)
  log = loss.startswith('huber_log')
  error = rows[measure] / rows['predicted'], rows[measure] - rows['predicted']
  return Held(candidate, tuple(found), rows.assign(residual=np.log(error[0]) if log else error[1]))


def errors(held: Held, measure: str, resamples: int) -> np.ndarray:
  """[resamples]: the error on the cells left out, of laws refitted to resampled trunks, over
  resampled trunks of those cells; empty where there are too few trunks for it.
  """
  left_out = held.rows[held.rows['held']]
  trunks = pd.factorize(left_out['trunk'])[0]
  if held.candidate.by is not None or not len(held.fits[0].samples) or trunks.max() < 1:
    return np.zeros(0)
  law = held.fits[0]
  inputs = [left_out[law.columns[name]].to_numpy(np.float64) for name in law.definition.inputs]
  curves = law.definition.function(*law.samples.T[:, :, None], *inputs)
  actual = left_out[measure].to_numpy()
  log = MEASURES[measure].startswith('huber_log')
  squares = (np.log(actual / curves) if log else actual - curves) ** 2
  count = trunks.max() + 1
  drawn = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), resamples)
  weights = drawn[:, trunks]
  return np.sqrt((weights * squares).sum(1) / weights.sum(1))


def compare(
  found: pd.DataFrame, made: pd.DataFrame | None = None, resamples: int = RESAMPLES
) -> Compared:
  """Every law on every split of `cells`, and of `paths`. BadInput where no split of them can be.

  Columns of the table: measure, cells ('all', 'no repeats' or 'rft'), split, law, parameters,
  fitted and held (cells), error (root mean square, of the log of loss or of pass@1), low and high
  (its 95 %), gap_low and gap_high (95 % of how much more it is than that of the best law of the
  split that has an interval), baseline (that of the fitted cell nearest in log inputs, of several
  as near the mean), unidentified.
  """
  if found.empty:
    raise BadInput('no SFT cell with a finite held-out loss; set config.sft.tokens')
  rows, held, missing = [], {}, []
  for measure, which, part in _sets(found, made):
    for split, some in splits(part).items() if len(part) else ():
      drawn, here = {}, []
      for candidate in candidates(part, measure):
        if split != 'largest budget' and candidate.by is not None:
          continue
        try:
          one = hold_out(candidate, some, measure, resamples)
        except BadInput as error:
          missing.append(f'{measure}, {which}, {split}: {candidate.name}: {error}')
          continue
        held[measure, which, split, candidate.name] = one
        drawn[candidate.name] = errors(one, measure, resamples)
        here.append(dict(measure=measure, cells=which, split=split) | _row(one, measure))
      rows += _ranked(here, drawn)
  if not rows:
    sizes, budgets = found['size'].nunique(), found['budget'].nunique()
    raise BadInput(
      f'{len(found)} SFT cells of {sizes} sizes and {budgets} budgets: nothing can be left '
      'out; give config.sft.tokens at least 4 budgets, or config.model.sizes at least 3 sizes'
      + (f' ({missing[0]})' if missing else '')
    )
  return Compared(pd.DataFrame(rows), held, tuple(missing), found)


def of_study(study: tables.Study) -> Compared:
  """`compare` of a study that was read; cells that are not of its crossed part are read again."""
  records = tables.load(study.workdir, study.name)
  return compare(cells(records), paths(records))


def _sets(found: pd.DataFrame, made: pd.DataFrame | None) -> list[tuple[str, str, pd.DataFrame]]:
  """(measure, which cells, they) of the sets on which laws are compared."""
  sets = [('loss', 'all', found)]
  if found['repeats'].any():  # perhaps all at the most tokens: budgets are counted anew
    sets.append(('loss', 'no repeats', _placed(found[~found['repeats']])))
  sets.append(('pass@1', 'all', _placed(found[np.isfinite(found['pass@1'])])))
  if made is not None:
    sets.append(('pass@1', 'rft', made))
  return [(measure, which, part.reset_index(drop=True)) for measure, which, part in sets]


def _row(one: Held, measure: str) -> dict:
  """What the table has of a law on a split."""
  left_out, fitted = (one.rows[one.rows['held'] == held] for held in (True, False))
  names = one.candidate.columns
  places = [names[x] for x in one.fits[0].definition.inputs]
  log = MEASURES[measure].startswith('huber_log')
  miss = []
  for _, cell in left_out.iterrows():
    near = fitted if one.candidate.by is None else fitted[fitted['model'] == cell['model']]
    far = (np.log(near[places]) - np.log(cell[places].astype(float))).pow(2).sum(axis=1) ** 0.5
    nearest = near.loc[far <= far.min() + np.log(SAME), measure].mean()  # of seeds: as near
    miss.append(np.log(cell[measure] / nearest) if log else cell[measure] - nearest)
  unknown = dict.fromkeys(name for law in one.fits for name in law.unidentified)
  return {
    'law': one.candidate.name,
    'parameters': sum(len(law.params) for law in one.fits),
    'fitted': len(fitted),
    'held': len(left_out),
    'error': float(np.sqrt(np.mean(left_out['residual'] ** 2))),
    'baseline': float(np.sqrt(np.mean(np.square(miss)))),
    'unidentified': ', '.join(unknown),
  }


def _ranked(rows: list[dict], drawn: dict) -> list[dict]:
  """The rows of a split, the least error first, with intervals from the `errors` of each law."""
  rows = sorted(rows, key=lambda row: row['error'])
  best = next((row['law'] for row in rows if len(drawn[row['law']])), None)
  for row in rows:
    mine, ends = drawn[row['law']], dict.fromkeys(('low', 'high', 'gap_low', 'gap_high'), np.nan)
    if len(mine):
      ends['low'], ends['high'] = np.nanquantile(mine, [0.025, 0.975])
    if len(mine) and row['law'] != best:
      ends['gap_low'], ends['gap_high'] = np.nanquantile(mine - drawn[best], [0.025, 0.975])
    row |= ends
  return rows


def words(compared: Compared) -> list[str]:
  """A sentence for each split: which law errs least, by how much, and what is beyond noise."""
  said = []
  for (measure, which, split), rows in compared.table.groupby(
    ['measure', 'cells', 'split'], sort=False
  ):
    best, rest = rows.iloc[0], rows.iloc[1:]
    where = {'all': '', 'no repeats': ' among cells that repeat no token', 'rft': ' of rft'}[which]
    line = f'{split[0].upper()}{split[1:]} left out{where} ({best["held"]} of '
    line += f'{best["held"] + best["fitted"]} cells), {measure}: {_share(best, measure)} by '
    line += f'{best["law"]}'
    line += '; ' + ', '.join(f'{_share(r, measure)} {r["law"]}' for _, r in rest.iterrows())
    line = line.removesuffix('; ')
    gaps = rows[rows['gap_low'].notna()]
    if len(gaps):
      first = rows[rows['low'].notna()].iloc[0]['law']
      line += f'. More than {first}, over resampled trunks: '
      line += ', '.join(f'{r["law"]} {_gap(r)}' for _, r in gaps.iterrows())
    line += f'. The nearest fitted cell: {_number(best["baseline"], measure)}.'
    said.append(line)
  return said


def _number(value: float, measure: str) -> str:
  return f'{100 * value:.1f} {"%" if measure == "loss" else "points"}'


def _share(row, measure: str) -> str:
  ends = '' if np.isnan(row['low']) else f' ({100 * row["low"]:.1f} to {100 * row["high"]:.1f})'
  return _number(row['error'], measure) + ends


def _gap(row) -> str:
  ends = f'{style.signed(row["gap_low"])} to {style.signed(row["gap_high"])}'
  return f'{ends}{"" if row["gap_low"] > 0 else " (no more than noise)"}'


def shown(compared: Compared) -> pd.DataFrame:
  """The table in human units."""
  table = compared.table
  pairs = zip(table['low'], table['high'])
  return pd.DataFrame(
    {
      'measure': table['measure'],
      'cells': table['cells'],
      'left out': table['split'],
      'law': table['law'],
      'parameters': table['parameters'],
      'fitted': table['fitted'],
      'held out': table['held'],
      'error': [_number(r['error'], r['measure']) for _, r in table.iterrows()],
      '95 %': ['' if np.isnan(x) else f'{100 * x:.1f} to {100 * y:.1f}' for x, y in pairs],
      'nearest cell': [_number(r['baseline'], r['measure']) for _, r in table.iterrows()],
      'not identified': table['unidentified'],
    }
  )


@style.styled
def draw(compared: Compared) -> Drawing | None:
  """Left: the error of each law on each split of the losses; right: residuals of the two laws that
  err least where the largest budget (or the first split there is) was left out. None where laws
  are compared by pass@1 alone."""
  table = compared.table[compared.table['measure'] == 'loss']
  if table.empty:
    return None
  which = 'all' if (table['cells'] == 'all').any() else table['cells'].iloc[0]
  table = table[table['cells'] == which]
  laws = list(dict.fromkeys(table.sort_values('error')['law']))
  figure, panels = style.new(
    1, 3, width=11.0, height=3.9, gridspec_kw={'width_ratios': [1.1, 1, 1]}
  )
  there = [split for split in SPLITS if (table['split'] == split).any()]
  colours = style.ramp(there)
  for number, split in enumerate(there):
    rows = table[table['split'] == split].set_index('law')
    for law, row in rows.iterrows():
      y = len(laws) - 1 - laws.index(law) + 0.18 * (number - (len(there) - 1) / 2)
      if np.isfinite(row['low']):
        panels[0].plot([100 * row['low'], 100 * row['high']], [y, y], color=colours[split], lw=1.4)
      label = split if law == rows.index[0] else None
      panels[0].plot(100 * row['error'], y, 'o', color=colours[split], ms=5, label=label)
  panels[0].set_yticks(range(len(laws)), [law.replace(', ', ',\n') for law in laws[::-1]])
  panels[0].set_ylim(-0.6, len(laws) - 0.4)
  panels[0].set_xlim(0, None)
  panels[0].set_xlabel('error on the cells left out, % of the loss; bars 95 %')
  panels[0].grid(axis='y', visible=False)
  figure.legend(loc='outside upper left', ncols=3)
  first = table[table['split'] == there[0]]
  sizes = sorted(compared.cells['size'].unique())
  shades, reach = style.ramp(sizes), 0.0
  for axes, law in zip(panels[1:], first['law']):
    rows = compared.held['loss', which, there[0], law].rows
    axes.axhline(0, color=INK, lw=0.9)
    for size, some in rows.groupby('size'):
      for held, points in some.groupby('held'):
        axes.plot(
          points['tokens'], 100 * points['residual'], 'o', ms=5, mec=shades[size],
          mfc='none' if held else shades[size], label=None if held else style.human(size),
        )  # fmt: skip
    style.log_axis(axes.xaxis, rows['tokens'].min(), rows['tokens'].max())
    axes.set_title(law, color=ACCENT if law == first['law'].iloc[0] else MUTED)
    axes.set_xlabel('SFT tokens; open: left out')
    reach = 1.1 * max(100 * rows['residual'].abs().max(), reach / 1.1)
  for axes in panels[1:]:
    axes.set_ylim(-reach, reach)
  panels[1].set_ylabel('residual of the loss, %')
  panels[1].legend(fontsize=7, title='parameters', title_fontsize=7)
  for axes in panels[len(first) + 1 :]:
    axes.set_visible(False)
  caption = '\n'.join(words(compared))
  return Drawing('sft_laws', 'The laws of SFT, by what they say of cells left out', figure, caption)


def _picture(compared: Compared, path) -> None:
  drawing = draw(compared)
  if drawing is None:
    raise BadInput('--out: a picture is of losses, and no cell of the losses can be left out')
  command.save(drawing.figure, '--out', path)


def main(argv=None) -> int:
  """0; or 2, with one line on stderr, where there is nothing to compare."""
  its = command.parser('sft', __doc__)
  its.add_argument('--study', help='its name; the newest of the workdir if left out')
  its.add_argument('--out', help='a picture to write')
  its.add_argument('--csv', help='the table to write')
  return command.of_study(
    its,
    lambda workdir, study: of_study(tables.read(workdir, study)),
    lambda found: [shown(found).to_string(index=False), '', *words(found), *found.missing],
    {'csv': lambda found, path: found.table.to_csv(path, index=False), 'out': _picture},
    argv,
  )


if __name__ == '__main__':
  sys.exit(main())
