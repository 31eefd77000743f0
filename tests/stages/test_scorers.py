"""From a bank to scores of another: roll-outs, a reward model, and what is measured with it.

The bank to learn from is written by hand (half of each problem's samples are its gold solution), so
that a model which has learned nothing yet has right and wrong samples to be shown.
"""

import json
import shutil

import jax
import numpy as np
import pandas as pd
import pytest

from analysis import strategies
from scaling import bank, compute, processes, records, sample_step, sharding, study
from scaling.data import batches
from scaling.errors import BadInput
from scaling.model.transformer import Mechanics
from scaling.rewards import audit, reward_model
from scaling.stages import preference, rollouts, score
from scaling.stages import stage as stages
from tests import tiny

N = 4
EPOCHS = {'pairs': 2.0, 'outcome': 4.0, 'process': 10.0}
ENVIRONMENT = {'git_commit': 'none', 'versions': {}, 'device': 'cpu'}


def setting_of(workdir, seconds=1e9, **axes):
  mesh = sharding.make_mesh(**axes)
  return stages.Setting(workdir, mesh, Mechanics(), seconds, ENVIRONMENT, lambda part, words: None)


def branch():
  return [s for s in study.expand(tiny.get_config()) if s.kind == 'sft' and s.recipe['measure']][-1]


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


@pytest.fixture(scope='module')
def workdir(tiny_workdir, tmp_path_factory):
  copy = tmp_path_factory.mktemp('scorers') / 'workdir'
  shutil.copytree(tiny_workdir, copy)
  return copy


@pytest.fixture(scope='module')
def learned(workdir):
  return written_bank(workdir, 'rl', 24, hasty)


@pytest.fixture(scope='module')
def labels(workdir, learned):
  recipe = common() | dict(
    bank=learned.id, per_problem=2, n=2, temperature=1.0, response_tokens=18, block_prompts=2,
    block_samples=4, block_rows=4,
  )  # fmt: skip
  stage = begin(workdir, stages.make('rollouts', branch().id, 'roll-outs', recipe))
  rollouts.run(setting_of(workdir), stage)
  return stage


def preferring(workdir, bank_id, objective, labels=None, **changed):
  base = common()
  recipe = base | dict(
    model=base['model'] | {'head': 'scalar'}, objective=objective, bank=bank_id, labels=labels,
    rows=8, epochs=EPOCHS.get(objective), learning_rate=5e-3, warmup=2, held_out=0.25,
  )  # fmt: skip
  return begin(workdir, stages.make('preference', branch().id, objective, recipe | changed))


@pytest.fixture(scope='module')
def trained(workdir, learned, labels):
  """objective -> its finished stage."""
  found = {}
  for objective in preference.OBJECTIVES:
    of = labels.id if objective == 'process' else None
    found[objective] = preferring(workdir, learned.id, objective, of)
    preference.run(setting_of(workdir), found[objective])
  return found


@pytest.mark.parametrize('objective', preference.OBJECTIVES)
def test_a_reward_model_learns_what_shows(workdir, trained, objective):
  """Of problems it was not trained on."""
  done = stages.done(workdir, trained[objective].id)
  held_out = done['scorer']['held_out']
  assert held_out['problems'] == 6 and held_out['samples'] == 6 * N
  assert held_out['auc'][0] > 0.95 and held_out['auc_within'][0] > 0.95
  assert held_out['calibration_error'][0] < 0.3
  assert sum(row['count'] for row in done['scorer']['reliability']) == 6 * N
  curve = pd.read_parquet(stages.folder(workdir, trained[objective].id) / 'metrics.parquet')
  rows = {'pairs': 4, 'outcome': 4, 'process': 2}[objective]  # of each problem in an epoch
  assert len(curve) == EPOCHS[objective] * rows * 18 / 8
  if objective != 'process':
    assert curve['loss'][0] == pytest.approx(np.log(2), rel=1e-5)
  assert curve['learning_rate'].iloc[-1] < curve['learning_rate'].max() / 2


def test_the_cost_of_training_is_that_of_its_segments(workdir, learned, trained):
  stage = trained['pairs']
  found = reward_model.examples(
    preference.read_bank(workdir, stage.recipe, stages.load_data(workdir, stage.recipe)[1].vocab),
    stages.load_data(workdir, stage.recipe)[1].vocab,
  )
  aside = reward_model.held_out(found.problems, 0.25, stage.recipe['seed'])
  ledger = stages.done(workdir, stage.id)['ledger']
  lengths = np.array([len(s) for s in found.sequences])
  inside = np.array([p not in aside for p in found.problems])
  # each of the 2 x 2 pairs of a problem twice: each response four times
  tokens, context = compute.causal(np.repeat(lengths[inside], 4))
  cfg = stages.model(stage.recipe)
  by_hand = compute.train(cfg, tokens, context, 0, 0)['model']
  for kind in ('forward', 'backward'):
    assert ledger['model'][kind] == pytest.approx(by_hand[kind])
  scored = sum(reward_model.flops(cfg, int(n)) for n in lengths[~inside])
  assert ledger['model']['reward_model'] == pytest.approx(scored)
  assert ledger['executed']['reward_model'] >= scored


def test_labels_are_shared_by_prefixes_and_end_with_the_verdict(workdir, learned, labels):
  table = bank.of_stage(workdir, learned.id).set_index(['problem', 'sample'])
  found = pd.read_parquet(stages.folder(workdir, labels.id) / 'labels.parquet')
  assert found['value'].isin([0, 0.5, 1]).all()
  assert (found.groupby(['problem', 'sample']).size().groupby('problem').size() == 2).all()
  for (problem, which), group in found.groupby(['problem', 'sample']):
    row = table.loc[(problem, which)]
    assert group['step'].tolist() == list(range(len(group)))
    assert group['end'].iloc[-1] == row.length - 1
    assert group['value'].iloc[-1] == row.correct
    cuts = [row.response[end] for end in group['end'][:-1]]
    assert cuts == [c for c in row.response if c in ';#']
  ledger = stages.done(workdir, labels.id)['ledger']
  assert 0 < ledger['model']['decode'] < ledger['executed']['decode']
  assert ledger['model']['forward'] == 0


def test_roll_outs_go_on_where_they_were_cut_off(workdir, labels, monkeypatch):
  folder = stages.folder(workdir, labels.id)
  whole = pd.read_parquet(folder / 'labels.parquet')
  done = json.loads((folder / 'done.json').read_text())
  again = begin(workdir, stages.make(
    'rollouts', branch().id, 'again', labels.recipe | {'block_rows': 8}
  ))  # fmt: skip
  monkeypatch.setattr(rollouts, 'PART', 16)
  parts, wanted = stages.folder(workdir, again.id) / 'parts', iter([False, True])
  monkeypatch.setattr(processes, 'preempted', lambda: next(wanted, False))
  with pytest.raises(processes.Preempted):
    rollouts.run(setting_of(workdir), again)
  assert len(list(parts.iterdir())) == 2
  before = {path: path.stat().st_mtime_ns for path in parts.iterdir()}
  rollouts.run(setting_of(workdir), again)
  assert before.items() <= {path: path.stat().st_mtime_ns for path in parts.iterdir()}.items()
  found = pd.read_parquet(stages.folder(workdir, again.id) / 'labels.parquet')
  pd.testing.assert_frame_equal(found, whole, check_exact=True)
  ledger = stages.done(workdir, again.id)['ledger']
  assert ledger['model'] == pytest.approx(done['ledger']['model'])


@pytest.mark.parametrize('objective', ['pairs', 'process'])
def test_a_reward_model_cut_off_ends_with_the_same_bits(workdir, trained, objective, monkeypatch):
  stage = trained[objective]
  folder, mesh = stages.folder(workdir, stage.id), sharding.make_mesh()
  read = lambda: (
    jax.tree.map(np.asarray, stages.state_of(workdir, stage.id, mesh)),
    pd.read_parquet(folder / 'metrics.parquet'),
    stages.done(workdir, stage.id) | {'seconds': 0},
  )
  state, curve, done = read()
  for name in ('checkpoints', 'tensorboard'):
    shutil.rmtree(folder / name)
  (folder / 'done.json').unlink()
  wanted = iter([False, False, True, False, True])  # twice
  monkeypatch.setattr(processes, 'preempted', lambda: next(wanted, False))
  for _ in range(2):
    with pytest.raises(processes.Preempted):
      preference.run(setting_of(workdir), stage)
  preference.run(setting_of(workdir), stage)
  state2, curve2, done2 = read()
  jax.tree.map(np.testing.assert_array_equal, state, state2)
  pd.testing.assert_frame_equal(curve, curve2, check_exact=True)
  assert done == done2


def scoring(workdir, trained, objective):
  other = written_bank(workdir, 'test', 4, off_by_one, 'scored')
  recipe = common() | dict(scorer=trained[objective].id, block_rows=16)
  stage = begin(workdir, stages.make('score', other.id, 'score', recipe))
  score.run(setting_of(workdir), stage)
  return other, stage


@pytest.mark.parametrize('objective', ['outcome', 'process'])
def test_scores_of_a_bank_and_what_is_measured_with_them(workdir, trained, objective):
  other, stage = scoring(workdir, trained, objective)
  folder = stages.folder(workdir, stage.id)
  scores = pd.read_parquet(folder / 'scores.parquet')
  table = bank.of_stage(workdir, other.id)
  assert list(zip(scores['problem'], scores['sample'])) == list(
    zip(table['problem'], table['sample'])
  )
  cfg, params, _, calibration, *_ = preference.load_scorer(
    setting_of(workdir), trained[objective].id
  )
  _, data = stages.load_data(workdir, stage.recipe)
  row = table.iloc[3]
  sequence = [*data.vocab.prompt(row.prompt), *row.tokens]
  value, _ = reward_model.values(
    cfg, params, [sequence], [[len(sequence) - 1]], sharding.make_mesh()
  )
  assert scores['score'][3] == pytest.approx(float(calibration(value[0][0])), rel=1e-4)
  names = {'best_of_outcome', 'weighted_outcome'}
  if objective == 'process':
    names = {f'{way}prm_{how}' for way in ('', 'weighted_') for how in strategies.AGGREGATES}
    for steps, text, final in zip(scores['steps'], table['response'], scores['score']):
      assert len(steps) == sum(c in ';#' for c in text) + 1 and steps[-1] == final
  rows = pd.read_parquet(folder / 'records.parquet')
  assert list(rows.columns) == list(records.COLUMNS)
  accuracy = rows[rows['metric'] == 'accuracy']
  assert set(accuracy['strategy']) == names and set(accuracy['k']) == {1}
  np.testing.assert_allclose(accuracy['value'], 0.5)  # at k = 1 nothing is chosen
  assert set(rows['scorer']) == {stage.recipe['scorer']} and set(rows['bank']) == {other.id}
  quality = rows[rows['metric'] != 'accuracy'].set_index('metric')['value']
  audited = {'false_positive', 'false_negative', 'precision', 'best_of_ceiling'}
  learned = {'auc', 'auc_within', 'verdict_accuracy', 'calibration_error'}
  assert set(quality.index) == learned | audited
  said = audit.thresholded(table['correct'], scores['score'], table['problem'])
  assert quality['false_positive'] == said[~table['correct']].mean()
  assert quality['false_negative'] == 1 - said[table['correct']].mean()
  assert quality['auc'] == pytest.approx(reward_model.auc(scores['score'], table['correct']))
  # a query reads its prompt once and each of its responses once
  prompts = scores.groupby('problem')['prompt_flops'].first()
  query = prompts.mean() + scores['flops'].mean()
  assert accuracy['query_scorer_flops'].iloc[0] == pytest.approx(query)
  ledger = stages.done(workdir, stage.id)['ledger']
  spent = ledger['model']['reward_model']
  assert spent == pytest.approx(prompts.sum() + scores['flops'].sum())
  assert ledger['executed']['reward_model'] > spent


def test_a_scorer_of_steps_for_searches(workdir, trained):
  judge, spent = preference.step_scorer(setting_of(workdir), trained['process'].id)
  found = judge.score([[5, 6, 7, 8], [5, 6]], [[1, 3], [1]])
  assert [len(steps) for steps in found] == [2, 1]
  assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)  # the same tokens so far
  assert all(0 < p < 1 for steps in found for p in steps)
  assert spent()['executed']['reward_model'] > 0 == spent()['executed']['reward_model']
  cfg = stages.model(trained['process'].recipe)
  assert judge.flops(9, 4) == compute.forward_flops(cfg, 5, 5 + 6 + 7 + 8 + 9, 1)


def test_what_cannot_be_learned_from_is_refused(workdir, learned, labels, trained):
  run = lambda stage: preference.run(setting_of(workdir), stage)
  says = lambda match: pytest.raises(BadInput, match=match)
  all_wrong = [s for s in study.expand(tiny.get_config()) if s.kind == 'sample'][-1]
  table = bank.of_stage(workdir, all_wrong.id)
  assert not table['correct'].any()
  with says('samples are wrong: a reward model learns from both'):
    run(preferring(workdir, all_wrong.id, 'pairs'))
  with says(r'^bank .*: drawn with data.vocab=.arithmetic., and .* has .ascii.'):
    other = common()['data'] | {'vocab': 'ascii'}
    recipe = preferring(workdir, learned.id, 'pairs').recipe
    preference.read_bank(workdir, recipe | {'data': other}, None)
  with says(r'^bank .*: has token \d+, and the model that reads it'):
    recipe = preferring(workdir, learned.id, 'pairs').recipe
    small = recipe | {'model': recipe['model'] | {'vocab_size': 5}}
    preference.read_bank(workdir, small, batches.load(stages.load_data(workdir, recipe)[0]).vocab)
  with says(r'no such stage; a bank is named'):
    run(preferring(workdir, 'sample-none', 'pairs'))
  with says(r'kind rollouts: a reward model reads the bank'):
    run(preferring(workdir, labels.id, 'pairs'))
  with says(r'it must be one of pairs, outcome, process'):
    run(preferring(workdir, learned.id, 'pair'))
  with says(r"'process' needs the id of a stage of kind rollouts"):
    run(preferring(workdir, learned.id, 'process'))
  with says(r'held_out is 1.5'):
    run(preferring(workdir, learned.id, 'pairs', held_out=1.5))
  with says(r"has head 'scalar'"):
    run(preferring(workdir, learned.id, 'pairs', model=common()['model']))
  with says(r'^bank .*: 24 of its problems, as .*learned from: score a bank of another pool$'):
    recipe = common() | dict(scorer=trained['pairs'].id, block_rows=16)
    score.run(setting_of(workdir), begin(workdir, stages.make('score', learned.id, 's', recipe)))
  with says(r'not a finished reward model$'):
    recipe = common() | dict(scorer=branch().id, block_rows=16)
    score.run(setting_of(workdir), begin(workdir, stages.make('score', learned.id, 's', recipe)))


def test_problems_without_contrast_are_left_out_and_counted(workdir, learned, monkeypatch):
  vocab = stages.load_data(workdir, learned.recipe)[1].vocab
  recipe = preferring(workdir, learned.id, 'pairs').recipe
  table = preference.read_bank(workdir, recipe, vocab)
  aside = reward_model.held_out(table['problem'], 0.25, recipe['seed'])
  trained = [p for p in table['problem'].unique() if p not in aside]
  table.loc[table['problem'].isin(trained[:3]), 'correct'] = False
  found = reward_model.examples(table, vocab)
  _, epoch_of, _, without, _ = preference.prepare(recipe, found, None)
  assert without == 3 and len(epoch_of(0)) == 15 * 4
  assert not {found.problems[i] for i in epoch_of(0).ravel()} & (aside | set(trained[:3]))
  right = table['problem'].isin(trained[:9])
  table.loc[~table['problem'].isin(aside), 'correct'] = right
  with pytest.raises(BadInput, match='no problem has both a right and a wrong sample'):
    preference.prepare(recipe, reward_model.examples(table, vocab), None)
