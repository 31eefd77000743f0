"""RL runs side by side, from a made-up workdir whose curves are known."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from analysis import reinforcement, rl_laws
from analysis.errors import BadInput


def _workdir(folder, runs, updates=40, kl=True):
  """A study with a chain of two stages for each (run, seed): gold and reward by functions of d.

  runs: (name, tokens of pretraining, of SFT) -> gold; or name -> gold, from 500 and 1,000.
  """
  (folder / 'studies').mkdir(parents=True)
  (folder / 'version.json').write_text('{"format": 1}')
  stages = []
  for run, gold in runs.items():
    called, pretrained, tuned = (run, 500, 1000) if isinstance(run, str) else run
    name, parent = f'{called}-{pretrained}-{tuned}', f'sft-{pretrained}-{tuned}'
    cell = {'pretrain_tokens': pretrained, 'sft_tokens': tuned}
    (folder / 'stages' / parent).mkdir(parents=True, exist_ok=True)
    (folder / 'stages' / parent / 'done.json').write_text(json.dumps({'cell': cell}))
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
        recipe = {'called': called, 'preset': '25k', 'seed': seed, 'reference': parent}
        recipe['group'] = 8
        stage = {'id': here.name, 'kind': 'rl', 'label': here.name, 'recipe': recipe}
        (here / 'stage.json').write_text(json.dumps(stage))
        stages.append({'id': here.name, 'kind': 'rl', 'label': here.name, 'seed': seed})
  (folder / 'studies' / 's.json').write_text(json.dumps({'stages': stages}))
  return folder


def law(alpha, beta):
  return lambda d: 0.2 + d * (alpha - beta * np.log(d))


def test_chains_are_joined_and_gaos_law_is_found(tmp_path):
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
  fits = {key[0]: of_run for key, of_run in reinforcement.fits(found).items()}
  assert [*fits['grpo'][0][:2]] == pytest.approx([0.3, 0.2], rel=1e-6)
  assert fits['grpo'][1] == pytest.approx(0.205)
  assert fits['dapo'][0].beta == pytest.approx(0.1, rel=1e-6)


def test_chains_that_studies_share_count_once(tmp_path):
  workdir = _workdir(tmp_path / 'w', {'grpo': law(0.3, 0.2), 'dapo': law(0.5, 0.1)})
  plan = json.loads((workdir / 'studies' / 's.json').read_text())
  plan['stages'] = [stage for stage in plan['stages'] if stage['label'].startswith('rl-dapo')]
  (workdir / 'studies' / 'newer.json').write_text(json.dumps(plan))
  os.utime(workdir / 'studies' / 's.json', (1, 1))
  found = reinforcement.curves(workdir)
  assert set(found['run']) == {'dapo'} and len(found) == 2 * 40
  assert not found.duplicated(['run', 'seed', 'step']).any()
  assert found['samples'].max() == 40 * 4 * 8
  assert set(reinforcement.curves(workdir, 's')['run']) == {'dapo', 'grpo'}


def test_runs_of_one_name_from_two_parents_are_two(tmp_path):
  parents = {(500, 1000): 0.2, (500, 4000): 0.1, (900, 1000): 0.3}
  runs = {('dapo', *tokens): law(0.3, beta) for tokens, beta in parents.items()}
  found = reinforcement.curves(_workdir(tmp_path / 'w', runs, updates=120))
  fits = reinforcement.fits(found)
  assert len(fits) == 3
  for (_, _, *tokens), (fitted, _) in fits.items():
    assert fitted.beta == pytest.approx(parents[tuple(tokens)], rel=1e-6)
  said = reinforcement.words(reinforcement.summary(found))
  assert said[0].startswith('dapo, 25k, 1,000 tokens of SFT, 500 tokens of pretraining: gold 0.')
  laws = rl_laws.of_runs(found, reinforcement.RUN)
  assert len(laws) == 3 and len(reinforcement.told(found, laws)) == 3 + 3 + 3 * 2
  (axes,) = reinforcement.draw(found).figure.axes
  assert len({text.get_text() for text in axes.get_legend().get_texts()}) == 3


def test_gaos_fit_is_drawn_and_said(tmp_path):
  falls = {'dapo': law(0.9, 0.2), 'grpo': law(0.1, 0.2), 'rloo': law(-0.5, -0.2)}
  found = reinforcement.curves(_workdir(tmp_path / 'w', falls))
  (axes,) = reinforcement.draw(found).figure.axes
  dotted = [line for line in axes.get_lines() if line.get_linestyle() == ':']
  for line, gold in zip(dotted, falls.values(), strict=True):
    np.testing.assert_allclose(line.get_ydata(), gold(line.get_xdata()) + 0.005, rtol=1e-6)
  assert 'fit of the gold' in axes.get_title(loc='left')
  dapo, grpo, rloo = reinforcement.told(found, {})[3:]
  assert grpo.endswith(f'greatest at d = {np.exp(0.1 / 0.2 - 1):.2f}')
  assert dapo.endswith('no peak up to d = 2.00, the farthest')
  assert rloo.endswith('greatest at d = 0')


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
  with pytest.raises(BadInput, match='study s: no RL stage with a curve'):
    reinforcement.curves(empty)
