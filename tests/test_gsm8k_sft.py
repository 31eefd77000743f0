"""The data of experiments/gsm8k_sft.py from the real file, and the message where it is missing."""

import collections
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import gsm8k_sft
from scaling import study
from scaling.data import batches, pools, problem_files, tasks

ROOT = Path(__file__).parents[1]
TRAIN = ROOT / '../shared/data/gsm8k/train.jsonl'


def test_the_argument_is_the_path():
  assert study.data_spec(gsm8k_sft.get_config("a/it's.jsonl")).task == 'jsonl(path="a/it\'s.jsonl")'
  for arg in ('', 'smoke'):
    assert study.data_spec(gsm8k_sft.get_config(arg)).task == "jsonl(path='gsm8k/train.jsonl')"


def test_tokens_stay_within_an_epoch():
  """A mean row has 0.7 of its positions filled, so the tokens of the largest budget are unique."""
  c = gsm8k_sft.get_config()
  assert max(c.sft.tokens) / c.data.row_tokens < 4_000  # rows that the problems fill


def test_a_missing_file_is_one_line_with_the_path_and_where_to_get_it(tmp_path):
  command = ['run.py', '--config=experiments/gsm8k_sft.py:no/such.jsonl', f'--workdir={tmp_path}/w']
  done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert line.startswith('run.py: no/such.jsonl: No such file or directory')
  assert 'https://github.com/openai/grade-school-math' in line


@pytest.mark.skipif(not TRAIN.is_file(), reason='no shared/data/gsm8k beside the project')
def test_pools_of_the_real_file(tmp_path):
  c = gsm8k_sft.get_config(str(TRAIN))
  c.data.sft_problems, c.data.validation_problems, c.data.test_problems = 150, 40, 8
  spec, said = study.data_spec(c), []
  tasks.prepare(spec, tmp_path / 'data', said.append)
  data = batches.load(tmp_path / 'data')

  drafts = list(problem_files.read('jsonl', str(TRAIN), {}, 'full', collections.Counter()))
  every = {draft.problem.id: draft.problem for draft in drafts}
  length = {
    id: len(p.prompt.encode()) + len(p.solution.encode()) + 1 for id, p in every.items()
  }  # fmt: skip
  assert len(every) == 7473 and sum(n > spec.row_tokens for n in length.values()) == 676

  found = {pool: batches.problems(data.folder, pool) for pool in batches.POOLS}
  assert [len(found[pool]) for pool in batches.POOLS] == [150, 0, 40, 8, 0]
  ids = [problem.id for problems in found.values() for problem in problems]
  assert len(set(ids)) == len(ids) == 198
  assert max(length[id] for id in ids) <= spec.row_tokens

  dropped = {pool: data.counts[pool]['dropped'] for pool in batches.POOLS}
  assert 0.03 < sum(dropped.values()) / 198 < 0.2  # 9 % of the file
  assert any(f'left out {sum(dropped.values())} examples' in line for line in said)
  for pool in ('sft', 'validation'):
    rows = batches.packed(data.folder, pool)
    assert int((np.asarray(rows.segment_ids) > 0).sum()) == data.counts[pool]['tokens']
    assert data.counts[pool]['tokens'] == sum(length[problem.id] for problem in found[pool])


@pytest.mark.skipif(not TRAIN.is_file(), reason='no shared/data/gsm8k beside the project')
def test_all_that_fit_are_used_and_the_others_are_counted():
  """With the pool sizes of the experiment, what is left over is what was never reached."""
  spec = study.data_spec(gsm8k_sft.get_config(str(TRAIN)))
  out = pools.drawn()
  drawn, dropped = pools.draw(spec._replace(sft=None), None, out), out.dropped
  assert dropped.total() == 676 and out.found  # problems told in the words of held-out ones
  assert sum(map(len, drawn.values())) == 7473 - 676 - len(out.found)
  assert len(drawn['sft']) >= spec.sft
