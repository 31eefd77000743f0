"""RL runs of a study side by side: reward, gold and KL at every update; over-optimisation.

    python -m analysis.reinforcement WORKDIR [--study=NAME] [--out=rl.png] [--laws=laws.png]

A run is a chain of stages, joined here into one curve a seed; runs that begin at different SFT
parents are different runs. Where the KL to the parent was measured (config.rl.measure_kl, or a KL
that has a weight), gold and proxy are drawn over its root, with Gao's fit (2210.10760) of the gold;
else over updates. Of runs that are long enough the laws of `rl_laws` are compared by what they
foretell of the second half.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import command, overoptimization, rl_laws, style, tables
from analysis.errors import BadInput
from analysis.style import INK, Drawing, counted

PARENT = ['model', 'pretrain_tokens', 'sft_tokens']  # where a run begins
RUN = ['run', *PARENT]
SMOOTH = 5  # updates that a point of a drawn curve is the mean of


def curves(workdir, study: str | None = None) -> pd.DataFrame:
  """One row an update of every RL run of a study, the newest of the workdir where none is named:
  RUN (run: as config.rl.runs calls it), seed, step, samples (responses drawn so far), and what was
  measured: reward, gold, kl_of_response (NaN where not measured), entropy, zero_variance, …
  BadInput where the study has no RL.
  """
  name, plan = list(tables.plans(workdir, study).items())[-1]
  rows = []
  for path in tables.stage_files(workdir, plan, 'metrics.parquet'):
    stage = json.loads((path.parent / 'stage.json').read_text())
    if stage['kind'] != 'rl':
      continue
    recipe = stage['recipe']
    about = dict(run=recipe['called'], model=recipe['preset'], seed=recipe['seed'])
    about |= _tokens(workdir, recipe['reference'])
    table = tables.parquet(path)
    rows.append(table.assign(samples=table['prompts_drawn'] * recipe['group'], **about))
  if not rows:
    raise BadInput(
      f'{workdir}, study {name}: no RL stage with a curve; set config.rl.updates in the study'
    )
  found = pd.concat(rows, ignore_index=True)
  if 'kl_of_response' not in found:
    found['kl_of_response'] = np.nan
  found = found.sort_values([*RUN, 'seed', 'step'], ignore_index=True)
  return found.assign(samples=found.groupby([*RUN, 'seed'])['samples'].cumsum())


def _tokens(workdir, stage_id: str) -> dict:
  """Tokens of pretraining and of SFT of a stage that has ended."""
  done = json.loads((Path(workdir) / 'stages' / stage_id / 'done.json').read_text())
  return {name: float(done['cell'][name]) for name in ('pretrain_tokens', 'sft_tokens')}


def parents(table: pd.DataFrame) -> pd.Series:
  """What PARENT is called in each row: the size, with the tokens that set apart those of a size."""
  called = table['model'].astype(str)
  for column, of in (('sft_tokens', 'SFT'), ('pretrain_tokens', 'pretraining')):
    several = table.groupby('model')[column].transform('nunique') > 1
    tokens = table[column].map(lambda count, of=of: f', {count:,.0f} tokens of {of}')
    called = called.where(~several, called + tokens)
  return called


def names(table: pd.DataFrame) -> dict[tuple, str]:
  """RUN -> what it is called, as 'dapo, 75k'."""
  runs = table[RUN].drop_duplicates()
  called = runs['run'] + ', ' + parents(runs)
  return dict(zip(runs.itertuples(index=False, name=None), called, strict=True))


def summary(found: pd.DataFrame, last: int = 10) -> pd.DataFrame:
  """One row a run: means over seeds of its first and its last updates (`last` of them, at most half
  of the run), the standard error over seeds, and sqrt(KL) at the end. Gold and reward are of
  samples at the training temperature.
  """
  rows = []
  for key, run in found.groupby(RUN, sort=False):
    row = dict(zip(RUN, key, strict=True)) | {'seeds': run['seed'].nunique()}
    row['updates'] = int(run['step'].max()) + 1
    some = max(1, min(last, row['updates'] // 2))
    ends = [(r.head(some), r.tail(some)) for _, r in run.groupby('seed')]
    for name in ('reward', 'gold'):
      begun, ended = (np.array([e[i][name].mean() for e in ends]) for i in (0, 1))
      row |= {f'{name}_first': begun.mean(), f'{name}_last': ended.mean()}
      row[f'{name}_change'] = (ended - begun).mean()
      error = (ended - begun).std(ddof=1) / np.sqrt(len(ends)) if len(ends) > 1 else np.nan
      row[f'{name}_change_stderr'] = error
    row['sqrt_kl'] = np.sqrt(np.mean([e[1]['kl_of_response'].mean() for e in ends]))
    rows.append(row)
  return pd.DataFrame(rows)


def fits(found: pd.DataFrame) -> dict[tuple, tuple[overoptimization.Fit, float]]:
  """RUN -> Gao's law of its gold over the measured KL, seeds pooled, and the gold at KL 0, the mean
  over seeds; of each run whose KL was measured.

  The gold at KL 0 of each seed is fitted too, by least squares with the law's two parameters; the
  intervals take it as given, and updates as independent: they are too narrow.
  """
  done = {}
  for key, run in found.groupby(RUN, sort=False):
    moved = run[run['kl_of_response'] > 0]
    if run['kl_of_response'].isna().any() or len(moved) < 5:
      continue
    begun = pd.get_dummies(moved['seed']).to_numpy(np.float64)
    kl, gold = moved['kl_of_response'].to_numpy(), moved['gold'].to_numpy()
    design = np.column_stack([begun, overoptimization.terms(kl)])
    start = np.linalg.lstsq(design, gold, rcond=None)[0][: begun.shape[1]]
    done[key] = overoptimization.fit(kl, gold - begun @ start), float(start.mean())
  return done


@style.styled
def draw(found: pd.DataFrame) -> Drawing:
  """Gold (solid) and what was rewarded (dashed) of every run; over the KL, Gao's fit (dotted)."""
  over_kl = not found['kl_of_response'].isna().any()
  laws = fits(found) if over_kl else {}
  figure, axes = style.new()
  called = names(found)
  if len(found[PARENT].drop_duplicates()) == 1:
    called = {key: key[0] for key in called}
  colours = style.ramp(list(called))
  for key, run in found.groupby(RUN, sort=False):
    mean = run.groupby('step')[['gold', 'reward', 'kl_of_response']].mean()
    mean = mean.rolling(SMOOTH, min_periods=1, center=True).mean()
    x = np.sqrt(mean['kl_of_response']) if over_kl else mean.index
    axes.plot(x, mean['gold'], color=colours[key], lw=1.8, label=called[key])
    if (run['reward'] != run['gold']).any():
      axes.plot(x, mean['reward'], color=colours[key], lw=1.2, ls='--')
    if key in laws:
      law, begun = laws[key]
      d = np.linspace(0, x.max(), 200)[1:]
      axes.plot(d, begun + overoptimization.curve(law, d**2), color=colours[key], lw=1.4, ls=':')
  axes.set_xlabel('√KL to the SFT parent, nats a response' if over_kl else 'update')
  axes.set_ylabel('mean over the samples of an update')
  title = 'solid: the verifier, gold   – – what was rewarded'
  axes.set_title(title + '   ··· fit of the gold' * bool(laws), color=INK)
  axes.legend(fontsize=8, frameon=False)
  return Drawing('reinforcement', 'RL runs', figure, '\n'.join(words(summary(found))))


def words(table: pd.DataFrame) -> list[str]:
  """A sentence a run."""
  said = []
  for row, parent in zip(table.itertuples(), parents(table), strict=True):
    error = '' if np.isnan(row.gold_change_stderr) else f' (s.e. {row.gold_change_stderr:.3f})'
    line = f'{row.run}, {parent}: gold {row.gold_first:.3f} to {row.gold_last:.3f}{error}'
    if abs(row.reward_last - row.gold_last) > 1e-9:
      line += f', rewarded {row.reward_first:.3f} to {row.reward_last:.3f}'
    if not np.isnan(row.sqrt_kl):
      line += f', √KL {row.sqrt_kl:.2f}'
    said.append(f'{line}; {counted(row.updates, "update")}, {counted(row.seeds, "seed")}.')
  return said


def told(found: pd.DataFrame, laws: dict) -> list[str]:
  """Lines on the curves of a study's runs: what they gained, Gao's fit, and the laws of them."""
  lines, called = words(summary(found)), names(found)
  farthest = np.sqrt(found.groupby(RUN)['kl_of_response'].max())
  for key, (law, _) in fits(found).items():
    low, high = law.beta_interval
    reach = farthest[key]
    best = f'greatest at d = {law.peak:.2f}'
    if law.peak > reach:
      rises = overoptimization.curve(law, reach**2) > 0
      best = f'no peak up to d = {reach:.2f}, the farthest' if rises else 'greatest at d = 0'
    lines.append(
      f'{called[key]}: gold gain d (α − β log d), d = √KL, α {law.alpha:.3f}, β {law.beta:.3f} '
      f'(95 % {low:.3f} to {high:.3f}), RMSE {law.rmse:.3f} over the {law.points} updates that it '
      f'was fitted to; {best}'
    )
  for key, compared in laws.items():
    lines += rl_laws.words(called[key], compared)
  return lines


def _read(workdir, study) -> tuple[pd.DataFrame, dict]:
  found = curves(workdir, study)
  return found, rl_laws.of_runs(found, RUN)


def _draw_laws(found: pd.DataFrame, laws: dict, path) -> None:
  """Of the first run that is long enough. BadInput where none is."""
  if not laws:
    raise BadInput(f'--laws: no run has {rl_laws.LEAST} windows of {rl_laws.WINDOW} updates')
  key, compared = next(iter(laws.items()))
  command.save(rl_laws.draw(names(found)[key], compared), '--laws', path)


def main(argv=None) -> int:
  """0; or 2, with one line on stderr, where there is nothing to show."""
  its = command.parser('reinforcement', __doc__)
  its.add_argument('--study', help='its name; default: the newest of the workdir')
  its.add_argument('--out', help='a picture to write')
  its.add_argument('--laws', help='a picture of the laws of the first run to write')
  return command.of_study(
    its,
    _read,
    lambda read: told(*read),
    {
      'laws': lambda read, path: _draw_laws(*read, path),
      'out': lambda read, path: command.save(draw(read[0]).figure, '--out', path),
    },
    argv,
  )


if __name__ == '__main__':
  sys.exit(main())
