"""What an RL update puts before the learner, and what a run of it records."""

import json

import numpy as np
import pandas as pd
import pytest

from scaling import study
from scaling.data import batches
from scaling.data.vocab import VOCABS
from scaling.sample_step import Samples
from scaling.stages import rl
from scaling.stages import stage as stages
from tests import tiny


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
  got = rl.assemble(prompts, np.array([2, 3]), drawn)
  expected = [[5, 6, 10, 1, 0], [5, 6, 11, 12, 0], [7, 8, 9, 13, 1], [7, 8, 9, 1, 0]]
  np.testing.assert_array_equal(got['tokens'], expected)
  mask = [[0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 0]]
  np.testing.assert_array_equal(got['mask'], mask)
  np.testing.assert_array_equal(got['segment_ids'], np.array(expected) > 0)
  np.testing.assert_allclose(got['sampler_logp'], np.where(mask, -np.array(expected) / 10, 0))


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
  assert b['path']['sft'] == sft['path']['sft']


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
  vocab = VOCABS['arithmetic']
  whole, cut = vocab.encode('#12') + [1], vocab.encode('#120')[:3] + [0]
  drawn = Samples(
    np.array([[whole, cut]]), None, None, np.array([[4, 3]]), np.array([[True, False]]), None
  )
  np.testing.assert_array_equal(rl.reward([problem], vocab, drawn), [[1, 0]])
