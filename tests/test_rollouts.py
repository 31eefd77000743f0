"""Rollouts as the learner reads them: both layouts give the same numbers."""

import functools

import jax
import numpy as np
import pytest

from scaling import compute, losses, rollouts, sharding, train_step
from scaling.data import batches
from scaling.model import transformer
from scaling.model.transformer import Mechanics

CFG = transformer.ModelConfig(
  vocab_size=20, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=32
)
OPT = train_step.OptimizerConfig(0.9, 0.95, 0.0, 1.0)
P, G, S, R = 4, 3, 6, 5


def drawn_of(seed=0):
  """(prompts [P, S], their lengths, Rollouts) of random tokens."""
  rng = np.random.default_rng(seed)
  prompts = rng.integers(2, 20, (P, S)).astype(np.int32)
  at_most = rng.integers(1, S + 1, P)
  lengths = rng.integers(1, R + 1, (P, G)).astype(np.int32)
  tokens = rng.integers(2, 20, (P, G, R)).astype(np.int32)
  rewards = rng.integers(0, 2, (P, G)).astype(np.float64)
  logp = -rng.uniform(0.1, 3, (P, G, R)).astype(np.float32)
  tally = np.array([P, 0, 0, rewards.mean(), rewards.mean()])
  own = np.arange(R) < lengths[..., None]
  where = np.arange(P), tokens, lengths, lengths < R, own, logp
  where += rewards, rewards, np.int64(0), tally
  return prompts * (np.arange(S) < at_most[:, None]), at_most, rollouts.Rollouts(*where)


@pytest.mark.parametrize('loss', ['clipped', 'sequence_clipped'])
@pytest.mark.parametrize(
  'how', [Mechanics(), Mechanics(microbatches=2, loss_chunk=2, remat='dots')]
)
def test_a_shared_prompt_gives_the_numbers_of_whole_rows(loss, how):
  prompts, lengths, drawn = drawn_of()
  mesh, rng = sharding.make_mesh(data=2), np.random.default_rng(1)
  mask = rollouts.mask_of(drawn)
  extra = {
    'advantages': rng.normal(size=mask.shape),
    'old_logp': drawn.sampler_logp,
    'mask': mask,
    'weights': losses.mean_over_responses(mask.reshape(-1, R) * 1.0).reshape(mask.shape),
  }
  found = []
  for shared in (True, False):
    laid = rollouts.layout(prompts, lengths, drawn, shared)
    batch = laid.batch | {name: laid.put(x) for name, x in extra.items()}
    state = train_step.make_init(CFG, OPT, mesh)(jax.random.key(0))
    scored = train_step.make_score(CFG, mesh, how)(state.params, laid.batch, 0.7)
    step = train_step.make_train_step(
      CFG, losses.POLICY[loss], losses.PolicyOptions(), OPT, mesh, how
    )
    state, metrics = step(state, batch, 1e-2, 0.7)
    moved = np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.opt_state)])
    found.append((laid.take(np.asarray(scored)), metrics, moved))
  (a, first, moments), (b, second, others) = found
  np.testing.assert_allclose(a, b, atol=2e-5)
  assert (a[mask] < 0).all() and not a[~mask].any()
  for name in first:
    np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-5, err_msg=name)
  np.testing.assert_allclose(moments, others, atol=1e-5)


@pytest.mark.parametrize('shared', [True, False])
def test_a_critics_value_is_of_the_state_before_each_token(shared):
  prompts, lengths, drawn = drawn_of()
  cfg = transformer.ModelConfig(**{**vars(CFG), 'head': 'scalar'})
  params = transformer.init(cfg, jax.random.key(0)) | {'head': np.ones(16, np.float32)}
  stats = jax.jit(functools.partial(train_step.token_stats, cfg))
  laid = rollouts.layout(prompts, lengths, drawn, shared)
  found = laid.take_states(
    np.asarray(stats(params, laid.batch).value).reshape((P, G, R) if shared else (P * G, S + R))
  )
  there = laid.put_states(found) != 0  # what is learned stands where the values were read
  assert there.sum() == (found != 0).sum() == drawn.lengths.sum()
  np.testing.assert_array_equal(laid.take_states(laid.put_states(found)), found)
  for p, g in [(0, 0), (2, 1), (3, 2)]:
    whole = np.concatenate([prompts[p, : lengths[p]], drawn.tokens[p, g]])[None]
    place = np.arange(whole.shape[1], dtype=np.int32)[None]
    alone = stats(params, {'tokens': whole, 'positions': place}).value[0]
    t = drawn.lengths[p, g]
    np.testing.assert_allclose(
      found[p, g, :t], alone[lengths[p] - 1 : lengths[p] + t - 1], atol=1e-4
    )


def test_what_a_pass_needs_is_counted_token_by_token():
  _, lengths, drawn = drawn_of()
  needed, shared = compute.groups_passed(lengths, drawn.lengths, S, R, True)
  tokens = context = 0
  for p in range(P):
    tokens += lengths[p]
    context += sum(range(1, lengths[p] + 1))
    for length in drawn.lengths[p]:
      tokens += length
      context += sum(lengths[p] + j for j in range(1, length + 1))
  assert needed == (tokens, context, drawn.lengths.sum())
  assert shared == (P * S + P * G * R, P * S * S + P * G * R * (S + R), P * G * R)
  _, rows = compute.groups_passed(lengths, drawn.lengths, S, R, False)
  assert rows == (P * G * (S + R), P * G * (S + R) ** 2, P * G * (S + R))


def test_parts_of_a_batch_are_whole_groups_in_both_layouts():
  prompts, lengths, drawn = drawn_of()
  for shared in (True, False):
    laid = rollouts.layout(prompts, lengths, drawn, shared)
    some = rollouts.part(laid.batch, np.array([2, 0]), P)
    alone = drawn._replace(tokens=drawn.tokens[[2, 0]], lengths=drawn.lengths[[2, 0]])
    expected = rollouts.layout(prompts[[2, 0]], lengths[[2, 0]], alone, shared).batch
    for name in expected:
      np.testing.assert_array_equal(some[name], expected[name], err_msg=name)


def test_turns_are_counted_by_hand():
  own = np.array([[[1, 1, 0, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]],
                  [[1, 1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 0, 1, 1]]], bool)  # fmt: skip
  turns, longest = rollouts.turns_of(own)
  np.testing.assert_array_equal(turns, [[2, 1], [1, 4]])
  np.testing.assert_array_equal(longest, [[3, 1], [8, 2]])


def test_rollouts_in_flight_survive_a_file(tmp_path):
  queue = [drawn_of(seed)[2] for seed in range(3)]
  np.savez(tmp_path / 'x.npz', **rollouts.stack(queue))
  with np.load(tmp_path / 'x.npz') as arrays:
    back = rollouts.unstack(arrays)
  assert len(back) == 3
  for ours, theirs in zip(queue, back, strict=True):
    for a, b in zip(ours, theirs, strict=True):
      np.testing.assert_array_equal(a, b)
      assert np.asarray(a).dtype == b.dtype
  assert rollouts.unstack(rollouts.stack([])) == []


def test_prompts_are_chosen_by_their_pass_rates():
  unseen = np.full(40, np.nan)
  plain = rollouts.choose(3, 5, 8, unseen, '', 0)
  np.testing.assert_array_equal(plain, batches.rl_prompts(3, 5, 8, 40))
  rates = np.where(np.arange(40) < 20, 0.95, 0.5)
  for cursor in range(10):
    chosen = rollouts.choose(3, cursor, 8, rates, '', 0.9)
    assert len(set(chosen)) == 8 and (chosen >= 20).all()
  chosen = rollouts.choose(3, 0, 25, rates, '', 0.9)  # more than there are others
  assert set(range(20, 40)) <= set(chosen) and len(set(chosen)) == 25
  rates = np.where(np.arange(40) < 20, 1.0, 0.5)
  picked = [rollouts.choose(3, cursor, 8, rates, 'pass_rate', 0) for cursor in range(200)]
  share = np.mean(np.concatenate(picked) >= 20)
  assert 0.75 < share < 0.95  # by weights .30 and .05 a first draw would be .86
  again = rollouts.choose(3, 7, 8, rates, 'pass_rate', 0)
  np.testing.assert_array_equal(again, picked[7])


def test_pass_rates_run():
  rates = rollouts.passed(
    np.array([np.nan, 0.5, 0.2]), np.array([0, 1]), np.array([[1, 0], [1, 1]])
  )
  np.testing.assert_allclose(rates, [0.5, 0.75, 0.2])
