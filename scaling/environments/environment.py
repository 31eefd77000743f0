"""A small interface to environments of several turns, and rollouts in them for a policy's update.

    reset(seed) -> (state, observation)                                  the first one is the prompt
    step(state, action) -> (state, observation, reward, done)            both are pure functions

An environment's seed is what a problem is to tasks of one turn: `seeds` walks through so many of
them, and how many there are to train on is an axis like any other.

Axes: E environments, G rollouts of each, B = E x G rows, T tokens of a row.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from scaling import compute
from scaling.data import batches
from scaling.data.vocab import Vocab
from scaling.errors import BadInput
from scaling.search.generate import Generator

HELD_OUT = 10**9  # the first seed of the environments that a policy is measured in


class Environment(NamedTuple):
  """Of one kind; its functions are pure, and its texts are in the policy's vocabulary."""

  name: str
  turns: int  # the most actions of an episode
  reset: Callable[[int], tuple[object, str]]
  step: Callable[[object, str], tuple[object, str, float, bool]]


class Rollouts(NamedTuple):
  """Episodes, whole conversations end to end, as a loss reads them."""

  # tokens, positions, segment_ids int32 [B, T]; mask bool [B, T]: the policy's own tokens, and not
  # those of an observation; sampler_logp float32 [B, T]: their log-probs under the policy at
  # temperature 1, 0 elsewhere
  batch: dict
  rewards: np.ndarray  # float64 [E, G]: the sum over an episode's turns
  turns: np.ndarray  # int [E, G]: actions taken
  finished: np.ndarray  # bool [E, G]: by the environment; False: no room was left for a turn
  texts: list  # [E][G]: what was said
  ledger: dict  # FLOPs of drawing them


def seeds(seed: int, update: int, count: int, environments: int) -> list[int]:
  """Which of 0 … environments - 1 an update takes: `count` of them, none twice.

  A fresh permutation an epoch (`batches.rl_prompts`). BadInput where there are fewer than `count`.
  """
  return batches.rl_prompts(seed, update, count, environments).tolist()


def rollout(
  environment: Environment,
  generator: Generator,
  cfg,
  vocab: Vocab,
  seeds: Sequence[int],
  group: int,
  *,
  action_tokens: int,
  row_tokens: int,
  ends: tuple[str, ...] = (';',),
  salt: str = '',
) -> Rollouts:
  """`group` episodes in the environment of each seed.

  generator: of the policy, `cfg` its model; action_tokens: the most of a turn; row_tokens: T;
  ends: texts that end a turn, as the stop token does, and are left out of the action that the
  environment is told; salt: say the update, by which noise differs. The first turn's prompt is read
  once for its group; in later turns each conversation is read again from its start, and the ledger
  counts it. An episode without room for a whole turn ends there, `finished` False, with the reward
  it has. BadInput for a prompt that leaves no room for one, or a seed that comes twice.
  """
  if len(set(seeds)) < len(seeds):
    raise BadInput(f'{environment.name}: a seed comes twice in {list(seeds)}: they are to differ')
  rows = list(itertools.product(seeds, range(group)))
  begun = {seed: environment.reset(seed) for seed in seeds}
  states = [begun[seed][0] for seed, _ in rows]
  texts = [begun[seed][1] for seed, _ in rows]
  tokens = [list(vocab.prompt(text)) for text in texts]
  own = [[False] * len(row) for row in tokens]
  logp = [[0.0] * len(row) for row in tokens]
  B = len(rows)
  rewards, turns, finished = np.zeros(B), np.zeros(B, int), np.zeros(B, bool)
  longest = max(map(len, tokens))
  if longest + action_tokens > row_tokens:
    raise BadInput(
      f'{environment.name}: a prompt of {longest} tokens and a turn of {action_tokens} take '
      f'{longest + action_tokens} positions, and config.data.row_tokens is {row_tokens}: raise it'
    )
  ledger, active = compute.empty(), list(range(B))
  for turn in range(environment.turns):
    active = [b for b in active if not finished[b] and len(tokens[b]) + action_tokens <= row_tokens]
    if not active:
      break
    if turn == 0:
      asked = [tokens[e * group] for e in range(len(seeds))]
      found = generator.draw(
        asked, n=group, limit=action_tokens, ends=ends, salt=[f'{salt} {seed}' for seed in seeds]
      )
    else:
      asked = [tokens[b] for b in active]
      salts = [f'{salt} {rows[b][0]} {rows[b][1]} {turn}' for b in active]
      found = generator.draw(asked, n=1, limit=action_tokens, ends=ends, salt=salts)
    lengths = np.array([[len(one.tokens) for one in ones] for ones in found])
    model = compute.generate(cfg, [len(row) for row in asked], lengths, 0, 0, 0)['model']
    executed = generator.spent()['executed']
    ledger = compute.add(ledger, {'model': model, 'executed': executed})
    for b, one in zip(active, itertools.chain.from_iterable(found), strict=True):
      said = vocab.decode(one.tokens)
      end = next((end for end in ends if said.endswith(end)), '')
      action = said.removesuffix(end)
      states[b], seen, reward, done = environment.step(states[b], action)
      rewards[b] += reward
      turns[b] += 1
      finished[b] = done
      more = [] if done else vocab.encode(seen)
      tokens[b] = tokens[b] + one.tokens + more
      own[b] += [True] * len(one.tokens) + [False] * len(more)
      logp[b] += [*one.logprobs, *[0.0] * len(more)]
      texts[b] += said + seen
  return Rollouts(
    _rows(tokens, own, logp, row_tokens),
    *(values.reshape(len(seeds), group) for values in (rewards, turns, finished)),
    [texts[e * group : (e + 1) * group] for e in range(len(seeds))],
    ledger,
  )


def _rows(tokens: list, own: list, logp: list, T: int) -> dict:
  """Conversations as arrays [B, T], padded behind; what an observation left over T is cut."""
  B = len(tokens)
  batch = {
    'tokens': np.zeros((B, T), np.int32),
    'positions': np.tile(np.arange(T, dtype=np.int32), (B, 1)),
    'segment_ids': np.zeros((B, T), np.int32),
    'mask': np.zeros((B, T), bool),
    'sampler_logp': np.zeros((B, T), np.float32),
  }
  for b in range(B):
    length = min(len(tokens[b]), T)
    batch['tokens'][b, :length] = tokens[b][:length]
    batch['segment_ids'][b, :length] = 1
    batch['mask'][b, :length] = own[b][:length]
    batch['sampler_logp'][b, :length] = logp[b][:length]
  return batch
