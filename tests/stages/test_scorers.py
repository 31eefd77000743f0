"""From a bank to scores of another: roll-outs, a reward model, and what is measured with it.

The bank to learn from is written by hand: see by_hand.py.
"""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis import strategies
from scaling import bank, compute, processes, records, sharding, study
from scaling.data import batches
from scaling.errors import BadInput
from scaling.rewards import audit, reward_model
from scaling.rewards.verifiers import Verdict
from scaling.search import generate
from scaling.stages import preference, rollouts, score
from scaling.stages import stage as stages
from tests import tiny
from tests.stages import by_hand as hand

workdir = hand.workdir


@pytest.fixture(scope='module')
def learned(workdir):
  return hand.written_bank(workdir, 'rl', 24, hand.hasty)


@pytest.fixture(scope='module')
def labels(workdir, learned):
  recipe = hand.common() | dict(
    bank=learned.id, per_problem=2, n=2, temperature=1.0, response_tokens=18, block_prompts=2,
    block_samples=4, block_rows=4,
  )  # fmt: skip
  stage = hand.begin(workdir, stages.make('rollouts', hand.branch().id, 'roll-outs', recipe))
  rollouts.run(hand.setting_of(workdir), stage)
  return stage


@pytest.fixture(scope='module')
def trained(workdir, learned, labels):
  """objective -> its finished stage."""
  found = {}
  for objective in reward_model.OBJECTIVES:
    of = labels.id if objective == 'process' else None
    found[objective] = hand.preferring(workdir, learned.id, objective, of)
    preference.run(hand.setting_of(workdir), found[objective])
  return found


@pytest.mark.parametrize('objective', reward_model.OBJECTIVES)
def test_a_reward_model_learns_what_shows(workdir, trained, objective):
  """Of problems it was not trained on."""
  done = stages.done(workdir, trained[objective].id)
  held_out = done['scorer']['held_out']
  assert held_out['problems'] == 6 and held_out['samples'] == 6 * hand.N
  assert held_out['auc'][0] > 0.95 and held_out['auc_within'][0] > 0.95
  assert held_out['calibration_error'][0] < 0.3
  assert sum(row['count'] for row in done['scorer']['reliability']) == 6 * hand.N
  curve = pd.read_parquet(stages.folder(workdir, trained[objective].id) / 'metrics.parquet')
  rows = {'pairs': 4, 'outcome': 4, 'process': 2}[objective]  # of each problem in an epoch
  assert len(curve) == hand.EPOCHS[objective] * rows * 18 / 8
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


def test_what_has_no_verdict_teaches_nothing(workdir, learned, labels, monkeypatch):
  """Samples that timed out are not learned from; a step whose roll-outs all did has no label, and
  of one where some did, the others count."""
  vocab = stages.load_data(workdir, learned.recipe)[1].vocab
  recipe = hand.preferring(workdir, learned.id, 'process', labels.id).recipe
  read = preference.read_bank
  table = read(workdir, recipe, vocab, columns=[*preference.READ, 'reward'])
  late = table['reward'].where(table['correct'], np.nan)  # all that are wrong
  monkeypatch.setattr(preference, 'read_bank', lambda *a, **k: table.assign(reward=late))
  found, labelled, lost = preference._from_bank(hand.setting_of(workdir), recipe, vocab)
  assert found.correct.all() and lost == len(table) - len(found.correct) == len(table) // 2
  steps = pd.read_parquet(stages.folder(workdir, labels.id) / 'labels.parquet')
  assert sum(map(len, labelled.labels)) == len(steps)

  right, wrong, timeout = Verdict(True, '1'), Verdict(False, '2'), Verdict(False, '3', 'timeout')
  script = itertools.cycle([[right, timeout, wrong, right], [timeout] * 4])
  monkeypatch.setattr(rollouts, 'verify_all', lambda of, said: [next(script) for _ in of])
  stage = hand.begin(workdir, stages.make(
    'rollouts', hand.branch().id, 'late', labels.recipe | {'n': 4, 'per_problem': 1}
  ))  # fmt: skip
  monkeypatch.setattr(rollouts.preference, 'read_bank', lambda *a, **k: table.assign(reward=np.nan))
  monkeypatch.setattr(stages, 'generator', lambda *args: silent())
  rollouts.run(hand.setting_of(workdir), stage)
  made = pd.read_parquet(stages.folder(workdir, stage.id) / 'labels.parquet')
  assert made['value'].tolist() == pytest.approx([2 / 3] * len(made)) and len(made) > 0
  ends = steps.groupby(['problem', 'sample'])['end'].max()
  assert not any(ends.get((row.problem, row.sample)) == row.end for row in made.itertuples())


def silent():
  """A generator whose continuations stop at once."""
  done = generate.Drawn([1], [0.0], True)
  draw = lambda prefixes, n, limit: [[done] * n for _ in prefixes]
  return SimpleNamespace(draw=draw, spent=compute.empty)


def test_roll_outs_go_on_where_they_were_cut_off(workdir, labels, monkeypatch):
  folder = stages.folder(workdir, labels.id)
  whole = pd.read_parquet(folder / 'labels.parquet')
  done = json.loads((folder / 'done.json').read_text())
  again = hand.begin(workdir, stages.make(
    'rollouts', hand.branch().id, 'again', labels.recipe | {'block_rows': 8}
  ))  # fmt: skip
  monkeypatch.setattr(rollouts, 'PART', 16)
  parts, wanted = stages.folder(workdir, again.id) / 'parts', iter([False, True])
  monkeypatch.setattr(processes, 'preempted', lambda: next(wanted, False))
  with pytest.raises(processes.Preempted):
    rollouts.run(hand.setting_of(workdir), again)
  assert len(list(parts.iterdir())) == 2
  before = {path: path.stat().st_mtime_ns for path in parts.iterdir()}
  rollouts.run(hand.setting_of(workdir), again)
  assert before.items() <= {path: path.stat().st_mtime_ns for path in parts.iterdir()}.items()
  found = pd.read_parquet(stages.folder(workdir, again.id) / 'labels.parquet')
  pd.testing.assert_frame_equal(found, whole, check_exact=True)
  ledger = stages.done(workdir, again.id)['ledger']
  assert ledger['model'] == pytest.approx(done['ledger']['model'])


@pytest.mark.parametrize('objective', ['pairs', 'process'])
def test_a_reward_model_cut_off_ends_with_the_same_bits(workdir, trained, objective, monkeypatch):
  told = False, False, True, False, True
  hand.same_when_cut_off(preference.run, workdir, trained[objective], told, monkeypatch)


@pytest.mark.parametrize('objective', ['outcome', 'process'])
def test_scores_of_a_bank_and_what_is_measured_with_them(workdir, trained, objective, monkeypatch):
  other = hand.written_bank(workdir, 'test', 4, hand.off_by_one, 'scored')
  recipe = hand.common() | dict(scorer=trained[objective].id, block_rows=8)
  stage = hand.begin(workdir, stages.make('score', other.id, 'score', recipe))
  told = iter([True])
  monkeypatch.setattr(processes, 'preempted', lambda: next(told, False))
  with pytest.raises(processes.Preempted):
    score.run(hand.setting_of(workdir), stage)
  score.run(hand.setting_of(workdir), stage)
  folder = stages.folder(workdir, stage.id)
  scores = pd.read_parquet(folder / 'scores.parquet')
  table = bank.of_stage(workdir, other.id)
  assert list(zip(scores['problem'], scores['sample'])) == list(
    zip(table['problem'], table['sample'])
  )
  cfg, params, _, calibration, *_ = preference.load_scorer(
    hand.setting_of(workdir), trained[objective].id
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
  judge, spent = preference.step_scorer(hand.setting_of(workdir), trained['process'].id)
  found = judge.score([[5, 6, 7, 8], [5, 6]], [[1, 3], [1]])
  assert [len(steps) for steps in found] == [2, 1]
  assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)  # the same tokens so far
  assert all(0 < p < 1 for steps in found for p in steps)
  assert spent()['executed']['reward_model'] > 0 == spent()['executed']['reward_model']
  cfg = stages.model(trained['process'].recipe)
  assert judge.flops(9, 4) == compute.forward_flops(cfg, 5, 5 + 6 + 7 + 8 + 9, 1)


def test_what_cannot_be_learned_from_is_refused(workdir, learned, labels, trained):
  run = lambda stage: preference.run(hand.setting_of(workdir), stage)
  says = lambda match: pytest.raises(BadInput, match=match)
  all_wrong = [s for s in study.expand(tiny.get_config()) if s.kind == 'sample'][-1]
  table = bank.of_stage(workdir, all_wrong.id)
  assert not table['correct'].any()
  with says('samples are wrong: a reward model learns from both'):
    run(hand.preferring(workdir, all_wrong.id, 'pairs'))
  with says(r'^bank .*: drawn with data.vocab=.arithmetic., and .* has .ascii.'):
    other = hand.common()['data'] | {'vocab': 'ascii'}
    recipe = hand.preferring(workdir, learned.id, 'pairs').recipe
    preference.read_bank(workdir, recipe | {'data': other}, None)
  with says(r'^bank .*: has token \d+, and the model that reads it'):
    recipe = hand.preferring(workdir, learned.id, 'pairs').recipe
    small = recipe | {'model': recipe['model'] | {'vocab_size': 5}}
    preference.read_bank(workdir, small, batches.load(stages.load_data(workdir, recipe)[0]).vocab)
  with says(r'no such stage; a bank is named'):
    run(hand.preferring(workdir, 'sample-none', 'pairs'))
  with says(r'kind rollouts: a reward model reads the bank'):
    run(hand.preferring(workdir, labels.id, 'pairs'))
  with says(r'it must be one of pairs, outcome, process'):
    run(hand.preferring(workdir, learned.id, 'pair'))
  with says(r"'process' needs the id of a stage of kind rollouts"):
    run(hand.preferring(workdir, learned.id, 'process'))
  with says(r'held_out is 1.5'):
    run(hand.preferring(workdir, learned.id, 'pairs', held_out=1.5))
  with says(r"has head 'scalar'"):
    run(hand.preferring(workdir, learned.id, 'pairs', model=hand.common()['model']))
  with says(r'^bank .*: 24 of its problems, as .*learned from: score a bank of another pool$'):
    recipe = hand.common() | dict(scorer=trained['pairs'].id, block_rows=16)
    stage = hand.begin(workdir, stages.make('score', learned.id, 's', recipe))
    score.run(hand.setting_of(workdir), stage)
  with says(r'not a finished reward model$'):
    recipe = hand.common() | dict(scorer=hand.branch().id, block_rows=16)
    stage = hand.begin(workdir, stages.make('score', learned.id, 's', recipe))
    score.run(hand.setting_of(workdir), stage)


def test_problems_without_contrast_are_left_out_and_counted(workdir, learned, monkeypatch):
  vocab = stages.load_data(workdir, learned.recipe)[1].vocab
  recipe = hand.preferring(workdir, learned.id, 'pairs').recipe
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
