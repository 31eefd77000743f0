"""Rollouts of a policy's update: which prompts, how the learner reads them, what is kept of them.

A batch for the learner has one of two layouts, with the same numbers in both:

- groups: `prompts`, `prompt_segments` [P, S] and arrays [P, G, R] of responses. A prompt goes
  through the model once for its G responses, in the update as in sampling.
- rows: arrays [P G, T], prompt and response end to end, for the attention kernels that take whole
  rows.

Axes: P prompts, G responses of each, S prompt width, R response width, T = S + R, N prompts of the
pool.
"""

import functools
from typing import NamedTuple

import numpy as np

from scaling import compute, sample_step
from scaling.data import batches

EMA = 0.5  # weight of the newest pass rate of a prompt
LEAST = 0.05  # of a curriculum's weight: no prompt is left out for good


class Rollouts(NamedTuple):
  """What an update learns from; all that there is of it while it is in flight. Host arrays."""

  chosen: np.ndarray  # int64 [P]: numbers of the prompts in their pool
  tokens: np.ndarray  # int32 [P, G, R]: all of an episode behind its prompt
  lengths: np.ndarray  # int32 [P, G]
  stopped: np.ndarray  # bool [P, G]
  own: np.ndarray  # bool [P, G, R]: what the policy said; the rest of an episode was said to it
  sampler_logp: np.ndarray  # float32 [P, G, R]
  rewards: np.ndarray  # float64 [P, G], of the feedback; penalties are added later
  gold: np.ndarray  # float64 [P, G]: the verifier's
  drawn_at: np.ndarray  # int64 []: the update whose policy drew them
  # float64 [5]: prompts drawn for it, groups of them without variance, responses without a verdict,
  # and of all that was drawn, kept or not, the mean reward and the mean of gold
  tally: np.ndarray


def mask_of(drawn) -> np.ndarray:
  """bool [P, G, R]: the tokens of responses, stop tokens among them."""
  return np.arange(drawn.tokens.shape[2]) < drawn.lengths[..., None]


def turns_of(own_PxGxR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(how many turns, tokens of the longest one) of each response, int [P, G]."""
  before = np.pad(own_PxGxR, ((0, 0), (0, 0), (1, 0)))[..., :-1]
  run = longest = np.zeros(own_PxGxR.shape[:2], int)
  for t in range(own_PxGxR.shape[2]):
    run = (run + 1) * own_PxGxR[..., t]
    longest = np.maximum(longest, run)
  return (own_PxGxR & ~before).sum(axis=2), longest


def choose(
  seed: int, cursor: int, count: int, rates: np.ndarray, curriculum: str, drop_passed: float
) -> np.ndarray:
  """Numbers int64 [count] of the prompts of draw `cursor`, out of N; none comes twice.

  Without curriculum and drop_passed a walk through permutations of the pool. Else a draw without
  replacement, by the running pass rates [N] (NaN: not met yet): of curriculum 'pass_rate' with
  weights p (1 - p), most for prompts that pass half of the time; not of those with p >= drop_passed
  while there are enough others.
  """
  if not curriculum and not drop_passed:
    return batches.rl_prompts(seed, cursor, count, len(rates))
  rate = np.where(np.isnan(rates), 0.5, rates)
  weight = rate * (1 - rate) + LEAST if curriculum else np.ones(len(rates))
  raw = np.random.Philox(np.random.SeedSequence([seed, cursor])).random_raw(len(rates))
  gumbel = -np.log(-np.log((raw >> 11).astype(np.float64) * 2**-53 + 2**-54))
  rank = np.log(weight) + gumbel
  if drop_passed:  # those that passed come last, the one that passed most at the very end
    passed = ~np.isnan(rates) & (rates >= drop_passed)
    rank = np.where(passed, rank.min() - 1 - rate, rank)
  return np.sort(np.argsort(-rank, kind='stable')[:count])


def passed(rates: np.ndarray, chosen: np.ndarray, rewards: np.ndarray) -> np.ndarray:
  """The running pass rates [N] after rewards [P, G] (in [0, 1]) of the chosen prompts."""
  new = np.clip(rewards, 0, 1).mean(axis=1)
  old = rates[chosen]
  rates = rates.copy()
  rates[chosen] = np.where(np.isnan(old), new, (1 - EMA) * old + EMA * new)
  return rates


def assemble(prompts_PxS, prompt_lengths_P, drawn) -> dict:
  """The layout `rows`: tokens, positions, segment_ids int32 [P G, T], and the responses' `mask`."""
  _, G, R = drawn.tokens.shape
  S = prompts_PxS.shape[1]
  lengths, responses = np.repeat(prompt_lengths_P, G), drawn.lengths.reshape(-1)
  columns = np.arange(S + R)[None]
  mask = (columns >= lengths[:, None]) & (columns < (lengths + responses)[:, None])
  tokens = np.pad(np.repeat(prompts_PxS, G, axis=0), ((0, 0), (0, R)))
  tokens[mask] = drawn.tokens[mask_of(drawn)]  # both masks count the same cells, row by row
  real = columns < (lengths + responses)[:, None]
  return {
    'tokens': tokens.astype(np.int32),
    'positions': np.broadcast_to(columns, tokens.shape).astype(np.int32),
    'segment_ids': real.astype(np.int32),
    'mask': mask,
  }


class Layout(NamedTuple):
  """A batch without what the loss reads, and how that is put into it and taken out."""

  batch: dict
  put: object  # [P, G, R] of responses' tokens -> as the batch has it
  take: object  # … and back
  put_states: object  # the same of the states before these tokens, which a critic's values are of
  take_states: object
  passed: tuple  # compute.Passed: needed, executed


def layout(prompts_PxS, prompt_lengths_P, drawn, shared: bool) -> Layout:
  """Of rollouts: groups where the prompts are shared, else rows."""
  S, R, inside = prompts_PxS.shape[1], drawn.tokens.shape[2], mask_of(drawn)
  passed = compute.groups_passed(prompt_lengths_P, drawn.lengths, S, R, shared)
  if shared:
    real = np.arange(S) < prompt_lengths_P[:, None]
    batch = {
      'prompts': prompts_PxS.astype(np.int32),
      'prompt_segments': real.astype(np.int32),
      'tokens': np.where(inside, drawn.tokens, 0).astype(np.int32),
    }
    same = lambda x: np.where(inside, x, 0).astype(np.float32)
    return Layout(batch, same, same, same, same, passed)
  batch = assemble(prompts_PxS, prompt_lengths_P, drawn)
  mask, _ = batch.pop('mask'), batch.pop('segment_ids')  # a row is one sequence

  before = np.roll(mask, -1, axis=1)  # a value is of the sequence up to and including its column

  def put(x, where=mask):
    rows = np.zeros(mask.shape, np.float32)
    rows[where] = x[inside]
    return rows

  def take(rows, where=mask):
    x = np.zeros(inside.shape, np.float32)
    x[inside] = rows[where]
    return x

  states = functools.partial(put, where=before), functools.partial(take, where=before)
  return Layout(batch, put, take, *states, passed)


def part(batch: dict, prompts: np.ndarray, total: int) -> dict:
  """The rows of some of the `total` prompts of a batch of either layout."""

  def of(x):
    each = len(x) // total
    return x.reshape(total, each, *x.shape[1:])[prompts].reshape(-1, *x.shape[1:])

  return {name: of(x) for name, x in batch.items()}


def stack(queue: list[Rollouts]) -> dict:
  """Rollouts in flight as arrays by name, for a file."""
  if not queue:
    return {}
  return {f'queue.{name}': np.stack(x) for name, x in zip(Rollouts._fields, zip(*queue))}


def unstack(arrays: dict) -> list[Rollouts]:
  """What `stack` was given."""
  names = [f'queue.{name}' for name in Rollouts._fields]
  if names[0] not in arrays:
    return []
  return [Rollouts(*row) for row in zip(*(arrays[name] for name in names), strict=True)]


def texts(vocab, drawn: sample_step.Samples) -> list[list[str]]:
  """The text of each response, P lists of G."""
  return [[vocab.decode(tokens) for tokens in responses] for responses in drawn.tokens]
