"""Rounds of DPO: what is paired, what is learned, what it costs, and that it resumes bit for bit.

The bank is written by hand, see by_hand.py; the samples that are not right show it.
"""

import json
import math
import shutil

import jax
import numpy as np
import pandas as pd
import pytest

from scaling import bank, compute, sharding, study
from scaling.errors import BadInput
from scaling.stages import dpo, preference
from scaling.stages import stage as stages
from tests import tiny
from tests.stages import by_hand as hand

N, workdir, round_of = hand.N, hand.workdir, hand.round_of


@pytest.fixture(scope='module')
def learned(workdir):
  return hand.written_bank(workdir, 'rl', 16, hand.hasty)


@pytest.fixture(scope='module')
def trained(workdir, learned):
  stage = round_of(workdir, learned.id)
  dpo.run(hand.setting_of(workdir), stage)
  return stage


def curve_of(workdir, stage):
  return pd.read_parquet(stages.folder(workdir, stage.id) / 'metrics.parquet')


def test_a_round_begins_at_log_2_and_learns_its_pairs(workdir, trained):
  curve = curve_of(workdir, trained)
  assert curve['loss'][0] == pytest.approx(math.log(2), abs=1e-6)
  assert curve['margin'][0] == pytest.approx(0, abs=1e-6)
  assert len(curve) == 3 * 16 * 4 / 8
  assert curve['accuracy'].iloc[-3:].mean() > 0.95 and curve['loss'].iloc[-1] < 0.3
  done = stages.done(workdir, trained.id)
  assert done['preferences'] == {
    'feedback': 'verifier', 'pairs': 64, 'steps': 24, 'problems_without_pairs': 0, 'failed': 0,
  }  # fmt: skip
  cell = done['cell']
  assert (cell['rl_algorithm'], cell['rl_updates'], cell['rl_samples']) == ('dpo verifier', 24, 64)


def test_its_cost_is_reference_and_learner_over_both_sequences(workdir, learned, trained):
  table = preference.read_bank(
    workdir, trained.recipe, stages.load_data(workdir, trained.recipe)[1].vocab
  )
  vocab = stages.load_data(workdir, trained.recipe)[1].vocab
  lengths = [len(vocab.prompt(row.prompt)) + len(row.tokens) for row in table.itertuples()]
  # each of the 2 x 2 pairs of a problem three times: each response six times
  tokens, context = compute.causal(np.repeat(lengths, 6))
  cfg = stages.model(trained.recipe)
  done = stages.done(workdir, trained.id)
  by_hand = compute.add(
    compute.train(cfg, tokens, context, 0, 0), compute.score(cfg, tokens, context, 0, 0)
  )['model']
  assert done['ledger']['model'] == pytest.approx(by_hand)
  assert done['ledger']['executed']['reference'] > by_hand['reference']
  before = stages.done(workdir, trained.parent)['path']['rl']['model']
  # the bank's stage says that it drew nothing itself: another had drawn all of it
  assert compute.total(stages.done(workdir, learned.id)['ledger']) == 0
  drawn = bank.cost(workdir, learned.id)['model']
  assert drawn['prefill'] > 0 and drawn['decode'] > 0
  assert done['path']['rl']['model'] == pytest.approx(
    {kind: before[kind] + by_hand[kind] + drawn[kind] for kind in by_hand}
  )


def test_a_second_round_has_the_first_as_its_reference(workdir, learned, trained):
  again = round_of(workdir, learned.id, parent=trained.id, epochs=0.25)
  dpo.run(hand.setting_of(workdir), again)
  assert curve_of(workdir, again)['loss'][0] == pytest.approx(math.log(2), abs=1e-6)
  first, second = (stages.done(workdir, s.id) for s in (trained, again))
  assert second['cell']['rl_updates'] == 24 + 2 and second['cell']['rl_samples'] == 128
  spent = compute.add(first['path']['rl'], second['ledger'])  # the same bank is charged once
  assert second['path']['rl']['model'] == pytest.approx(spent['model'])


@pytest.mark.parametrize('by', ['judge 75k', 'outcome 75k'])
def test_what_made_a_larger_judge_or_reward_model_is_charged_once(tmp_path, monkeypatch, by):
  """The FLOPs of each stage are a power of two, so a sum says which stages are in it."""
  c = tiny.get_config()
  c.model.sizes = ('25k', '75k')
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  c.data.attempts, c.data.reward_problems = 0.5, 12
  c.scorers.objectives, c.scorers.sizes, c.scorers.policies = ('outcome',), ('75k',), ('25k',)
  c.dpo.feedback, c.dpo.sizes, c.dpo.rounds = (by,), ('25k',), 2
  c.dpo.problems, c.dpo.n = 16, 4
  tree = study.expand(c)
  ids = [stage.id for stage in tree]
  setting = stages.Setting(tmp_path, None, None, 0.0, hand.ENVIRONMENT, None)

  def spent(stage_id):
    ledger = compute.empty()
    ledger['model']['forward'] = 2.0 ** ids.index(stage_id)
    return ledger

  def of(path):
    total = int(sum(compute.total(path[kind]) for kind in ('pretrain', 'rl')))
    return [stage for at, stage in enumerate(tree) if total >> at & 1]

  monkeypatch.setattr(bank, 'cost', lambda workdir, stage_id: spent(stage_id))
  for stage in tree:
    hand.begin(tmp_path, stage)
    meta = {'ledger': spent(stage.id), 'seconds': 0.0}
    cell, path = stages.path_of(setting, stage)
    if stage.kind == 'dpo':
      dpo.finish(setting, stage, {}, 1, meta)
    else:
      kind = stage.kind if stage.kind in path else 'sft'
      path[kind] = compute.add(path[kind], meta['ledger'])
      stages.finish(setting, stage, cell | {'seconds': 0.0}, path, meta)
  first, second = (s for s in tree if s.kind == 'dpo')
  others = of(stages.done(tmp_path, first.id)['path'])
  made = {(s.kind, s.recipe['preset']) for s in others}
  drawn = [s.id for s in others if s.kind == 'sample']
  assert made >= {('pretrain', '25k'), ('pretrain', '75k'), ('sft', '75k'), ('dpo', '25k')}
  assert ('sft', '25k') not in made and first.recipe['bank'] in drawn
  assert (('preference', '75k') in made) == (by == 'outcome 75k') == (len(drawn) == 2)
  new = {s.id for s in of(stages.done(tmp_path, second.id)['path'])} - {s.id for s in others}
  fresh = [second.id, second.recipe['bank']]
  if second.recipe['scorer'] is not None:  # it goes on, from samples of its own
    model = next(s for s in tree if s.id == second.recipe['scorer'])
    fresh += [model.id, model.recipe['bank']]
  assert new == set(fresh)


def test_a_round_cut_off_ends_with_the_same_bits(workdir, trained, monkeypatch):
  told = False, False, True, False, True
  hand.same_when_cut_off(dpo.run, workdir, trained, told, monkeypatch)


def test_a_row_holds_a_pair_and_its_marks():
  sequences = [np.array([5, 6, 7, 1], np.int32), np.array([5, 8, 1], np.int32)]
  starts = np.array([1, 1])
  rows = dpo.pair_batch(sequences, starts, np.array([[0, 1], [1, 0]]), 8, False)
  assert rows['tokens'].tolist() == [[5, 6, 7, 1, 5, 8, 1, 0], [5, 8, 1, 5, 6, 7, 1, 0]]
  assert rows['segment_ids'].tolist() == [[1] * 4 + [2] * 3 + [0], [1] * 3 + [2] * 4 + [0]]
  assert rows['marks'].tolist() == [[0, 1, 1, 1, 0, -1, -1, 0], [0, 1, 1, 0, -1, -1, -1, 0]]
  np.testing.assert_allclose(rows['weights'], (rows['marks'] != 0) / 10)
  means = dpo.pair_batch(sequences, starts, np.array([[0, 1], [1, 0]]), 8, True)
  np.testing.assert_allclose(
    means['marks'][0], [0, 1 / 3, 1 / 3, 1 / 3, 0, -1 / 2, -1 / 2, 0], rtol=1e-6
  )
  np.testing.assert_allclose(means['weights'], rows['weights'])


def test_a_row_is_wide_enough_for_the_pairs_of_every_epoch(workdir, learned, monkeypatch):
  """Epoch 0 has pairs of 4 + 4 tokens alone; the one batch reaches into epoch 1, of 20 + 20."""
  sequences = [np.full(n, 5, np.int32) for n in (4, 4, 20, 20)]
  none = np.zeros((0, 2), np.int64), np.zeros(0, object), {}, compute.empty()
  epoch_of = lambda e: np.array([[[0, 1], [2, 3]][e > 0]] * 4)
  source = dpo.Source(sequences, np.full(4, 2), epoch_of, *none)
  monkeypatch.setattr(dpo, 'from_bank', lambda *args: source)
  stage = round_of(workdir, learned.id, epochs=1.0, called='two epochs')
  dpo.run(hand.setting_of(workdir), stage)
  assert curve_of(workdir, stage)['tokens'].tolist() == [4 * 8 + 4 * 40]


def bank_of(*rows):
  names = ('problem', 'answer', 'correct', 'logprobs')
  return pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])


def test_what_each_feedback_says_of_a_bank():
  table = bank_of(
    ('a', '3', True, [-1.0, -0.5]), ('a', '3', True, [-2.0]), ('a', '4', False, [-0.1]),
    ('a', None, False, [-0.01]), ('b', None, False, [-3.0]), ('b', '9', False, [-4.0]),
  )  # fmt: skip
  value = lambda feedback: dpo.values_of(table, feedback)[0].tolist()
  table['reward'] = [1.0, 1.0, 0.0, math.nan, 0.0, 0.0]  # the fourth timed out
  assert value('verifier') == pytest.approx([1, 1, 0, math.nan, 0, 0], nan_ok=True)
  assert value('majority') == [2 / 4, 2 / 4, 1 / 4, 0, 0, 1 / 2]
  assert value('likelihood') == pytest.approx([-1.5, -2, -0.1, -math.inf, -math.inf, -4])


def test_responses_without_a_value_are_left_out_and_counted(workdir, learned, monkeypatch):
  values = np.tile([0.9, math.nan, 0.2, 0.2], 16)
  values[:4] = math.nan
  values[4:8] = 0.5
  monkeypatch.setattr(dpo, 'values_of', lambda *args: (values, compute.empty()))
  stage = round_of(workdir, learned.id, feedback='self', called='self')
  _, data = stages.load_data(workdir, stage.recipe)
  source = dpo.from_bank(hand.setting_of(workdir), stage, data)
  assert source.about == {'problems_without_pairs': 1, 'failed': 4 + 14}
  chosen = source.epoch_of(0)
  assert len(chosen) == 14 * 2 and set(chosen[:, 0] % 4) == {0} and set(chosen[:, 1] % 4) == {2, 3}
  monkeypatch.setattr(dpo, 'values_of', lambda *args: pytest.fail('labelled twice'))
  again = dpo.from_bank(hand.setting_of(workdir), stage, data)
  np.testing.assert_array_equal(again.epoch_of(0), chosen)


def test_its_own_verdicts_cost_a_reading(workdir, learned):
  stage = round_of(workdir, learned.id, feedback='self', called='self', epochs=0.1)
  shutil.rmtree(stages.folder(workdir, stage.id))
  stage = hand.begin(workdir, stage)
  dpo.run(hand.setting_of(workdir), stage)
  ledger = stages.done(workdir, stage.id)['ledger']
  assert 0 < ledger['model']['reward_model'] < ledger['executed']['reward_model']
  labels = json.loads((stages.folder(workdir, stage.id) / 'labels.json').read_text())
  assert len(labels['values']) == 16 * N and all(0 < v < 1 for v in labels['values'])


@pytest.mark.parametrize(
  'changed, message',
  [
    ({'feedback': 'verdict'}, 'feedback is .verdict.: it must be one of verifier'),
    ({'feedback': 'scorer'}, "feedback is 'scorer' and scorer is None"),
    ({'grader': 'sft-1'}, "feedback is 'verifier' and grader is 'sft-1'"),
    ({'bank': None}, "feedback is 'verifier' and bank is None"),
  ],
)
def test_what_cannot_be_a_round(workdir, learned, changed, message):
  with pytest.raises(BadInput, match=message):
    dpo.check(round_of(workdir, **{'bank': learned.id, **changed}).recipe)


def test_a_bank_without_better_and_worse_is_refused_and_in_a_later_round_changes_nothing(
  workdir, trained
):
  same = hand.written_bank(workdir, 'rl', 4, lambda solution: solution, 'all right')
  with pytest.raises(BadInput, match=f'^bank {same.id}: by feedback .verifier. no problem has'):
    dpo.run(hand.setting_of(workdir), round_of(workdir, same.id))
  later = round_of(workdir, same.id, parent=trained.id)
  dpo.run(hand.setting_of(workdir), later)
  done, mesh = stages.done(workdir, later.id), sharding.make_mesh()
  assert done['preferences']['pairs'] == done['preferences']['steps'] == 0
  assert done['preferences']['problems_without_pairs'] == 4
  params = lambda stage: stages.state_of(workdir, stage.id, mesh).params
  jax.tree.map(np.testing.assert_array_equal, params(later), params(trained))
