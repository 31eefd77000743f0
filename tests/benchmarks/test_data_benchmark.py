"""The benchmark of data: what a sweep saves, and a worker's file. Preparing takes a run of it."""

import json
import pathlib

import pytest

from benchmarks import data, data_workers


@pytest.mark.parametrize('decay', [0.0625, 0.2, 0.5, 1.0])
def test_a_sweep_saves_what_its_spacing_and_decay_allow(decay):
  planned, bound = data.sweep(decay)
  assert planned == pytest.approx(bound, rel=0.02, abs=1e-9)
  assert bound == pytest.approx(15 / 31 * (1 - decay))
  closer = data.sweep(decay, budgets=2)[1]  # 1 of 3 units shared, where nothing decays
  assert closer == pytest.approx((1 - decay) / 3)


def test_a_file_is_repeated_with_other_digits(tmp_path):
  rows = [{'question': f'What is {i}?', 'answer': f'{i}\n#### {i}'} for i in range(10, 60)]
  text = tmp_path / 'a.jsonl'
  text.write_text('\n'.join(map(json.dumps, rows)))
  size = data_workers.repeated(str(text), tmp_path / 'b.jsonl', 0.02)
  lines = pathlib.Path(tmp_path / 'b.jsonl').read_text().splitlines()
  assert 20_000 <= size < 20_000 + max(map(len, lines)) + 1
  assert size == sum(len(line) + 1 for line in lines) and len(set(lines)) > 60
  for line in lines:
    assert json.loads(line)['question'].startswith('What is ')
