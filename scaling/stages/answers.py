"""How the prompts of an RL update are answered, and rewarded: by single responses, or in episodes.

    answer(params, cursor, problems, key) -> Answers

Noise is as `sample_step` has it: of single responses, and of the first turns of episodes, the key
of a sample is fold_in of (stage seed, update, prompt's hash, sample index); of turn t > 0 that of
(stream of episodes, t, update, prompt's hash, sample index). Nothing else moves it: not who else is
still talking. Here the update is the number of the draw.

Axes: P prompts, G samples of each, S prompt width, R width of what follows it, B rows of a block.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from scaling import compute, processes, rollouts, sample_step, sharding, stops
from scaling.data import batches
from scaling.environments import environment
from scaling.environments.checker import ENVIRONMENTS
from scaling.environments.environment import Turn
from scaling.rewards import feedback
from scaling.search import cost as costs
from scaling.stages import sample as sampling
from scaling.stages import stage as stages

PARTS = 4  # of an update's rows: the later turns of so many are drawn at a time


class Answers(NamedTuple):
  """Host arrays."""

  tokens: np.ndarray  # int32 [P, G, R]
  lengths: np.ndarray  # int32 [P, G]
  stopped: np.ndarray  # bool [P, G]
  own: np.ndarray  # bool [P, G, R]: the policy's tokens
  sampler_logp: np.ndarray  # float32 [P, G, R]
  reward: feedback.Reward
  ledger: dict


def make(recipe: dict, data, cfg, mesh, how, reward: Callable) -> Callable:
  """The `answer` of a stage of RL. reward: of single responses, as `rewards.feedback` makes it;
  episodes are rewarded by their environment."""
  P, G = recipe['prompts'], recipe['group']
  shape = sample_step.SampleShape(P, G, G, sampling.prompt_width(data), recipe['response_tokens'])
  sample = sample_step.make_sampler(cfg, shape, mesh, how)
  table, vocab = stops.table(data.vocab, [data.vocab.stop]), data.vocab

  def first(params, cursor, problems, key):
    """(encoded prompts, samples, their ledger) of one response to each."""
    asked = batches.encode_prompts(problems, vocab, shape.prompt_tokens)
    placed = sharding.spread(sharding.rows(mesh), asked)
    ends = table, sample_step.no_limits(shape)
    drawn = sample(params, *placed, key, cursor, 0, recipe['temperature'], *ends)
    drawn = processes.gather(drawn)
    return asked, drawn, sampling.cost(cfg, shape, asked[1], drawn)

  def answer(params, cursor, problems, key) -> Answers:
    (prompts, lengths, _), drawn, spent = first(params, cursor, problems, key)
    texts = rollouts.texts(vocab, drawn)
    sequences = [
      [np.concatenate([prompts[p, : lengths[p]], drawn.tokens[p, g, : drawn.lengths[p, g]]])
       for g in range(G)] for p in range(P)
    ]  # fmt: skip
    got = reward(cursor, problems, texts, sequences, lengths, drawn.stopped)
    arrays = drawn.tokens, drawn.lengths, drawn.stopped
    own, ledger = rollouts.mask_of(drawn), compute.add(spent, got.ledger)
    return Answers(*arrays, own, drawn.sampler_logprobs, got, ledger)

  if recipe['turns'] == 1:
    return answer
  world, turns = ENVIRONMENTS[recipe['environment']](data.spec['style']), recipe['turns']
  most = recipe['response_tokens']
  longest = [environment.tokens(world, vocab, t, most) for t in range(1, turns + 1)]
  stream, rows = stages.key(recipe['seed'], 'episodes'), P * max(1, G // PARTS)

  def later(params, cursor, turn, key, asked, places, so_far):
    """(the Turn of each open episode, their ledger): B of them at a time, each read from its start.

    The ledger's model FLOPs are as if what was read before were kept.
    """
    prompts, lengths, hashes = asked
    wide = -(-(shape.prompt_tokens + longest[turn] - most) // 8) * 8
    one = sample_step.SampleShape(rows, 1, 1, wide, most)
    again, found, ledgers = sample_step.make_sampler(cfg, one, mesh, how), [], []
    for at in range(0, len(places), rows):
      some = list(zip(places[at : at + rows], so_far[at : at + rows], strict=True))
      tokens, widths = np.zeros((rows, wide), np.int32), np.ones(rows, np.int32)
      of, index = np.zeros((rows, 2), np.uint32), np.zeros((rows, 1), np.int32)
      for b, ((p, g), episode) in enumerate(some):
        whole = [*prompts[p, : lengths[p]], *episode.tokens]
        tokens[b, : len(whole)], widths[b], of[b], index[b] = whole, len(whole), hashes[p], g
      placed = sharding.spread(sharding.rows(mesh), (tokens, widths, of))
      ends = table, sample_step.no_limits(one)
      drawn = again(params, *placed, key, cursor, index, recipe['temperature'], *ends)
      drawn = processes.gather(drawn)
      found += [_turn(drawn, b, 0) for b in range(len(some))]
      ledger = sampling.cost(cfg, one, widths, drawn)
      needed = compute.generate(cfg, widths[: len(some)], drawn.lengths[: len(some)], 0, 0, 0)
      news = [
        costs.prefill(cfg, n, n - environment.unread(one)) for n, (_, one) in zip(widths, some)
      ]
      needed['model']['prefill'] = costs.add(*news).prefill_flops
      ledgers.append(ledger | {'model': needed['model']})
    return found, compute.add(*ledgers)

  def in_turns(params, cursor, problems, key) -> Answers:
    asked, begun, spent = first(params, cursor, problems, key)
    ledgers = [spent]

    def draw(turn, places, so_far):
      if turn == 0:
        return [_turn(begun, p, g) for p, g in places]
      of_turn = jax.random.fold_in(stream, turn)
      found, spent = later(params, cursor, turn, of_turn, asked, places, so_far)
      ledgers.append(spent)
      return found

    played = environment.play(world, vocab, problems, G, turns, draw)
    return _collected(played, longest[-1], compute.add(*ledgers))

  return in_turns


def _turn(drawn: sample_step.Samples, p: int, g: int) -> Turn:
  """One sample of host arrays [P, G, R]."""
  length = int(drawn.lengths[p, g])
  logp = drawn.sampler_logprobs[p, g, :length].tolist()
  return Turn(drawn.tokens[p, g, :length].tolist(), logp, bool(drawn.stopped[p, g]))


def _collected(played: list[list[environment.Episode]], R: int, ledger: dict) -> Answers:
  """Episodes [P][G] as arrays."""
  P, G = len(played), len(played[0])
  arrays = np.zeros((P, G, R), np.int32), np.zeros((P, G, R), bool), np.zeros((P, G, R), np.float32)
  for p, g in np.ndindex(P, G):
    one = played[p][g]
    for array, values in zip(arrays, (one.tokens, one.own, one.logp), strict=True):
      array[p, g, : len(values)] = values
  of = lambda name: np.array([[getattr(one, name) for one in ones] for ones in played])
  lengths = np.array([[len(one.tokens) for one in ones] for ones in played], np.int32)
  rewards, silent = of('reward').astype(np.float64), int(of('no_verdict').sum())
  got = feedback.Reward(rewards, rewards, silent, compute.empty())
  tokens, own, logp = arrays
  return Answers(tokens, lengths, of('stopped'), own, logp, got, ledger)
