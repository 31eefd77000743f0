"""RL against how many problems it drew from, of single responses and of episodes in turns.

    python -m analysis.environments WORKDIR [--study=NAME] [--out=environments.png]

Of every RL run (config.rl.environments, config.rl.turns), measured on the test problems where it
ends: pass@k of single responses, and the part of episodes that are solved within k turns
(config.search.strategies 'episodes', config.search.after_rl). An episode is told that a turn was
wrong, so what k turns are to be compared with is pass@k.
"""

import sys

import pandas as pd

from analysis import bands, command, style, tables
from analysis.errors import BadInput
from analysis.reinforcement import PARENT, parents
from analysis.style import INK, Drawing

CELL = [*PARENT, 'rl_turns', 'rl_environments', 'rl_algorithm', 'rl_updates']
MEASURES = {  # by strategy, of k
  'oracle': lambda k: f'pass@{k}',
  'episodes': lambda k: f'episodes of {_turns(k)}',
}


def table(records: pd.DataFrame) -> pd.DataFrame:
  """One row a (CELL, measure), k up to the most turns of an episode: value, the mean over seeds;
  stderr, over problems and, where there are several, seeds (`bands.stderr`); seeds. Of each RL run
  its last update; beside them the SFT parents.

  records: as `tables.load` gives them; what studies share counts once. BadInput where no RL run is
  among them.
  """
  if 'rl_environments' not in records or not (records['rl_environments'] > 0).any():
    raise BadInput('no RL run whose number of environments was recorded: run RL anew')
  records = records.fillna({'rl_environments': 0, 'rl_turns': 0})
  records = records.astype({'rl_environments': int, 'rl_turns': int})
  rows = tables.crossed(records[records['metric'] == 'accuracy'])
  rows = rows.drop_duplicates(rows.columns.drop('study', errors='ignore'))
  rows['strategy'] = rows['strategy'].str.partition('(')[0]
  rows = rows[rows['strategy'].isin(list(MEASURES))]
  most = rows.loc[rows['strategy'] == 'episodes', 'k'].max()  # NaN where there are none
  rows = rows[~(rows['k'] > most)]
  rows['measure'] = [MEASURES[s](k) for s, k in zip(rows['strategy'], rows['k'], strict=True)]
  parents = rows[rows['rl_environments'] > 0][PARENT].drop_duplicates()
  rows = rows.merge(parents)
  last = rows.groupby(CELL[:-1])['rl_updates'].transform('max')
  groups = rows[rows['rl_updates'] == last].groupby([*CELL, 'measure'], sort=False)

  def of(group):
    seeds = group.groupby('seed')[['value', 'stderr']].mean()
    error = bands.stderr(seeds['value'], seeds['stderr'])
    return pd.Series({'value': seeds['value'].mean(), 'stderr': error, 'seeds': len(seeds)})

  found = groups.apply(of, include_groups=False).reset_index()
  return found.astype({'seeds': int}).sort_values([*CELL, 'measure'], ignore_index=True)


def _turns(count: int) -> str:
  return f'{count} turns' if count > 1 else '1 turn'


def words(found: pd.DataFrame) -> list[str]:
  """A sentence a cell."""
  said = []
  for cell, rows in found.assign(parent=parents(found)).groupby([*CELL, 'parent']):
    about = dict(zip([*CELL, 'parent'], cell, strict=True))
    run = 'SFT alone'
    if about['rl_environments']:
      turns, updates = _turns(about['rl_turns']), about['rl_updates']
      run = f'{about["rl_environments"]:,} environments, {turns}, {updates} updates'
    each = ', '.join(f'{r.measure} {r.value:.3f} (s.e. {r.stderr:.3f})' for r in rows.itertuples())
    said.append(f'{about["parent"]}, {run}: {each}.')
  return said


def draw(found: pd.DataFrame) -> Drawing:
  """Accuracy over the number of environments: a panel a measure, a line for each SFT parent and
  number of turns in training; SFT alone is a dashed line."""
  measures = list(dict.fromkeys(found['measure']))
  size = dict(width=2.6 * len(measures) + 1, sharey=True, squeeze=False)
  figure, (panels,) = style.new(1, len(measures), **size)
  found = found.assign(parent=parents(found))
  trained = found[found['rl_turns'] > 0].sort_values([*PARENT, 'rl_turns'])
  runs = list(dict.fromkeys(zip(trained['parent'], trained['rl_turns'], strict=True)))
  colours = style.ramp(runs)
  several = found['parent'].nunique() > 1
  for axes, measure in zip(panels, measures, strict=True):
    rows = found[found['measure'] == measure]
    for value in rows.loc[rows['rl_environments'] == 0, 'value']:
      axes.axhline(value, color=INK, lw=1, ls='--')
    for parent, turns in runs:
      line = rows[(rows['parent'] == parent) & (rows['rl_turns'] == turns)]
      line = line.sort_values('rl_environments')
      axes.errorbar(
        line['rl_environments'], line['value'], line['stderr'], color=colours[parent, turns],
        marker='o', ms=4, capsize=2,
        label=f'{parent}, RL of {_turns(turns)}' if several else f'RL of {_turns(turns)}',
      )  # fmt: skip
    axes.set_xscale('log')
    axes.set_title(measure)
    axes.set_xlabel('environments')
  panels[0].set_ylabel('test problems solved')
  panels[0].legend(fontsize=8, frameon=False)
  return Drawing('environments', 'Environments', figure, '\n'.join(words(found)))


def main(argv=None) -> int:
  """0; or 2, with one line on stderr, where there is nothing to show."""
  its = command.parser('environments', __doc__)
  its.add_argument('--study', help='its name; default: the newest of the workdir')
  its.add_argument('--out', help='a picture to write')
  newest = lambda workdir, study: list(tables.plans(workdir, study))[-1]
  read = lambda workdir, study: table(tables.load(workdir, newest(workdir, study)))
  picture = lambda found, path: command.save(draw(found).figure, '--out', path)
  return command.of_study(its, read, words, {'out': picture}, argv)


if __name__ == '__main__':
  sys.exit(main())
