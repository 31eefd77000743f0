"""The held-out loss, what a branch records, and a loss that is not finite."""

import functools
import shutil

import jax
import numpy as np
import optax
import pandas as pd
import pytest

from scaling import compute, files, records, sharding, study
from scaling.data import batches
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.stages import stage as stages
from scaling.stages import supervised
from tests import tiny


def _branches():
  return [s for s in study.expand(tiny.get_config()) if s.kind == 'sft' and s.recipe['measure']]


def test_held_out_loss_is_the_mean_over_response_tokens(tiny_workdir):
  """Against one segment at a time, unpacked, through optax."""
  stage = _branches()[-1]
  cfg = stages.model(stage.recipe)
  mesh = sharding.make_mesh()
  params = stages.state_of(tiny_workdir, stage.id, mesh).params
  folder, data = stages.load_data(tiny_workdir, stage.recipe)
  total, count, by_problem = 0.0, 0, batches.problems(folder, 'validation')
  read = jax.jit(functools.partial(transformer.apply, cfg))
  for problem in by_problem:
    prompt = data.vocab.encode(problem.prompt)
    ids = prompt + data.vocab.encode(problem.solution) + [1]
    tokens = np.array([ids + [0] * (32 - len(ids))])  # what comes after has no part in it
    logits, _ = read(params, tokens, np.arange(32)[None])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits[0, :-1], tokens[0, 1:])
    total += float(losses[len(prompt) - 1 : len(ids) - 1].sum())
    count += len(ids) - len(prompt)
  record = pd.read_parquet(stages.folder(tiny_workdir, stage.id) / 'records.parquet').iloc[0]
  assert record['metric'] == 'loss' and record['problems'] == len(by_problem)
  assert record['value'] == pytest.approx(total / count, rel=1e-5)
  assert 0 < record['stderr'] < 0.2


def test_a_branch_counts_its_whole_path_and_only_real_tokens(tiny_workdir):
  stage = _branches()[-1]
  done = stages.done(tiny_workdir, stage.id)
  folder, data = stages.load_data(tiny_workdir, stage.recipe)
  counts = data.counts['sft']
  steps, rows = stage.recipe['stop'], stage.recipe['rows']
  assert done['cell']['sft_tokens'] == round(steps * rows * counts['tokens'] / counts['rows'])
  assert done['cell']['sft_unique_tokens'] <= done['cell']['sft_tokens']
  cfg = stages.model(stage.recipe)
  context, tokens, packed = 0, 0, batches.packed(folder, 'sft')
  for step in range(steps):
    for row in packed.segment_ids[batches.picked(counts['rows'], 0, step, rows)]:
      lengths = np.bincount(row[row > 0])
      t, c = compute.causal(lengths)
      tokens, context = tokens + t, context + c
  by_hand = compute.train(cfg, tokens, context, steps * rows, 32)
  assert compute.total(done['path']['sft']) == pytest.approx(compute.total(by_hand))
  assert compute.total(done['path']['sft'], 'executed') == pytest.approx(
    compute.total(by_hand, 'executed')
  )


def _alone(workdir, branch, **changed):
  """The run that a branch stands for, from its first step in one piece, run in a workdir."""
  recipe = branch.recipe | {'start': 0, 'trunk': ''} | changed
  base = next(s for s in study.expand(tiny.get_config()) if s.kind == 'pretrain')
  stage = stages.make('sft', base.id, 'sft', recipe)
  stages.folder(workdir, stage.id).mkdir()
  files.write_json(stages.folder(workdir, stage.id) / 'stage.json', stage._asdict())
  mesh = sharding.make_mesh()
  how = transformer.Mechanics(**tiny.get_config().mechanics)
  setting = stages.Setting(
    workdir, mesh, how, 1e9, records.environment(mesh), lambda part, words: None
  )
  supervised.run(setting, stage)
  return stage


def test_a_branch_is_to_the_bit_the_run_of_its_own_that_it_stands_for(tiny_workdir, tmp_path):
  """Warm-up, constant part and decay in one piece; against a trunk in parts, and its branch."""
  workdir = shutil.copytree(tiny_workdir, tmp_path / 'w')
  branch = _branches()[-1]
  assert branch.recipe['start'] > 0 and branch.recipe['trunk']
  alone, mesh = _alone(workdir, branch), sharding.make_mesh()
  of = lambda s: stages.state_of(workdir, s.id, mesh)
  assert jax.tree.all(jax.tree.map(np.array_equal, of(branch), of(alone)))
  record = lambda s: pd.read_parquet(stages.folder(workdir, s.id) / 'records.parquet').iloc[0]
  same = ['value', 'sft_tokens', 'sft_flops', 'executed_flops']
  pd.testing.assert_series_equal(record(branch)[same], record(alone)[same], check_names=False)


def test_a_budget_of_unique_tokens_is_walked_again_and_again(tiny_workdir, tmp_path):
  workdir = shutil.copytree(tiny_workdir, tmp_path / 'w')
  stage = _alone(workdir, _branches()[0], decay=4, unique=16)
  folder, _ = stages.load_data(workdir, stage.recipe)
  rows = batches.subset(len(batches.tally(folder, 'sft')), 16)
  tokens = batches.tally(folder, 'sft')[rows, 0].sum()
  curve = pd.read_parquet(stages.folder(workdir, stage.id) / 'metrics.parquet')
  for epoch in (curve['tokens'][:2], curve['tokens'][2:]):
    assert epoch.sum() == tokens  # each row once
  record = pd.read_parquet(stages.folder(workdir, stage.id) / 'records.parquet').iloc[0]
  assert record['sft_tokens'] == 2 * tokens
  assert record['sft_unique_tokens'] == record['sft_pool_tokens'] == tokens


def test_more_unique_tokens_than_the_pool_has(tiny_workdir, tmp_path):
  c = tiny.get_config()
  c.sft.unique_tokens = (512, 320_000)
  workdir = shutil.copytree(tiny_workdir, tmp_path / 'w')
  before = set((workdir / 'stages').iterdir())
  with pytest.raises(BadInput, match=r'unique_tokens has 320,000, 10,000 rows .* at most 1'):
    study.run(c, workdir)
  assert set((workdir / 'stages').iterdir()) == before  # before anything is trained


def test_microbatches_and_meshes_do_not_change_the_result(tmp_path, tiny_workdir):
  """SFT against one device; banks are drawn to their end on two (draws may part at ties)."""
  c = tiny.get_config()
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  c.mechanics.microbatches, c.mesh.data = 2, 2
  study.run(c, tmp_path / 'w')
  assert all(stages.done(tmp_path / 'w', s.id)['outcome'] == 'ok' for s in study.expand(c))
  stage = _branches()[-1]
  mesh = sharding.make_mesh()
  one, two = (stages.state_of(w, stage.id, mesh).params for w in (tiny_workdir, tmp_path / 'w'))
  far = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()), one, two)
  assert max(jax.tree.leaves(far)) < 2e-2  # Adam turns noise in tiny gradients into whole steps
  losses = [
    pd.read_parquet(stages.folder(w, stage.id) / 'records.parquet')['value'][0]
    for w in (tiny_workdir, tmp_path / 'w')
  ]
  assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_rows_or_parameters_that_do_not_split_over_the_mesh_are_refused_before_training(tmp_path):
  c = tiny.get_config()
  c.mesh.data = 8
  with pytest.raises(BadInput, match=r'rl\.prompts is 4'):
    study.run(c, tmp_path / 'w')
  c = tiny.get_config()
  c.mesh.tensor = 8
  with pytest.raises(BadInput, match=r'does not divide .* choose a tensor size'):
    study.run(c, tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_a_loss_that_is_not_finite_stops_its_branch_and_no_other(tmp_path):
  c = tiny.get_config()
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  c.sft.learning_rate = 1e30
  c.checkpoint_seconds = 1e-9
  workdir = study.run(c, tmp_path / 'w')
  outcomes = {s.id: stages.done(workdir, s.id)['outcome'] for s in study.expand(c)}
  by_kind = {s.kind: outcomes[s.id] for s in study.expand(c)}
  assert by_kind['pretrain'] == 'ok' and by_kind['sample'] == 'parent failed'
  failed = next(s for s in study.expand(c) if outcomes[s.id] == 'non-finite')
  state, _ = stages.restore(workdir, failed.id, failed.recipe, sharding.make_mesh())
  assert 0 < int(state.step) < failed.recipe['stop']
  assert not (stages.folder(workdir, failed.id) / 'records.parquet').exists()


@pytest.mark.parametrize('name', ['loss', 'grad_norm'])
def test_a_row_of_a_curve_is_plain_numbers_or_not_finite(name):
  metrics = {'step': np.float32(3), 'loss': np.float32(0.5), 'grad_norm': np.float32(2)}
  row = stages.measured(metrics, compute.empty())
  assert row == {'step': 3, 'loss': 0.5, 'grad_norm': 2.0} and type(row['step']) is int
  with pytest.raises(stages.NonFinite, match=r'step 3: loss .*nan') as error:
    stages.measured(metrics | {name: np.float32('nan')}, {'spent': 1})
  assert error.value.ledger == {'spent': 1}


@pytest.mark.parametrize('asked, unrolled', [(0, 2), (1, 1)])
def test_all_layers_are_unrolled_on_a_cpu_unless_the_config_says_otherwise(asked, unrolled):
  how = transformer.Mechanics(unroll=asked)
  assert stages.mechanics(how, _branches()[0].recipe, sharding.make_mesh()).unroll == unrolled
