"""RL runs against the number of their environments, from records that were made up."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import environments
from analysis.errors import BadInput


def records():
  rows = []

  def add(seed, turns, count, updates, **measured):
    rows.append(
      dict(
        seed=seed, model='75k', pretrain_tokens=50, sft_tokens=100, rl_turns=turns,
        rl_environments=count, synthetic='none',
        rl_algorithm=f'dapo(environments={count}, turns={turns})' if updates else 'none',
        rl_updates=updates, metric='accuracy', stderr=0.03,
      ) | measured
    )  # fmt: skip

  for seed in (0, 1):
    for strategy, k in (('oracle', 1), ('oracle', 2), ('episodes(environment=hints)', 2)):
      add(seed, 0, 0, 0, strategy=strategy, k=k, value=0.1 * k)
      for count in (16, 4000):
        for updates in (10, 20):
          value = 0.2 * k + updates / 1000 + 0.1 * seed
          add(seed, 3, count, updates, strategy=strategy, k=k, value=value)
    add(seed, 0, 0, 0, strategy='majority', k=2, value=0.9)
  return pd.DataFrame(rows)


def test_the_last_update_of_each_run_and_its_parent_by_hand(tmp_path):
  found = environments.table(records())
  assert len(found) == 3 * 3 and set(found['rl_updates']) == {0, 20}
  episodes = found[found['measure'] == 'episodes of 2 turns']
  row = episodes[episodes['rl_environments'] == 16].iloc[0]
  assert (row['value'], row['seeds']) == (pytest.approx(0.4 + 0.02 + 0.05), 2)
  seeds = stats.t.ppf(0.975, 1) * 0.1 / 2  # t s / sqrt(S), with s = 0.1 / sqrt(2)
  assert 1.96 * row['stderr'] == pytest.approx(np.hypot(1.96 * 0.03, seeds))
  parent = found[(found['rl_environments'] == 0) & (found['measure'] == 'pass@1')].iloc[0]
  assert parent['stderr'] == pytest.approx(0.03)  # of problems, which seeds share: they agree
  said = environments.words(found)
  assert said[0].startswith('75k, SFT alone: episodes of 2 turns 0.200')
  assert '4,000 environments, 3 turns, 20 updates: ' in said[2]
  drawing = environments.draw(found)
  assert len(drawing.figure.axes) == 3
  lines = drawing.figure.axes[0].get_lines()
  assert any(len(line.get_xdata()) == 2 and list(line.get_xdata()) == [16, 4000] for line in lines)


def test_what_two_studies_share_is_of_as_many_seeds_as_before(tmp_path, capsys):
  both = pd.concat([records().assign(study=name) for name in ('old', 'new')])
  taught = records().query('rl_updates == 0').assign(synthetic='rft', value=0.9)
  again = environments.table(pd.concat([both, taught], ignore_index=True))
  pd.testing.assert_frame_equal(again, environments.table(records()))
  (tmp_path / 'studies').mkdir()
  (tmp_path / 'version.json').write_text('{"format": 1}')
  halves = {'old': records(), 'new': records().query('rl_turns == 0 or rl_environments == 16')}
  for age, (name, part) in enumerate(halves.items()):
    (tmp_path / 'stages' / name).mkdir(parents=True)
    part.to_parquet(tmp_path / 'stages' / name / 'records.parquet')
    plan = tmp_path / 'studies' / f'{name}.json'
    plan.write_text(json.dumps({'stages': [{'id': name}]}))
    os.utime(plan, (age, age))
  assert environments.main([str(tmp_path)]) == 0
  assert '4,000' not in capsys.readouterr().out
  assert environments.main([str(tmp_path), '--study=old']) == 0
  assert '4,000' in capsys.readouterr().out


def test_two_parents_of_a_size_are_two_lines():
  other = records().assign(pretrain_tokens=70)
  other['value'] += 0.1
  found = environments.table(pd.concat([records(), other], ignore_index=True))
  assert len(found) == 2 * 3 * 3 and set(found['seeds']) == {2}
  said = environments.words(found)
  assert said[0].startswith('75k, 50 tokens of pretraining, SFT alone: ')
  drawn = environments.draw(found).figure.axes[0].containers
  assert [list(bars.lines[0].get_xdata()) for bars in drawn] == [[16, 4000]] * 2


def test_records_without_the_number_are_one_line(capsys, tmp_path):
  with pytest.raises(BadInput, match='number of environments'):
    environments.table(records().drop(columns='rl_environments'))
  assert environments.main([str(tmp_path)]) == 2
  assert len(capsys.readouterr().err.strip().splitlines()) == 1
