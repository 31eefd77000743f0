"""RL runs against the number of their environments, from records that were made up."""

import numpy as np
import pandas as pd
import pytest

from analysis import environments
from analysis.errors import BadInput


def records():
  rows = []

  def add(seed, turns, count, updates, **measured):
    rows.append(
      dict(
        seed=seed, model='75k', sft_tokens=100, rl_turns=turns, rl_environments=count,
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
  assert row['stderr'] == pytest.approx(0.1 / np.sqrt(2) / np.sqrt(2))  # of seeds, the greater
  parent = found[(found['rl_environments'] == 0) & (found['measure'] == 'pass@1')].iloc[0]
  assert parent['stderr'] == pytest.approx(0.03 / np.sqrt(2))  # of problems: seeds agree
  said = environments.words(found)
  assert said[0].startswith('75k, SFT alone: episodes of 2 turns 0.200')
  assert '4,000 environments, 3 turns, 20 updates: ' in said[2]
  drawing = environments.draw(found)
  assert len(drawing.figure.axes) == 3
  lines = drawing.figure.axes[0].get_lines()
  assert any(len(line.get_xdata()) == 2 and list(line.get_xdata()) == [16, 4000] for line in lines)


def test_records_without_the_number_are_one_line(capsys, tmp_path):
  with pytest.raises(BadInput, match='number of environments'):
    environments.table(records().drop(columns='rl_environments'))
  assert environments.main([str(tmp_path)]) == 2
  assert len(capsys.readouterr().err.strip().splitlines()) == 1
