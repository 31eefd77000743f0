"""A workdir to learn in, and stages and banks made by hand, for the tests of stages that read them.

Half of each problem's samples are its gold solution, so that a model which has learned nothing yet
has right and wrong samples to be shown.
"""

import json
import shutil

import jax
import numpy as np
import pandas as pd
import pytest

from scaling import bank, compute, processes, sample_step, sharding, study
from scaling.data import batches
from scaling.model.transformer import Mechanics
from scaling.stages import stage as stages
from tests import tiny

N = 4
EPOCHS = {'pairs': 2.0, 'outcome': 4.0, 'process': 10.0}  # of reward models
ENVIRONMENT = {'git_commit': 'none', 'versions': {}, 'device': 'cpu'}


@pytest.fixture(scope='module')
def workdir(tiny_workdir, tmp_path_factory):
  """A copy of the tiny study's, of a module's own."""
  return shutil.copytree(tiny_workdir, tmp_path_factory.mktemp('stages') / 'workdir')


def setting_of(workdir):
  mesh = sharding.make_mesh()
  return stages.Setting(workdir, mesh, Mechanics(), 1e9, ENVIRONMENT, lambda part, words: None)


def branch():
  return [s for s in study.expand(tiny.get_config()) if s.kind == 'sft' and s.recipe['measure']][-1]


def base():
  return next(s for s in study.expand(tiny.get_config()) if s.kind == 'pretrain')


def common():
  keys = ('seed', 'preset', 'model', 'data', 'optimizer')
  return {key: branch().recipe[key] for key in keys}


def begin(workdir, stage):
  folder = stages.folder(workdir, stage.id)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'stage.json').write_text(json.dumps(stage._asdict()))
  return stage


def written_bank(workdir, pool, count, wrong, name='written'):
  """A stage of kind sample whose bank has, of each of a pool's first problems, the gold solution
  and wrong(solution) in turn; a stage that has drawn nothing."""
  recipe = common() | dict(
    pool=pool, problems=count, n=N, temperature=1.0, response_tokens=18, top_k=0, top_p=1.0,
    min_p=0.0, stop=[], block_prompts=1, block_samples=N, block_rows=N, measure=False, name=name,
  )  # fmt: skip
  stage = begin(workdir, stages.make('sample', branch().id, name, recipe))
  folder, data = stages.load_data(workdir, recipe)
  problems = batches.problems(folder, pool)[:count]
  where = bank.folder(workdir, stage.id)
  if where.exists():
    return stage
  bank.prepare(where, bank.identity(stage.parent, recipe))
  cfg = stages.model(recipe)
  for place, problem in enumerate(problems):
    texts = [wrong(problem.solution) if i % 2 else problem.solution for i in range(N)]
    ids = [[*data.vocab.encode(text), data.vocab.stop] for text in texts]
    lengths = np.array([[len(x) for x in ids]], np.int32)
    tokens = np.zeros((1, N, lengths.max()), np.int32)
    for i, x in enumerate(ids):
      tokens[0, i, : len(x)] = x
    none = np.zeros(tokens.shape, np.float32)
    drawn = sample_step.Samples(tokens, none, none, lengths, lengths > 0, np.zeros(1, np.int32))
    table = bank.rows(stage.id, cfg, [problem], data.vocab, drawn, 0, 1.0, (), [place])
    bank.write(where, table, compute.empty()['executed'])
  cell, path = stages.path_of(setting_of(workdir), stage)
  meta = {'ledger': compute.empty(), 'seconds': 0.0}
  stages.finish(setting_of(workdir), stage, cell, path, meta)
  return stage


def off_by_one(solution):
  """Another last digit of the answer alone: the steps stay right."""
  return solution[:-1] + str((int(solution[-1]) + 1) % 10)


def hasty(solution):
  """No steps, and another answer: what is wrong shows."""
  return off_by_one('#' + solution.rpartition('#')[2])


def preferring(workdir, bank_id, objective, labels=None, **changed):
  base = common()
  recipe = base | dict(
    model=base['model'] | {'head': 'scalar'}, objective=objective, bank=bank_id, labels=labels,
    rows=8, epochs=EPOCHS.get(objective), learning_rate=5e-3, warmup=2, held_out=0.25,
  )  # fmt: skip
  return begin(workdir, stages.make('preference', branch().id, objective, recipe | changed))


def round_of(workdir, bank, **changed):
  recipe = common() | dict(
    bank=bank, scorer=None, grader=None, pairs=None, samples=16 * N, feedback='verifier',
    called='verifier', rows=8, epochs=3.0, beta=0.5, length_normalised=False, held_out=0.25,
    pairs_per_problem=4, judge_by='verdict', judge_tokens=8, learning_rate=3e-3, warmup=2,
    most_pairs=64,
  )  # fmt: skip
  recipe |= changed
  stage = stages.make('dpo', changed.pop('parent', branch().id), 'dpo', recipe)
  return begin(workdir, stage)


def same_when_cut_off(run, workdir, stage, told, monkeypatch):
  """A finished stage, run again and told to stop twice on the way, ends with the same bits."""
  folder, mesh = stages.folder(workdir, stage.id), sharding.make_mesh()

  def read():
    state, done = stages.state_of(workdir, stage.id, mesh), stages.done(workdir, stage.id)
    for timed in (done, done['cell']):
      timed.pop('seconds')
    return jax.tree.map(np.asarray, state), pd.read_parquet(folder / 'metrics.parquet'), done

  state, curve, done = read()
  for name in ('checkpoints', 'tensorboard'):
    shutil.rmtree(folder / name)
  (folder / 'done.json').unlink()
  told = iter(told)
  monkeypatch.setattr(processes, 'preempted', lambda: next(told, False))
  for _ in range(2):
    with pytest.raises(processes.Preempted):
      run(setting_of(workdir), stage)
  run(setting_of(workdir), stage)
  state_again, curve_again, done_again = read()
  jax.tree.map(np.testing.assert_array_equal, state, state_again)
  pd.testing.assert_frame_equal(curve, curve_again, check_exact=True)
  assert done == done_again
