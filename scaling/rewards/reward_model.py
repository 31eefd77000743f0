"""Reward models: what they learn from a bank, what they say of one, and how good that is.

A model with a scalar head reads prompt and response and gives a value at each token. Of three
objectives (`losses`):

    pairs     Bradley-Terry on a right and a wrong response to a problem, at their last tokens
    outcome   the verdict on a response, at its last token
    process   the share of roll-outs that end right, at each step's last token

`Calibration` turns values into probabilities. Problems, not responses, are held out for it.

Axes: N responses of a bank, R items of an epoch (pairs or responses), B rows of a batch, T columns.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jax.sharding import Mesh
from scipy import optimize, special, stats

from scaling import compute, processes, sharding, train_step
from scaling.data.vocab import Vocab
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.model.transformer import Mechanics

OBJECTIVES = ('pairs', 'outcome', 'process')
PAIRS = 16  # the most of a problem in an epoch: many of its n_right x n_wrong say much the same
WIDTHS = 4  # compiled shapes of a scoring pass, at most
BINS = 10  # of a reliability table
LEAST_SLOPE = 1e-3  # of a calibration, by the standard deviation of the values


class Examples(NamedTuple):
  """Responses of a bank, each behind its prompt."""

  sequences: list  # N arrays int32 of ids
  starts: np.ndarray  # int [N]: tokens of the prompt
  places: list  # N arrays int: where in its sequence a value counts
  labels: list  # N arrays float: what it should be there, in [0, 1]
  problems: np.ndarray  # object [N]: ids
  correct: np.ndarray  # bool [N]


def examples(table: pd.DataFrame, vocab: Vocab) -> Examples:
  """The responses of a bank's rows, with the verdict at the last token of each.

  Reads problem, prompt, tokens and correct. BadInput where a response has no tokens.
  """
  prompts = {prompt: vocab.prompt(prompt) for prompt in table['prompt'].unique()}
  sequences, starts = [], []
  for row in table.itertuples():
    if row.tokens is None or len(row.tokens) == 0:
      raise BadInput(
        f'bank: problem {row.problem!r} has a response without tokens: a reward model reads the '
        'tokens of a model of this study'
      )
    prompt = prompts[row.prompt]
    sequences.append(np.concatenate([prompt, row.tokens]).astype(np.int32))
    starts.append(len(prompt))
  return Examples(
    sequences,
    np.array(starts),
    [np.array([len(sequence) - 1]) for sequence in sequences],
    [np.array([float(correct)]) for correct in table['correct']],
    table['problem'].to_numpy(object),
    table['correct'].to_numpy(bool),
  )


def step_tokens(vocab: Vocab, marks: Sequence[str]) -> set[int]:
  """The ids of tokens that end a step: those whose text holds one of the marks."""
  ends = [mark.encode() for mark in marks]
  return {i for i, text in enumerate(vocab.spelled()) if any(end in text for end in ends)}


def step_ends(response: Sequence[int], ending: set[int]) -> list[int]:
  """Where the steps of a response end: at tokens of `ending`, and at its last token in any case."""
  last = len(response) - 1
  return [i for i, token in enumerate(response) if token in ending and i < last] + [last]


def with_steps(found: Examples, table: pd.DataFrame, labels: pd.DataFrame) -> Examples:
  """The examples whose steps are labelled: `labels` has problem, sample, end (in the response) and
  value. BadInput where none is, or where a label is of a response that is not in the bank."""
  row_of = {key: i for i, key in enumerate(zip(table['problem'], table['sample'], strict=True))}
  rows, places, values = [], [], []
  for key, group in labels.groupby(['problem', 'sample'], sort=False):
    if key not in row_of:
      raise BadInput(
        f'labels: problem {key[0]!r} sample {key[1]} is not in the bank: both must be of one bank'
      )
    i = row_of[key]
    rows.append(i)
    places.append(found.starts[i] + group['end'].to_numpy())
    values.append(group['value'].to_numpy(np.float64))
  if not rows:
    raise BadInput('labels: there are none: raise config.scorers.per_problem')
  return Examples(
    [found.sequences[i] for i in rows],
    found.starts[rows],
    places,
    values,
    found.problems[rows],
    found.correct[rows],
  )


def held_out(problems: Sequence[str], part: float, seed: int) -> set[str]:
  """Ids of the problems held out: those of the least hashes with the seed, at least one."""
  rank = lambda problem: hashlib.sha256(f'{seed}|{problem}'.encode()).digest()
  ordered = sorted(set(problems), key=rank)
  return set(ordered[: max(1, round(part * len(ordered)))])


def shuffled(values: np.ndarray, *seeds: int) -> np.ndarray:
  """A permutation from raw Philox bits, whose stream NumPy keeps for good."""
  raw = np.random.Philox(np.random.SeedSequence(seeds)).random_raw(len(values))
  return values[np.argsort(raw, kind='stable')]


def contrasts(problems: np.ndarray, values: np.ndarray) -> tuple[dict, int]:
  """({problem: (rows of its greatest value, rows of its least)} where these differ, how many not).

  values [N]: scores, or verdicts, whose greatest are the right ones.
  """
  rows = pd.Series(np.arange(len(problems))).groupby(problems, sort=False)
  both = {}
  for problem, group in rows:
    group = group.to_numpy()
    value = values[group]
    if value.max() > value.min():
      both[problem] = group[value == value.max()], group[value == value.min()]
  return both, rows.ngroups - len(both)


def pairs(both: dict, seed: int, epoch: int, most: int = PAIRS) -> np.ndarray:
  """Rows int64 [R, 2] (right, wrong) of an epoch: of each problem its r x w pairs, `most` at most.

  The first of an order that comes by each of the r right and each of the w wrong responses equally
  often, so that none is met twice before all were met. Epochs draw anew; R is the same in all.
  """
  chosen = []
  for number, (right, wrong) in enumerate(both.values()):
    r, w = len(right), len(wrong)
    right, wrong = (shuffled(x, seed, epoch, number, i) for i, x in enumerate((right, wrong)))
    i = np.arange(min(most, r * w))
    # i -> (i mod r, i + i // lcm(r, w) mod w) meets every pair once in r w steps
    chosen.append(np.stack([right[i % r], wrong[(i + i // math.lcm(r, w)) % w]], axis=1))
  return shuffled(np.concatenate(chosen), seed, epoch)


def walk(epoch_of: Callable[[int], np.ndarray], rows: int) -> Callable[[int], np.ndarray]:
  """batch(step) -> the step's `rows` items of one epoch after another; epoch_of(e): its items."""
  held = {}

  def epoch(number: int) -> np.ndarray:
    if number not in held:
      for old in [e for e in held if e < number - 1]:
        del held[old]
      held[number] = epoch_of(number)
    return held[number]

  size = len(epoch(0))

  def batch(step: int) -> np.ndarray:
    parts, at, left = [], step * rows, rows
    while left:
      number, offset = divmod(at, size)
      parts.append(epoch(number)[offset : offset + left])
      at, left = at + len(parts[-1]), left - len(parts[-1])
    return np.concatenate(parts)

  return batch


def columns(longest: int, mesh: Mesh) -> int:
  """Columns of a row that holds so many tokens: in eights, and so that the mesh can split it."""
  unit = math.lcm(8, mesh.shape['sequence'])
  return -(-longest // unit) * unit


def _rows(groups: Sequence[Sequence[np.ndarray]], width: int) -> dict:
  """tokens, positions, segment_ids [B, T]: each group's sequences end to end in a row."""
  names = ('tokens', 'positions', 'segment_ids')
  batch = {name: np.zeros((len(groups), width), np.int32) for name in names}
  for row, group in enumerate(groups):
    at = 0
    for segment, sequence in enumerate(group, 1):
      span = slice(at, at + len(sequence))
      batch['tokens'][row, span] = sequence
      batch['positions'][row, span] = np.arange(len(sequence))
      batch['segment_ids'][row, span] = segment
      at += len(sequence)
  return batch


def pair_batch(sequences: Sequence[np.ndarray], chosen: np.ndarray, width: int) -> dict:
  """A batch for losses.pairs: in each row a pair of sequences; the weights are 1 / B at the last
  token of the right one. chosen: [B, 2]."""
  groups = [(sequences[right], sequences[wrong]) for right, wrong in chosen]
  batch = _rows(groups, width)
  rows = np.arange(len(groups))
  ends = np.array([[len(a) - 1, len(a) + len(b) - 1] for a, b in groups])
  batch['marks'] = np.zeros(batch['tokens'].shape, np.float32)
  batch['marks'][rows, ends[:, 0]], batch['marks'][rows, ends[:, 1]] = 1, -1
  batch['weights'] = (batch['marks'] > 0) / np.float32(len(groups))
  return batch


def point_batch(found: Examples, chosen: np.ndarray, width: int) -> dict:
  """A batch for losses.pointwise: a response in each row; all labelled tokens weigh alike."""
  batch = _rows([(found.sequences[i],) for i in chosen], width)
  batch['labels'] = np.zeros(batch['tokens'].shape, np.float32)
  counted = np.zeros(batch['tokens'].shape, np.float32)
  for row, i in enumerate(chosen):
    batch['labels'][row, found.places[i]] = found.labels[i]
    counted[row, found.places[i]] = 1
  batch['weights'] = counted / counted.sum()
  return batch


def counts(batch: dict) -> tuple[int, int]:
  """(tokens, context) of a batch's segments, for compute.train."""
  real = batch['segment_ids'] > 0
  return int(real.sum()), int((batch['positions'][real] + 1).sum())


def values(
  cfg: transformer.ModelConfig,
  params: dict,
  sequences: Sequence[Sequence[int]],
  places: Sequence[Sequence[int]],
  mesh: Mesh,
  how: Mechanics = Mechanics(),
  rows: int = 64,
  tell: Callable[[float], None] = lambda part: None,
  width: Callable[[int], int] | None = None,
) -> tuple[list[np.ndarray], dict]:
  """(the values float64 of each sequence at its places, executed FLOPs as a ledger).

  Sequences are scored by length, `rows` at a time (rounded up to what the mesh and the microbatches
  divide). width(length): the columns for such a sequence; if None, one of at most WIDTHS that the
  longest decides. There are as many programs as widths.
  """
  ways = mesh.shape['data'] * mesh.shape['fsdp'] * how.microbatches
  rows = -(-rows // ways) * ways
  score, where = train_step.make_score(cfg, mesh, how), sharding.batch(mesh)
  lengths = np.array([len(sequence) for sequence in sequences])
  order = np.argsort(lengths, kind='stable')
  unit = columns(-(-int(lengths.max(initial=1)) // WIDTHS), mesh)
  width = width or (lambda length: -(-length // unit) * unit)
  width_of = np.array([columns(width(int(length)), mesh) for length in lengths])
  found, ledger, at = [np.zeros(0)] * len(sequences), compute.empty(), 0
  while at < len(order):
    wide = int(width_of[order[at]])
    part = [i for i in order[at : at + rows] if width_of[i] == wide]
    batch = _rows([(np.asarray(sequences[i], np.int32),) for i in part], wide)
    batch = {name: np.pad(x, ((0, rows - len(part)), (0, 0))) for name, x in batch.items()}
    got = processes.gather(score(params, sharding.spread(where, batch), np.float32(1.0)))
    for row, i in enumerate(part):
      found[i] = np.asarray(got[row, np.asarray(places[i], np.int64)], np.float64)
    ledger = compute.add(ledger, compute.score(cfg, 0, 0, rows, wide, 'reward_model'))
    at += len(part)
    tell(at / len(order))
  return found, ledger


def flops(cfg, length: int, cached: int = 0, marks: int = 1) -> float:
  """Model FLOPs of `marks` values of a sequence of `length` tokens, `cached` read before."""
  tokens, context = compute.causal([length])
  before, seen = compute.causal([cached])
  return compute.forward_flops(cfg, tokens - before, context - seen, marks)


# -- from values to probabilities, and how good they are


class Calibration(NamedTuple):
  """Of a value v the probability sigma(slope v + offset) (Platt, 1999)."""

  slope: float
  offset: float

  def __call__(self, value) -> np.ndarray:
    return special.expit(self.slope * np.asarray(value, np.float64) + self.offset)


def platt(value: Sequence[float], label: Sequence[float]) -> Calibration:
  """The Calibration of maximum likelihood; labels in [0, 1] may be soft.

  They are drawn in as Platt (1999) has it, y (N+ + 1) / (N+ + 2) + (1 - y) / (N- + 2) with N+ the
  sum of labels: the maximum is finite where values separate the labels. The slope is positive,
  LEAST_SLOPE at least, so that ranks stay the scorer's own. BadInput where all labels are 0, or 1.
  """
  v, y = np.asarray(value, np.float64), np.asarray(label, np.float64)
  right, wrong = y.sum(), (1 - y).sum()
  if right == 0 or wrong == 0:
    raise BadInput(
      f'the held-out samples of the bank are all {"wrong" if right == 0 else "right"}, which '
      'calibrates nothing: raise config.scorers.held_out, config.scorers.n or data.reward_problems'
    )
  target = y * (right + 1) / (right + 2) + (1 - y) / (wrong + 2)
  middle, spread = v.mean(), v.std() or 1.0
  z = (v - middle) / spread

  def objective(x):
    logit = x[0] * z + x[1]
    error = special.expit(logit) - target
    loss = np.mean(np.logaddexp(0, logit) - target * logit)
    return loss, np.array([np.mean(error * z), np.mean(error)])

  solve = optimize.minimize(
    objective,
    [1.0, special.logit(target.mean())],
    jac=True,
    method='L-BFGS-B',
    bounds=[(LEAST_SLOPE, None), (None, None)],
    options={'ftol': 1e-14, 'gtol': 1e-10, 'maxiter': 1000},
  )
  slope = float(solve.x[0] / spread)
  return Calibration(slope, float(solve.x[1] - slope * middle))


def placements(scores, labels) -> tuple[np.ndarray, np.ndarray]:
  """Of each right sample the part of wrong ones that it beats, of each wrong one the part of right
  ones that beat it; a tie counts half. The mean of either is the AUC."""
  scores, labels = np.asarray(scores, np.float64), np.asarray(labels, bool)
  ranks = stats.rankdata(scores)
  above = lambda mine, others: (ranks[mine] - stats.rankdata(scores[mine])) / others.sum()
  return above(labels, ~labels), 1 - above(~labels, labels)


def auc(scores, labels) -> float:
  """The chance that a right sample has a higher score than a wrong one, ties half; NaN without
  both. scores [N], labels bool [N]."""
  labels = np.asarray(labels, bool)
  if labels.all() or not labels.any():
    return math.nan
  return float(placements(scores, labels)[0].mean())


def auc_stderr(scores, labels, clusters) -> float:
  """Its standard error with problems as clusters (DeLong, 1988; Obuchowski, 1997).

      var = C / (C - 1) sum_c (sum_right (V - A) / N+  +  sum_wrong (V - A) / N-)^2

  with the `placements` V of the samples of cluster c. NaN where there is one cluster, or no AUC.
  """
  labels = np.asarray(labels, bool)
  _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
  C = int(cluster.max()) + 1
  if C < 2 or labels.all() or not labels.any():
    return math.nan
  right, wrong = placements(scores, labels)
  influence = np.zeros(len(labels))
  influence[labels] = (right - right.mean()) / len(right)
  influence[~labels] = (wrong - wrong.mean()) / len(wrong)
  return float(np.sqrt(C / (C - 1) * np.sum(np.bincount(cluster, influence) ** 2)))


def auc_within(scores, labels, clusters) -> np.ndarray:
  """The AUC within each problem that has both right and wrong samples: [problems with both]."""
  scores, labels = np.asarray(scores, np.float64), np.asarray(labels, bool)
  groups = pd.Series(np.arange(len(labels))).groupby(np.asarray(clusters), sort=False)
  each = np.array([auc(scores[g.to_numpy()], labels[g.to_numpy()]) for _, g in groups])
  return each[~np.isnan(each)]


def reliability(probability, labels, bins: int = BINS) -> pd.DataFrame:
  """By equal bins of the probability: low, high, count, predicted (its mean), right (a part)."""
  p, y = np.asarray(probability, np.float64), np.asarray(labels, np.float64)
  place = np.minimum((p * bins).astype(int), bins - 1)
  count = np.bincount(place, minlength=bins)
  mean = lambda x: np.bincount(place, x, bins) / np.where(count, count, np.nan)
  edges = np.arange(bins + 1) / bins
  return pd.DataFrame(
    {'low': edges[:-1], 'high': edges[1:], 'count': count, 'predicted': mean(p), 'right': mean(y)}
  )


def calibration_error(probability, labels, bins: int = BINS) -> float:
  """Expected calibration error (1706.04599): sum over bins of count / N |predicted - right|."""
  table = reliability(probability, labels, bins)
  gap = (table['predicted'] - table['right']).abs().fillna(0)
  return float((table['count'] * gap).sum() / table['count'].sum())


def quality(probability, labels, problems) -> dict[str, tuple[float, float]]:
  """metric -> (value, standard error over problems) of probabilities of being right.

  auc: over all pairs of the bank; auc_within: of pairs of one problem, mean over problems with
  both; verdict_accuracy: of the verdict p > 1/2; calibration_error (its error is NaN).
  """
  p, y = np.asarray(probability, np.float64), np.asarray(labels, bool)
  within = auc_within(p, y, problems)
  agrees = pd.Series(((p > 0.5) == y).astype(float)).groupby(np.asarray(problems)).mean()
  spread = lambda x: float(np.std(x, ddof=1) / np.sqrt(len(x))) if len(x) > 1 else math.nan
  return {
    'auc': (auc(p, y), auc_stderr(p, y, problems)),
    'auc_within': (float(within.mean()) if len(within) else math.nan, spread(within)),
    'verdict_accuracy': (float(agrees.mean()), spread(agrees)),
    'calibration_error': (calibration_error(p, y), math.nan),
  }
