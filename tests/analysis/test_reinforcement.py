"""RL runs side by side, from a made-up workdir whose curves are known."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import reinforcement
from analysis.errors import BadInput


def _workdir(folder, runs, updates=40, kl=True):
  """A study with a chain of two stages for each (run, seed): gold and reward by functions of d."""
  (folder / 'studies').mkdir(parents=True)
  (folder / 'version.json').write_text('{"format": 1}')
  (folder / 'stages' / 'sft-0').mkdir(parents=True)
  (folder / 'stages' / 'sft-0' / 'done.json').write_text('{"cell": {"sft_tokens": 1000}}')
  stages = []
  for name, gold in runs.items():
    for seed in (0, 1):
      for part, steps in enumerate(np.array_split(np.arange(updates), 2)):
        d = 0.05 * (steps + 1)
        table = pd.DataFrame(
          {'step': steps, 'gold': gold(d) + 0.01 * seed, 'reward': d, 'prompts_drawn': 4.0}
        )
        if kl:
          table['kl_of_response'] = d**2
        here = folder / 'stages' / f'rl-{name}-{seed}-{part}'
        here.mkdir()
        table.to_parquet(here / 'metrics.parquet')
        recipe = {'called': name, 'preset': '25k', 'seed': seed, 'reference': 'sft-0'}
        recipe['group'] = 8
        stage = {'id': here.name, 'kind': 'rl', 'label': here.name, 'recipe': recipe}
        (here / 'stage.json').write_text(json.dumps(stage))
        stages.append({'id': here.name, 'kind': 'rl', 'label': here.name, 'seed': seed})
  (folder / 'studies' / 's.json').write_text(json.dumps({'stages': stages}))
  return folder


def test_chains_are_joined_and_gaos_law_is_found(tmp_path):
  law = lambda alpha, beta: lambda d: 0.2 + d * (alpha - beta * np.log(d))
  workdir = _workdir(tmp_path / 'w', {'grpo': law(0.3, 0.2), 'dapo': law(0.5, 0.1)})
  found = reinforcement.curves(workdir)
  assert len(found) == 2 * 2 * 40 and set(found['sft_tokens']) == {1000.0}
  for _, run in found.groupby(['run', 'seed']):
    np.testing.assert_array_equal(run['step'], np.arange(40))
  table = reinforcement.summary(found).set_index('run')
  d = 0.05 * np.arange(1, 41)
  gold = law(0.3, 0.2)(d)
  assert table.loc['grpo', 'gold_last'] == pytest.approx(gold[-10:].mean() + 0.005)
  change = gold[-10:].mean() - gold[:10].mean()
  assert table.loc['grpo', 'gold_change'] == pytest.approx(change)
  assert table.loc['grpo', 'sqrt_kl'] == pytest.approx(np.sqrt((d[-10:] ** 2).mean()))
  fits = reinforcement.fits(found)
  assert fits['grpo'].beta == pytest.approx(0.2, rel=1e-6)
  assert fits['grpo'].alpha == pytest.approx(0.3, rel=1e-6)
  assert fits['dapo'].beta == pytest.approx(0.1, rel=1e-6)


def test_a_short_run_is_halved_and_one_without_kl_is_drawn_over_updates(tmp_path):
  workdir = _workdir(tmp_path / 'w', {'grpo': lambda d: d}, updates=4, kl=False)
  found = reinforcement.curves(workdir)
  row = reinforcement.summary(found).iloc[0]
  assert row['gold_change'] == pytest.approx(0.1) and np.isnan(row['sqrt_kl'])
  assert reinforcement.fits(found) == {}
  drawing = reinforcement.draw(found)
  assert drawing.figure.axes[0].get_xlabel() == 'update' and 'grpo' in drawing.caption


def test_the_command_prints_and_writes_and_refuses(tmp_path, capsys):
  workdir = _workdir(tmp_path / 'w', {'grpo': lambda d: 0.1 + d * (0.3 - 0.2 * np.log(d))})
  assert reinforcement.main([str(workdir), f'--out={tmp_path / "rl.png"}']) == 0
  said = capsys.readouterr().out
  assert 'grpo, 25k: gold' in said and 'α − β log d' in said
  assert (tmp_path / 'rl.png').stat().st_size > 10_000
  empty = _workdir(tmp_path / 'none', {})
  assert reinforcement.main([str(empty)]) == 2
  with pytest.raises(BadInput, match='no RL stage with a curve'):
    reinforcement.curves(empty)
