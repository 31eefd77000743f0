"""Teachers: each token of the student's own response, scored where it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import compute, rollouts, sharding, train_step
from scaling.data import attempts
from scaling.data.batches import Problem
from scaling.data.vocab import VOCABS
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.model.transformer import Mechanics
from scaling.rewards import teacher
from scaling.sample_step import Samples

VOCAB = VOCABS['arithmetic']
CFG = transformer.ModelConfig(
  vocab_size=VOCAB.size, d_model=16, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=8, d_ff=32
)
PROBLEMS = [
  Problem('a', 'chain_sum', '1+2=', '1+2=3#3', '3', {}),
  Problem('b', 'chain_sum', '12+30=', '12+30=42#42', '42', {}),
]
TEXTS = [['#3', '1+2=4#4'], ['#42', '']]
CORRECT = np.array([[True, False], [True, False]])
WIDTH = 40


def taken():
  """rollouts.assemble of TEXTS, each with its stop token."""
  ids = [[[*VOCAB.encode(text), VOCAB.stop] for text in texts] for texts in TEXTS]
  lengths = np.array([[len(x) for x in group] for group in ids])
  tokens = np.zeros((2, 2, lengths.max()), np.int32)
  for p, group in enumerate(ids):
    for g, x in enumerate(group):
      tokens[p, g, : len(x)] = x
  none = np.zeros(tokens.shape, np.float32)
  prompts = [VOCAB.prompt(problem.prompt) for problem in PROBLEMS]
  padded = np.array([[*p, *[0] * (8 - len(p))] for p in prompts])
  drawn = Samples(tokens, none, none, lengths, lengths > 0, None)
  return rollouts.assemble(padded, np.array([len(p) for p in prompts]), drawn)


@jax.jit
def _all_logp(params, tokens, temperature):
  positions = jnp.arange(tokens.shape[1])[None]
  logits, _ = transformer.apply(CFG, params, tokens, positions)
  return jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)


def alone(params, context, response, temperature=1.0):
  """Log-probs of a response after a context, by a forward pass over the two and nothing else."""
  whole = np.zeros((1, WIDTH), np.int32)  # what is behind is not looked at
  whole[0, : len(context) + len(response)] = [*context, *response]
  logp = _all_logp(params, whole, temperature)[0]
  return [float(logp[len(context) - 1 + i, token]) for i, token in enumerate(response)]


def responses():
  return [[*VOCAB.encode(text), VOCAB.stop] for texts in TEXTS for text in texts]


@pytest.mark.parametrize('what', attempts.CRITIQUES)
def test_a_self_teacher_scores_the_same_tokens_after_its_critique(what):
  params, mesh = transformer.init(CFG, jax.random.key(0)), sharding.make_mesh()
  batch = taken()
  room = WIDTH - 8
  batch |= teacher.critiques(VOCAB, 'short', what, PROBLEMS, TEXTS, CORRECT, room)
  found = teacher.of_self(CFG, mesh, Mechanics(), WIDTH, 0.7)
  got = found.logp(params, batch)
  assert got.shape == batch['tokens'].shape and not got[~batch['mask']].any()
  flat = [(p, t, c) for p, ts, cs in zip(PROBLEMS, TEXTS, CORRECT) for t, c in zip(ts, cs)]
  for row, ((problem, text, right), response) in enumerate(zip(flat, responses(), strict=True)):
    context = VOCAB.prompt(attempts.critique('short', problem, text, right, what))
    np.testing.assert_allclose(
      got[row, batch['mask'][row]], alone(params, context, response, 0.7), rtol=2e-4, atol=2e-5
    )
  ledger = found.cost(batch)
  lengths = batch['context_lengths'] + batch['mask'].sum(axis=1)
  assert ledger == compute.score(CFG, *compute.causal(lengths), 4, WIDTH)


def test_a_critique_that_says_nothing_new_is_the_plain_student():
  """With the prompt itself as its context the teacher is the student, token for token."""
  params, mesh, batch = transformer.init(CFG, jax.random.key(0)), sharding.make_mesh(), taken()
  prompts = [VOCAB.prompt(p.prompt) for p in PROBLEMS for _ in range(2)]
  lengths = np.array([len(p) for p in prompts], np.int32)
  context = np.array([[*p, *[0] * (8 - len(p))] for p in prompts], np.int32)
  batch |= {'context': context, 'context_lengths': lengths}
  got = teacher.of_self(CFG, mesh, Mechanics(), WIDTH).logp(params, batch)
  own = np.asarray(train_step.make_score(CFG, mesh)(params, batch_of(batch), 1.0)) * batch['mask']
  np.testing.assert_allclose(got, own, rtol=1e-4, atol=1e-5)


def batch_of(batch):
  return {name: batch[name] for name in teacher.READ}


def test_critiques_in_words_and_marks():
  say = lambda what, right=False: attempts.critique('short', PROBLEMS[0], '#4', right, what)
  assert say('attempt') == '1+2=#4\n' == attempts.revise('short', '1+2=', '#4')
  assert say('verdict') == '1+2=#4:x\n' and say('verdict', True) == '1+2=#4:c\n'
  assert say('answer') == '1+2=#4:x#3\n'
  assert say('solution') == '1+2=1+2=3#3\n'
  full = attempts.critique('full', PROBLEMS[0], '#4', False, 'answer')
  assert (
    full.startswith('1+2=#4\n\nIs this solution right?') and 'no\nThe right answer is 3' in full
  )
  assert VOCAB.missing(say('answer')) is None


def test_an_attempt_that_is_too_long_is_shown_in_part_and_a_prompt_that_is_too_long_refused():
  long = [['1+2=3;' * 6, '#3']]
  batch = teacher.critiques(VOCAB, 'short', 'verdict', PROBLEMS[:1], long, CORRECT[:1], 20)
  assert batch['context_lengths'].tolist() == [20, 9]
  assert VOCAB.decode(batch['context'][0]).endswith(':c\n')
  with pytest.raises(BadInput, match=r'^problem a: its critique takes 7 tokens and .* room for 5'):
    teacher.critiques(VOCAB, 'short', 'verdict', PROBLEMS[:1], long, CORRECT[:1], 5)


def test_another_model_as_the_teacher():
  """Its own parameters are used, whatever the student's are."""
  big = transformer.ModelConfig(
    vocab_size=VOCAB.size, d_model=16, n_layers=1, n_heads=2, n_kv_heads=2, head_dim=8, d_ff=16
  )
  own, mesh = transformer.init(big, jax.random.key(5)), sharding.make_mesh()
  found, batch = teacher.of_params(big, own, mesh, Mechanics(), 0.5), taken()
  got = found.logp(transformer.init(CFG, jax.random.key(1)), batch)
  expected = np.asarray(train_step.make_score(big, mesh)(own, batch_of(batch), 0.5))
  np.testing.assert_allclose(got, expected * batch['mask'], rtol=1e-5, atol=1e-6)
  lengths = (batch['segment_ids'] > 0).sum(axis=1)
  assert found.cost(batch) == compute.score(big, *compute.causal(lengths), *got.shape)
