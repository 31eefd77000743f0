"""Episodes of a real model: what was drawn is what the learner scores, whoever else is drawn."""

import types

import jax
import numpy as np
import pytest

from scaling import compute, rollouts, sharding, train_step
from scaling.data.batches import Problem
from scaling.data.vocab import VOCABS
from scaling.model import presets, transformer
from scaling.model.transformer import Mechanics
from scaling.rewards import feedback
from scaling.stages import answers
from scaling.stages import stage as stages

VOCAB = VOCABS['arithmetic']
CFG = presets.model_config('25k', VOCAB.size)
MESH, HOW = sharding.make_mesh(), Mechanics(attention='plain')
DATA = types.SimpleNamespace(vocab=VOCAB, spec={'style': 'short', 'row_tokens': 72})
DATA.max_prompt_tokens = 7
PROBLEMS = [Problem(f'p{i}', 'jsonl', text, '', '7', {})
            for i, text in enumerate(['3+4=', '12-5=', '1+2+4=', '8-1='])]  # fmt: skip
G = 16
RECIPE = dict(
  prompts=4, group=G, response_tokens=18, temperature=2.0, seed=3, turns=3, environment='hints'
)


@pytest.fixture(scope='module')
def params():
  """Of an untrained model: it ends about a third of its turns."""
  return transformer.init(CFG, jax.random.key(0))


def drawn(params, recipe, problems=PROBLEMS, cursor=5):
  reward = feedback.by_verifier(0)
  answer = answers.make(recipe, DATA, CFG, MESH, HOW, reward)
  return answer(params, cursor, problems, stages.key(3, 'rollouts'))


@pytest.fixture(scope='module')
def found(params):
  return drawn(params, RECIPE)


def layout(found, shared):
  prompts = np.zeros((4, 8), np.int32)
  lengths = np.array([len(VOCAB.encode(p.prompt)) for p in PROBLEMS])
  for p, one in enumerate(PROBLEMS):
    prompts[p, : lengths[p]] = VOCAB.encode(one.prompt)
  return rollouts.layout(prompts, lengths, found, shared)


def test_what_was_drawn_is_what_the_learner_scores(params, found):
  turns, longest = rollouts.turns_of(found.own)
  assert turns.max() == 3 and (turns == 2).any() and longest.max() == 18
  score = train_step.make_score(CFG, MESH, HOW)
  for shared in (True, False):
    laid = layout(found, shared)
    logp = laid.take(np.asarray(score(params, laid.batch, np.float32(2.0))))
    assert np.abs(logp - found.sampler_logp)[found.own].max() <= 1e-4
  assert not found.sampler_logp[~found.own].any() and (found.sampler_logp[found.own] < 0).all()


def test_an_episode_is_prompt_turns_and_hints(found):
  texts = []
  for p, g in np.ndindex(4, G):
    ids, own = found.tokens[p, g, : found.lengths[p, g]], found.own[p, g]
    assert not found.tokens[p, g, found.lengths[p, g] :].any() and own[found.lengths[p, g] - 1]
    heard = VOCAB.decode(ids[~own[: len(ids)]])
    assert heard.replace('x\n', '').replace('+\n', '').replace('-\n', '') == ''
    stops = (ids == VOCAB.stop).sum()
    turns = rollouts.turns_of(found.own)[0][p, g]
    assert stops == turns - (not found.stopped[p, g])
    texts.append(heard)
  assert any(texts) and set(np.unique(found.reward.gold)) <= {0.0, 1.0}


def test_the_first_turns_are_those_of_single_responses(params, found):
  plain = drawn(params, RECIPE | {'turns': 1})
  np.testing.assert_array_equal(plain.own, rollouts.mask_of(plain))
  for p, g in np.ndindex(4, G):
    length = plain.lengths[p, g]
    np.testing.assert_array_equal(found.tokens[p, g, :length], plain.tokens[p, g, :length])
    np.testing.assert_array_equal(
      found.sampler_logp[p, g, :length], plain.sampler_logp[p, g, :length]
    )


def test_noise_hangs_on_the_prompt_the_sample_and_the_turn_alone(params, found, monkeypatch):
  again = drawn(params, RECIPE)
  backwards = drawn(params, RECIPE, PROBLEMS[::-1])
  monkeypatch.setattr(answers, 'PARTS', 8)  # other blocks
  parts = drawn(params, RECIPE)
  for name in ('tokens', 'lengths', 'own', 'stopped'):
    np.testing.assert_array_equal(getattr(again, name), getattr(found, name), err_msg=name)
    np.testing.assert_array_equal(getattr(parts, name), getattr(found, name), err_msg=name)
    np.testing.assert_array_equal(getattr(backwards, name)[::-1], getattr(found, name))
  other = drawn(params, RECIPE, cursor=6)
  assert (other.tokens[..., 0] != found.tokens[..., 0]).any()
  # the samples of a prompt differ in their later turns as well
  second = {}
  for p, g in np.ndindex(4, G):
    ids = found.tokens[p, g, : found.lengths[p, g]].tolist()
    if VOCAB.stop in ids[:-1]:
      second[p, g] = tuple(ids[ids.index(VOCAB.stop) + 3 :])
  assert len(set(second.values())) > 0.7 * len(second) > 3


def test_the_ledger_by_hand(found):
  """What the mathematics needs: each token is fed once, but the last of an episode."""
  prefill = decode = 0.0
  for p, problem in enumerate(PROBLEMS):
    S = len(VOCAB.encode(problem.prompt))
    prefill += compute.forward_flops(CFG, S, S * (S + 1) / 2, 1)
    for g in range(G):
      own = found.own[p, g, : found.lengths[p, g]]
      for t in range(len(own) - 1):  # token t, at place S + t, is fed to draw a later one
        # what stands at the end of what the policy hears is read at once, with one row of logits
        heard = not own[t] or not own[t + 1]
        flops = compute.forward_flops(CFG, 1, S + t + 1, own[t + 1])
        prefill, decode = (prefill + flops, decode) if heard else (prefill, decode + flops)
  model, executed = found.ledger['model'], found.ledger['executed']
  np.testing.assert_allclose((model['prefill'], model['decode']), (prefill, decode), rtol=1e-9)
  assert executed['prefill'] > prefill and executed['decode'] > decode
  assert compute.total(found.ledger) == pytest.approx(prefill + decode)
