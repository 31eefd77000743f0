"""What an RL update puts before the learner, and what a run of it records."""

import json
import shutil
import types

import jax
import numpy as np
import pandas as pd
import pytest

from scaling import compute, processes, rollouts, sharding, study
from scaling.data import batches
from scaling.data.vocab import VOCABS
from scaling.errors import BadInput
from scaling.model.transformer import Mechanics
from scaling.rewards import feedback
from scaling.sample_step import Samples
from scaling.stages import carried, rl
from scaling.stages import stage as stages
from tests import tiny
from tests.stages import by_hand as hand


def _of_kind_in(config, kind):
  return [s for s in study.expand(config) if s.kind == kind]


def _of_kind(kind):
  return _of_kind_in(tiny.get_config(), kind)


def test_assemble_puts_each_response_behind_its_own_prompt():
  prompts = np.array([[5, 6, 0], [7, 8, 9]])
  tokens = np.array([[[10, 1], [11, 12]], [[13, 1], [1, 0]]])
  drawn = Samples(
    tokens=tokens,
    logprobs=tokens * 0.0,
    sampler_logprobs=-tokens / 10,
    lengths=np.array([[2, 2], [2, 1]]),
    stopped=np.array([[True, False], [True, True]]),
    steps=None,
  )
  got = rollouts.assemble(prompts, np.array([2, 3]), drawn)
  expected = [[5, 6, 10, 1, 0], [5, 6, 11, 12, 0], [7, 8, 9, 13, 1], [7, 8, 9, 1, 0]]
  np.testing.assert_array_equal(got['tokens'], expected)
  mask = [[0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 0]]
  np.testing.assert_array_equal(got['mask'], mask)
  np.testing.assert_array_equal(got['segment_ids'], np.array(expected) > 0)


def test_the_ratio_is_one_at_the_first_step_and_sampler_and_learner_agree(tiny_workdir):
  for stage in _of_kind('rl'):
    curve = pd.read_parquet(stages.folder(tiny_workdir, stage.id) / 'metrics.parquet')
    assert list(curve['step']) == list(range(stage.recipe['start'], stage.recipe['stop']))
    assert (curve['first_ratio_error'] <= 1e-5).all()
    assert (curve['sampler_mismatch'] <= 1e-4).all()
    assert curve['zero_variance'].between(0, 1).all() and curve['reward'].between(0, 1).all()


def test_costs_and_samples_add_up_along_the_chain(tiny_workdir):
  first, second = _of_kind('rl')
  a, b = stages.done(tiny_workdir, first.id), stages.done(tiny_workdir, second.id)
  sft = stages.done(tiny_workdir, first.parent)
  assert sft['path']['rl']['model']['decode'] == 0 and sft['cell'].get('rl_updates') is None
  for kind in ('prefill', 'decode', 'reference', 'forward', 'backward'):
    own = a['ledger']['model'][kind] + b['ledger']['model'][kind]
    assert own > 0 and b['path']['rl']['model'][kind] == pytest.approx(own)
  assert (a['cell']['rl_updates'], b['cell']['rl_updates']) == (2, 3)
  assert (a['cell']['rl_samples'], b['cell']['rl_samples']) == (2 * 16, 3 * 16)
  assert (b['cell']['rl_environments'], b['cell']['rl_turns']) == (64, 1)
  assert b['path']['sft'] == sft['path']['sft']


def test_what_trained_a_teacher_is_charged_once_a_run(tiny_workdir):
  """Of no updates, so what a stage adds is the SFT of the teacher, a branch beside the policy's."""
  policy, own = _of_kind('rl')[-1], _of_kind('rl')[0].parent
  other = next(s for s in _of_kind('sft') if s.recipe['measure'] and s.id != own)
  setting = hand.setting_of(tiny_workdir)
  taught = policy.recipe | {'start': 3, 'stop': 3, 'teacher': '25k', 'teaching': other.id}
  first = hand.begin(tiny_workdir, stages.make('rl', policy.id, '', taught))
  second = hand.begin(tiny_workdir, stages.make('rl', first.id, '', taught))
  rl.run(setting, first)
  shutil.copytree(  # where a stage that took no update would have left its own
    stages.folder(tiny_workdir, policy.id) / 'checkpoints',
    stages.folder(tiny_workdir, first.id) / 'checkpoints',
    dirs_exist_ok=True,
  )
  shutil.copytree(
    stages.folder(tiny_workdir, policy.id) / 'side', stages.folder(tiny_workdir, first.id) / 'side'
  )
  rl.run(setting, second)
  before, once, again = (stages.done(tiny_workdir, s.id)['path'] for s in (policy, first, second))
  spent = stages.done(tiny_workdir, other.id)['ledger']
  assert compute.total(spent) > 0
  assert once['rl'] == compute.add(before['rl'], spent) and once['sft'] == before['sft']
  assert once['pretrain'] == before['pretrain'] and again == once
  for stage in (first, second):  # no part of the study that other tests read
    shutil.rmtree(stages.folder(tiny_workdir, stage.id))


def test_a_kl_penalty_is_taken_to_the_sft_parent(tmp_path, tiny_workdir):
  """At the first step the policy is its own reference: k3 is 0 there, and positive afterwards."""
  c = tiny.get_config()
  c.rl.kl_coef, c.rl.updates, c.rl.minibatches = 0.1, (3,), 1
  c.rl.learning_rate = 0.01
  study.run(c, tiny_workdir)  # shares the stages before RL with the tiny study
  stage = next(s for s in study.expand(c) if s.kind == 'rl')
  curve = pd.read_parquet(stages.folder(tiny_workdir, stage.id) / 'metrics.parquet')
  assert abs(curve['kl'][0]) < 1e-6
  plain = next(s for s in _of_kind('rl'))
  done = [
    json.loads((stages.folder(tiny_workdir, s.id) / 'done.json').read_text())
    for s in (stage, plain)
  ]
  scored = [d['ledger']['model']['reference'] / d['ledger']['model']['forward'] for d in done]
  assert scored == pytest.approx([2.0, 1.0])  # a pass for the old log-probs, one for the reference


def test_an_update_that_breaks_the_policy_is_recorded_as_such(tmp_path):
  c = tiny.get_config()
  c.rl.learning_rate = 1e30
  workdir = study.run(c, tmp_path / 'w')
  first, second = _of_kind_in(c, 'rl')
  done = stages.done(workdir, first.id)
  assert done['outcome'] == 'non-finite' and done['ledger']['model']['decode'] > 0
  assert stages.done(workdir, second.id)['outcome'] == 'parent failed'
  banks = {s.parent: stages.done(workdir, s.id)['outcome'] for s in _of_kind_in(c, 'sample')}
  assert banks[first.id] == banks[second.id] == 'parent failed'
  assert banks[first.parent] == 'ok'


def test_a_response_that_is_cut_off_earns_nothing():
  problem = batches.Problem('p', 'jsonl', 'q', '#12', '12', {})
  stopped = np.array([[True, False]])
  gold, there = feedback.gold_of([problem], [['#12', '#12']], stopped)
  np.testing.assert_array_equal(gold, [[1, 0]])
  assert there.all()


def test_rewards_of_a_model_are_checked_and_its_silence_is_counted():
  problem = batches.Problem('p', 'jsonl', 'q', '#12', '12', {})
  stopped, texts = np.ones((1, 2), bool), [['#12', '#1']]
  says = lambda values: lambda *_: (np.array([values]), compute.empty())
  got = feedback.by_model(says([0.7, np.nan]), 'judge 25k')(
    0, [problem], texts, None, None, stopped
  )
  np.testing.assert_array_equal(got.rewards, [[0.7, 0.0]])
  np.testing.assert_array_equal(got.gold, [[1, 0]])
  assert got.no_verdict == 1
  for wrong in (np.inf, 1.5, -0.1):
    with pytest.raises(BadInput, match=r"reward='judge 25k'.*response 1 to prompt 0"):
      feedback.by_model(says([0.7, wrong]), 'judge 25k')(0, [problem], texts, None, None, stopped)


def test_mistakes_are_put_into_verdicts_at_their_rates():
  problems = [batches.Problem(f'p{i}', 'jsonl', 'q', '#12', '12', {}) for i in range(50)]
  texts, stopped = [['#12', '#1'] * 4] * 50, np.ones((50, 8), bool)
  got = feedback.by_verifier(0, 0.25, 0.1)(3, problems, texts, None, None, stopped)
  accepted = got.rewards[got.gold == 0].mean()
  refused = 1 - got.rewards[got.gold == 1].mean()
  assert accepted == pytest.approx(0.25, abs=0.1) and refused == pytest.approx(0.1, abs=0.07)


ALL = dict(  # of config.rl: all that a run carries from update to update
  algorithm='ppo',
  zero_variance='resample',
  staleness=1,
  importance_cap=2.0,
  epochs=2,
  minibatches=2,
  curriculum='pass_rate',
  kl_coef=0.05,
  kl_in='reward',
  kl_target=0.02,
  overlong_cache=4,
  entropy_coef=0.01,
  turns=2,
  response_tokens=10,
)


def _end_of_rl(workdir, config):
  """(parameters and optimiser, curve) that the last RL stage left."""
  stage = _of_kind_in(config, 'rl')[-1]
  state = stages.state_of(workdir, stage.id, sharding.make_mesh())
  curves = [
    pd.read_parquet(stages.folder(workdir, s.id) / 'metrics.parquet')
    for s in _of_kind_in(config, 'rl')
  ]
  return jax.tree.leaves(state), pd.concat(curves, ignore_index=True)


def test_a_run_with_all_that_is_in_flight_is_the_same_however_it_is_cut(tmp_path, monkeypatch):
  """In one go; in two stages; told to stop after every update, and begun again."""
  ends = []
  for name, updates, cut in (
    ('whole', (4,), False),
    ('staged', (2, 4), False),
    ('cut', (4,), True),
  ):
    c = tiny.get_config()
    c.sft.tokens = c.rl.sft_tokens = (1024,)
    c.rl.update(ALL | {'updates': updates})
    c.sample.n = c.sample.block_samples = 4
    workdir = tmp_path / name
    if name != 'whole':  # the stages before RL are the same
      shutil.copytree(tmp_path / 'before', workdir)
    else:
      before = tiny.get_config()
      before.sft.tokens, before.rl.updates, before.rl.sft_tokens = (1024,), (), ()
      before.sample.n = before.sample.block_samples = 4
      study.run(before, tmp_path / 'before')
      shutil.copytree(tmp_path / 'before', workdir)
    with monkeypatch.context() as patch:
      if cut:  # the stage is told to stop after each of its updates
        told = types.SimpleNamespace(**vars(processes) | {'preempted': lambda: True})
        patch.setattr(rl, 'processes', told)
      stops = 0
      while True:
        try:
          study.run(c, workdir)
          break
        except processes.Preempted:
          stops += 1
      assert stops == 4 * cut
    ends.append(_end_of_rl(workdir, c))
  (leaves, curve), *others = ends
  assert (curve['staleness'] == [0, 1, 1, 1]).all()
  assert (curve['kl_coef'] != curve['kl_coef'][0]).any()
  assert np.isfinite(curve['value_loss']).all() and (curve['prompts_drawn'] >= 4).all()
  assert curve['turns'].between(1.05, 2).all() and curve['sampler_mismatch'][0] <= 1e-4
  for other, its_curve in others:
    for a, b in zip(leaves, other, strict=True):
      np.testing.assert_array_equal(a, b)
    pd.testing.assert_frame_equal(curve, its_curve)


def test_runs_of_several_algorithms_are_stages_of_their_own():
  c = tiny.get_config()
  c.rl.runs = ('grpo', 'dapo(overlong_cache=2)', 'rloo(group=2)')
  found = _of_kind_in(c, 'rl')
  assert [s.recipe['called'] for s in found] == [text for text in c.rl.runs for _ in range(2)]
  dapo, rloo = found[2].recipe, found[4].recipe
  assert dapo['clip_high'] == 0.28 and dapo['overlong_cache'] == 2 and dapo['average'] == 'prompts'
  assert rloo['advantage'] == 'leave_one_out' and rloo['group'] == 2
  first = found[0].recipe  # what the others set is not its own
  assert first['zero_variance'] == 'keep' and first['group'] == 4 and first['algorithm'] == 'grpo'


def test_searches_of_several_turns_stand_behind_sft_and_on_demand_behind_rl():
  c = tiny.get_config()
  c.rl.runs = ('grpo', 'grpo(turns=2, response_tokens=10, environments=8)')
  single, turns = _of_kind_in(c, 'rl')[0].recipe, _of_kind_in(c, 'rl')[2].recipe
  assert single['turns'] == 1
  assert (turns['turns'], turns['environment'], turns['environments']) == (2, 'hints', 8)
  c.search.strategies, c.search.policies, c.search.budgets = ('episodes',), ('25k',), (1, 2)
  assert len(_of_kind_in(c, 'search')) == 1
  c.search.after_rl = True
  after = _of_kind_in(c, 'search')
  cells = [s.id for s in _of_kind_in(c, 'rl')]
  assert [s.parent for s in after[1:]] == cells and after[0].parent not in cells


def test_episodes_that_do_not_fit_in_a_row_are_refused():
  c = tiny.get_config()
  c.rl.runs = ('grpo(turns=2)',)
  recipe = _of_kind_in(c, 'rl')[0].recipe
  vocab = VOCABS['arithmetic']
  data = types.SimpleNamespace(vocab=vocab, spec=recipe['data'], max_prompt_tokens=9)
  with pytest.raises(BadInput, match=r'prompt of 9 tokens and 2 turns of up to 18 take 47.* is 32'):
    rl.check_room(recipe, data)
  rl.check_room(recipe | {'response_tokens': 10}, data)


def _tools_and_rollouts(recipe, train, **changed):
  """Tools that score 0 everywhere and learn by `train`, and Rollouts of responses of a token."""
  P, G, R = recipe['prompts'], recipe['group'], recipe['response_tokens']
  zeros = dict.fromkeys(rl.Tools._fields)
  tools = rl.Tools(**zeros)._replace(
    recipe=recipe, cfg=stages.model(recipe), how=Mechanics(), mesh=sharding.make_mesh(),
    vocab=VOCABS['arithmetic'], prompt_tokens=8, shared=True, train=train,
    problems=[batches.Problem(f'p{i}', 'jsonl', f'{i}+1=', '', '1', {}) for i in range(P)],
    score=lambda params, batch, temperature: np.zeros(batch['tokens'].shape, np.float32),
  )._replace(**changed)  # fmt: skip
  own = np.arange(R) < np.ones((P, G, 1))
  taken = rollouts.Rollouts(
    np.arange(P), own * 1, own.sum(axis=2), own[..., 0], own, own * 0.0,
    np.eye(P, G), np.eye(P, G), np.int64(0), np.array([P, 0, 0, 0.25, 0.25]),
  )  # fmt: skip
  return tools, taken, carried.Side([], 1, np.full(P, np.nan), 0.0, None)


def test_rows_split_over_the_sequence_axis_whatever_the_response_s_width():
  recipe, seen = _of_kind('rl')[0].recipe | {'response_tokens': 17}, []

  def train(state, batch, rate, temperature):
    seen.append(batch['tokens'])
    return state, {'loss': 0.0, 'grad_norm': 0.0, 'ratio_error': 0.0}

  mesh = sharding.make_mesh(sequence=2)
  tools, taken, side = _tools_and_rollouts(recipe, train, mesh=mesh, shared=False)
  rl.learn(tools, types.SimpleNamespace(step=np.int32(0), params=None), side, taken)
  assert seen[0].shape == (8, 8 + 17 + 1) and seen[0].sharding.shard_shape(seen[0].shape)[1] == 13


@pytest.mark.parametrize('warmup, rates', [(5, [0.3, 0.6, 0.9, 1.2]), (0, [1.5] * 4)])
def test_the_rate_warms_up_by_optimiser_steps(warmup, rates):
  """By hand: 2 epochs of 2 minibatches are 4 steps an update; the first of 5 is a fifth of 1.5."""
  c = tiny.get_config()
  c.rl.epochs, c.rl.warmup_steps = 2, warmup
  recipe = _of_kind_in(c, 'rl')[0].recipe | {'learning_rate': 1.5}
  seen = []

  def train(state, batch, rate, temperature):
    seen.append(rate)
    return state, {'loss': 0.0, 'grad_norm': 0.0, 'ratio_error': 0.0}

  tools, taken, side = _tools_and_rollouts(recipe, train)
  state = types.SimpleNamespace(step=np.int32(0), params=None)
  rl.learn(tools, state, side, taken)
  np.testing.assert_allclose(seen, rates)
  state.step = np.int32(4)
  rl.learn(tools, state, side, taken)
  np.testing.assert_allclose(
    seen[4:], [1.5] * 4
  )  # the fifth step has the whole rate, and all after


@pytest.mark.parametrize(
  'change, message',
  [
    ({'runs': ('grop',)}, "unknown 'grop'.*grpo"),
    ({'runs': ('grpo(size=3)',)}, "has no field 'size'"),
    ({'runs': ("grpo(group='x')",)}, 'group is .x., and it must be a whole number'),
    ({'runs': ('grpo(minibatches=3)',)}, 'minibatches .3. does not divide config.rl.prompts'),
    ({'runs': ('grpo', 'rloo(response_tokens=33)')}, 'rl.response_tokens is 33: .*at most'),
    ({'group': 1}, 'a group baseline needs 2'),
    ({'runs': ("dapo(reward='none', teacher='25k')",)}, "no group has any variance, .*to 'keep'"),
    ({'kl': 'k1', 'kl_coef': 0.1}, "'k1' as a term of the loss"),
    ({'kl_target': 0.1}, 'kl_coef, which it starts from, is 0'),
    ({'staleness': 9}, 'at most 8'),
    ({'reward': 'verifire'}, "unknown 'verifire'.*verifier"),
    ({'reward': 'none'}, 'nothing to learn from'),
    ({'teacher': '400k'}, "unknown '400k'"),
    ({'environments': 2}, 'environments is 2: an update draws'),
    ({'overlong_cache': 18}, 'less than config.rl.response_tokens'),
    ({'advantage': 'best'}, "advantage is 'best': one of"),
    ({'environment': 'hint'}, "environment: unknown 'hint'; nearest: hints"),
    ({'turns': 2, 'reward': 'judge 25k'}, 'turns is 2: the environment rewards an episode'),
    ({'turns': 2, 'false_positive': 0.1}, 'turns is 2: the environment rewards an episode'),
    ({'turns': 2, 'teacher': 'self answer'}, "teacher 'self answer': its critique is of one"),
  ],
)
def test_a_run_that_cannot_be_is_one_line(change, message):
  c = tiny.get_config()
  c.rl.update(change)
  with pytest.raises(BadInput, match=message):
    study.expand(c)


def test_a_judge_that_cannot_judge_is_one_line():
  c = tiny.get_config()
  c.rl.reward = 'judge 25k'
  with pytest.raises(BadInput, match=r'^config.data.attempts is 0, so no model was ever shown'):
    study.expand(c)
  c.data.attempts = 0.5
  study.expand(c)
  c.dpo.judge_by = 'verdit'
  with pytest.raises(BadInput, match=r"^config.dpo.judge_by is 'verdit': one of 'verdict'"):
    study.expand(c)
