"""Laws of RL compared: the one that made a curve foretells its second half."""

import numpy as np
import pandas as pd
import pytest

from analysis import rl_laws

UPDATES = 160
DRAWN = 256.0 * np.arange(1, UPDATES + 1)


def run(law, seeds=3, noise=0.002):
  """Rows of `reinforcement.curves` whose gold is the law of the responses drawn, and noise."""
  rng = np.random.default_rng(0)
  parts = [
    pd.DataFrame(
      {'seed': seed, 'samples': DRAWN, 'gold': law(DRAWN) + noise * rng.normal(size=UPDATES)}
    )
    for seed in range(seeds)
  ]
  return pd.concat(parts, ignore_index=True)


def sigmoid(C):
  return 0.1 + 0.4 / (1 + (9_000 / C) ** 2)


def test_windows_are_means_at_their_middle():
  points = rl_laws.windows(run(lambda C: C, seeds=1, noise=0.0))
  assert len(points) == UPDATES / rl_laws.WINDOW
  assert points['samples'][0] == 256 * 5  # updates 1 to 10 end at 256 to 2560; half a draw less
  assert points['gold'][0] == 256 * 5.5


def test_the_law_that_made_a_curve_foretells_it():
  found = rl_laws.compare(run(sigmoid))
  errors = {law: one.holdout_error for law, one in found.fits.items()}
  assert errors['sigmoid'] < 0.5 * min(errors['log_linear'], errors['rising_power'])
  assert found.whole.params['A'] == pytest.approx(0.5, abs=0.01)
  said = rl_laws.words('grpo', found)[1]
  assert f'{100 * found.whole.params["A"]:.1f} % (95 %' in said
  assert 'too narrow, as it resamples 3 seeds' in said
  line = rl_laws.compare(run(lambda C: 0.05 + 0.03 * np.log(C / 256)), bootstrap=20)
  errors = {law: one.holdout_error for law, one in line.fits.items()}
  assert errors['log_linear'] < min(0.003, 0.5 * errors['sigmoid'])


def test_what_carries_on_is_of_every_seed_and_not_of_the_last():
  rows = [(0, 1, 0.0), (0, 2, 0.1), (0, 3, 0.1), (0, 4, 0.1), (1, 1, 0.0), (1, 2, 0.3), (1, 3, 0.3),
          (1, 4, 0.5)]  # fmt: skip
  points = pd.DataFrame(rows, columns=['seed', 'samples', 'gold'])
  pooled, own = rl_laws.carried_on(points, cut=2)
  assert pooled == pytest.approx(np.sqrt(np.mean([0.1**2, 0.1**2, 0.1**2, 0.3**2])))
  assert own == pytest.approx(np.sqrt(0.2**2 / 4))
  table = run(sigmoid)
  table['gold'] += 0.05 * table['seed']
  said = [
    rl_laws.words('dapo', rl_laws.compare(one, bootstrap=5))[0]
    for one in (table, table.assign(seed=2 - table['seed']))
  ]
  assert said[0] == said[1] and "the mean of the seeds' last windows fitted by" in said[0]


def test_fits_do_not_see_what_they_are_scored_on():
  table = run(sigmoid, seeds=1)
  late = table['samples'] > 0.55 * table['samples'].max()
  one = rl_laws.compare(table, bootstrap=0)
  two = rl_laws.compare(table.assign(gold=table['gold'] + 0.2 * late), bootstrap=0)
  for law in rl_laws.LAWS:
    assert one.fits[law].params == pytest.approx(two.fits[law].params)
    assert two.fits[law].holdout_error > one.fits[law].holdout_error


def test_what_is_short_or_flat_is_left_out():
  assert rl_laws.compare(run(sigmoid)[lambda t: t['samples'] < 256 * 55]) is None
  assert rl_laws.compare(run(lambda C: 0 * C, noise=0.0)) is None
  table = pd.concat([run(sigmoid).assign(run='a', model='m'),
                     run(sigmoid).head(30).assign(run='b', model='m')])  # fmt: skip
  assert list(rl_laws.of_runs(table, ['run', 'model'])) == [('a', 'm')]


def test_a_ceiling_that_is_not_seen_is_not_given():
  found = rl_laws.compare(run(lambda C: 0.05 + 5e-12 * C**2.2), bootstrap=40)
  assert 'not identified' in rl_laws.words('grpo', found)[1]
  figure = rl_laws.draw('grpo', found)
  assert len(figure.axes[0].get_legend().get_texts()) == 3 + 3
