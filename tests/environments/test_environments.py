"""Episodes by policies whose success is known, and the arrays that a real model's leave."""

import jax
import numpy as np
import pytest

from scaling import compute, losses, sharding, train_step
from scaling.data.vocab import VOCABS
from scaling.environments import environment, guessing
from scaling.errors import BadInput
from scaling.model import presets, transformer
from scaling.search import generate
from scaling.search.generate import Drawn, Generator

VOCAB = VOCABS['arithmetic']
CFG = presets.model_config('25k', VOCAB.size)


def policy(say, calls=None) -> Generator:
  """A generator that answers a conversation with say(text); it draws the same n times."""

  def draw(prefixes, n=1, limit=None, ends=(), salt='', thinking=None):
    if calls is not None:
      calls.append((len(prefixes), n, salt))
    found = []
    for prefix in prefixes:
      tokens = VOCAB.encode(say(VOCAB.decode(prefix)) + ';')[:limit]
      found.append([Drawn(tokens, [-0.5] * len(tokens), tokens[-1] in VOCAB.encode(';'))] * n)
    return found

  return Generator(draw, None, compute.empty, lambda: 0)


def play(game, say, seeds, group=1, calls=None, **more):
  given = {'action_tokens': 4, 'row_tokens': 64} | more
  return environment.rollout(game, policy(say, calls), CFG, VOCAB, seeds, group, **given)


def numbers(game, count):
  return [game.reset(seed)[0].number for seed in range(count)]


@pytest.mark.parametrize('top, turns', [(100, 7), (100, 4), (7, 3), (1, 1)])
def test_halving_finds_what_can_be_found(top, turns):
  """Brute force: the numbers that it finds are 2^t - 1 of them, or all."""
  game = guessing.make(top, turns)
  found = play(game, guessing.halving, range(300))
  won = {n for n, r in zip(numbers(game, 300), found.rewards[:, 0], strict=True) if r == 1}
  lost = {n for n, r in zip(numbers(game, 300), found.rewards[:, 0], strict=True) if r == 0}
  assert not won & lost and len(won | lost) > 0.9 * top
  assert len(won) <= min(top, 2**turns - 1)
  assert lost == set() or len(won) >= min(top, 2**turns - 1) * 0.8
  assert found.finished.all() and found.turns.max() <= turns
  assert set(np.unique(found.rewards)) <= {0.0, 1.0}


def test_without_the_hints_success_is_chance():
  game = guessing.make(20, 5)
  found = play(game, lambda text: '10', range(400))
  assert found.rewards.mean() == pytest.approx(1 / 20, abs=0.04)
  assert (found.turns[found.rewards == 0] == 5).all()


def test_an_environment_is_a_pure_function():
  game = guessing.make(50, 3)
  state, seen = game.reset(4)
  assert game.reset(4) == (state, seen) and seen == '1-50:'
  first = game.step(state, '1')
  assert game.step(state, '1') == first and state.left == 3 and first[0].left == 2
  assert game.step(state, str(state.number))[1:] == ('=', 1.0, True)
  for text in ('', 'x', '-3', '1e9', '٣', '9' * 10, '3;'):
    assert game.step(state, text)[1:] == ('x', 0.0, False)
  assert len({game.reset(seed)[0].number for seed in range(500)}) == 50
  with pytest.raises(BadInput, match='turns 0'):
    guessing.make(5, 0)


def test_only_what_the_policy_said_is_in_the_mask():
  game = guessing.make(100, 4)
  found = play(game, lambda text: '150' if '+' in text else '7', [3, 8], group=2)
  for b, text in enumerate(text for texts in found.texts for text in texts):
    row = {name: values[b] for name, values in found.batch.items()}
    length = row['segment_ids'].sum()
    assert VOCAB.decode(row['tokens'][:length]) == text[: int(length)]
    own = VOCAB.decode(row['tokens'][row['mask']])
    assert own.count(';') == found.turns.ravel()[b]
    assert set(own) <= set('0123456789;') and not row['mask'][: len('1-100:')].any()
    hints = [VOCAB.decode([t]) for t in row['tokens'][:length][~row['mask'][:length]]]
    assert ''.join(hints)[len('1-100:') :].strip('+-') == ''
    np.testing.assert_array_equal(row['sampler_logp'], np.where(row['mask'], -0.5, 0))
    assert (row['segment_ids'][:length] == 1).all() and not row['segment_ids'][length:].any()


def test_the_first_prompt_is_read_once_for_its_group():
  calls = []
  game = guessing.make(100, 2)
  found = play(game, lambda text: '1', [5, 6, 7], group=4, calls=calls, salt='9')
  assert calls[0][:2] == (3, 4) and calls[1][:2] == (12, 1)
  assert len({*calls[0][2]}) == 3 and len({*calls[1][2]}) == 12  # salts: no two rows share noise
  prompt, spoken = len('1-100:'), 2  # '1;'
  once = compute.generate(CFG, [prompt] * 3, np.full((3, 4), spoken), 0, 0, 0)['model']
  again = compute.generate(CFG, [prompt + 3] * 12, np.full((12, 1), spoken), 0, 0, 0)['model']
  assert found.ledger['model']['prefill'] == once['prefill'] + again['prefill']
  assert found.ledger['model']['decode'] == once['decode'] + again['decode']


def test_an_episode_without_room_ends_unfinished():
  game = guessing.make(100, 7)
  found = play(game, lambda text: '1', [3], row_tokens=13)
  assert not found.finished.any() and found.turns[0, 0] == 2
  assert found.batch['tokens'].shape == (1, 13)
  with pytest.raises(BadInput, match=r'take 10 positions, and config\.data\.row_tokens is 9'):
    play(game, lambda text: '1', [3], row_tokens=9)
  with pytest.raises(BadInput, match='comes twice'):
    play(game, lambda text: '1', [3, 3])


def test_more_environments_are_the_fewer_and_others():
  few = [environment.seeds(0, update, 4, 8) for update in range(2)]
  assert sorted(few[0] + few[1]) == list(range(8))
  assert environment.seeds(0, 5, 4, 8) == environment.seeds(0, 5, 4, 8)
  assert max(environment.seeds(0, 0, 64, 64)) == 63
  with pytest.raises(BadInput, match='prepare more'):
    environment.seeds(0, 0, 9, 8)


MESH, HOW = sharding.make_mesh(), transformer.Mechanics(attention='plain')


def put(batch):
  return sharding.spread(sharding.batch(MESH), batch)


def weights(mask):
  return np.asarray(losses.mean_over_responses(mask.astype(np.float32)))


def episodes(params, game, update=0):
  """(what a model drew, its batch for a loss, the greatest mismatch of sampler and learner)."""
  generator = generate.make_generator(
    CFG, params, VOCAB, MESH, HOW, jax.random.key(1),
    temperature=1.0, response_tokens=4, row_tokens=16,
  )  # fmt: skip
  found = environment.rollout(
    game, generator, CFG, VOCAB, environment.seeds(0, update, 8, 16), 8,
    action_tokens=3, row_tokens=16, salt=f'{update}',
  )  # fmt: skip
  batch = dict(found.batch)
  mask, sampler_logp = batch.pop('mask'), batch.pop('sampler_logp')
  score = train_step.make_score(CFG, MESH, HOW)
  old = np.asarray(score(params, put(batch), np.float32(1.0)))
  advantages = np.asarray(losses.group_advantages(found.rewards)).reshape(-1, 1)
  batch |= {
    'old_logp': old,
    'advantages': np.broadcast_to(advantages, mask.shape).astype(np.float32),
    'weights': weights(mask),
  }
  return found, batch, np.abs(old - sampler_logp)[mask].max()


def test_what_a_model_drew_is_what_its_learner_scores():
  params = transformer.init(CFG, jax.random.key(0))
  found, batch, mismatch = episodes(params, guessing.make(4, 2))
  assert mismatch < 1e-4  # every turn of it
  assert found.turns.max() == 2 and batch['tokens'].shape == (64, 16)
  again, _, _ = episodes(params, guessing.make(4, 2))
  assert again.texts == found.texts
  assert episodes(params, guessing.make(4, 2), 2)[0].texts != found.texts


@pytest.mark.slow
def test_a_model_learns_from_its_episodes():
  """It is taught to guess at random, then a few updates on the arrays as they come: it gets better.

  At random 7 games of 16 are won, and 3 of 4 at best.
  """
  game, rng = guessing.make(4, 2), np.random.default_rng(0)
  opt = train_step.OptimizerConfig(b1=0.9, b2=0.98, weight_decay=0.0, clip_norm=1.0)
  state = train_step.make_init(CFG, opt, MESH)(jax.random.key(0))
  teach = train_step.make_train_step(CFG, losses.cross_entropy, None, opt, MESH, HOW)
  for _ in range(40):
    shown = play(game, lambda text: str(rng.integers(1, 5)), range(64), row_tokens=16).batch
    shown['weights'] = weights(shown.pop('mask'))
    state, _ = teach(state, put(shown), np.float32(0.01), np.float32(1.0))
  train = train_step.make_train_step(CFG, losses.clipped, losses.PolicyOptions(), opt, MESH, HOW)
  means = []
  for update in range(16):
    found, batch, _ = episodes(state.params, game, update)
    means.append(found.rewards.mean())
    state, _ = train(state, put(batch), np.float32(0.003), np.float32(1.0))
  assert np.mean(means[:2]) == pytest.approx(7 / 16, abs=0.15)
  assert np.mean(means[-3:]) > np.mean(means[:3]) + 0.08
