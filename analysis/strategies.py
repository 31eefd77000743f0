"""Test-time strategies that are pure functions of a rollout bank, and of scores of its samples.

    bank rows (+ scores) -> Pool -> value of each strategy at each k -> outcomes, one row a problem

A value is the exact expectation over the random k of the n samples that a query would have drawn
(`estimators`), but for weighted votes at larger k, which are Monte Carlo with their `error`.

  oracle            a sample is right: pass@k, the upper bound of any choice among the k
  majority          self-consistency (2203.11171): the answer given most; answers are equal where
                    the task's canonical form is
  logprob           the sample of the highest mean log-prob of the policy per token
  best_of_X         the sample that scorer X ranks highest; X: pairs, outcome
  weighted_X        a vote in which each sample weighs its score (2206.02336)
  prm_A             best-of-k where step scores are put together by A: last, min, product, mean
  weighted_prm_A    the vote by the same

A sample that gave no answer (or was cut off) is chosen only where no sample gave one, and does not
vote. The cost of a query at k: its prompt prefilled once, k responses of the problem's mean length,
and the scorer over k responses where there is one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import estimators
from analysis.errors import BadInput

VERDICTS = ('oracle', 'episodes')  # strategies that a verifier helps at test time: not deployable

OUTCOMES = {  # the columns of outcomes.parquet, one row a problem x strategy x scorer x k x run
  'stage': 'id of the stage that measured',
  'problem': 'its id',
  'strategy': 'see above; those that generate are of scaling/search/',
  'scorer': 'id of the preference stage whose scores were used, or empty',
  'k': 'samples, or what the strategy takes for its budget',
  'run': 'which of several repeats; 0 for the expectation over a bank',
  'value': 'share answered right: an exact expectation, or 0 and 1',
  'error': 'Monte Carlo standard error of the value; 0 where it is exact',
  'samples': 'responses drawn for a query, on average',
  'prefill_tokens': 'tokens prefilled, caches kept',
  'decode_tokens': 'tokens drawn',
  'prefill_flops': 'model FLOPs of the prefill',
  'decode_flops': '… of the decoding',
  'scorer_flops': '… of the scorer',
}
COSTS = ('samples', 'prefill_tokens', 'decode_tokens', 'prefill_flops', 'decode_flops')
COSTS += ('scorer_flops',)
KINDS = ('prefill', 'decode', 'scorer')  # of a query's FLOPs
NEEDED = [  # columns of a bank that `pool` reads
  *('problem', 'sample', 'answer', 'correct', 'logprobs', 'length', 'prompt_tokens'),
  *('prefill_flops', 'decode_flops'),
]

AGGREGATES: dict[str, Callable] = {  # step scores (probabilities) -> the score of a response
  'last': lambda steps: steps[-1],
  'min': np.min,
  'product': np.prod,
  'mean': np.mean,
}


class Pool(NamedTuple):
  """A bank as arrays: P problems, n samples of each."""

  problems: list  # [P] ids
  samples: np.ndarray  # int [P, n]: their indices
  answers: np.ndarray  # int [P, n]: the class of the answer, -1 for none
  correct: np.ndarray  # bool [P, n]
  logprob: np.ndarray | None  # [P, n]: mean log-prob per token; None where the bank has none
  lengths: np.ndarray  # [P, n] tokens
  prompt_tokens: np.ndarray  # [P]
  prefill_flops: np.ndarray  # [P]: of the prompt
  decode_flops: np.ndarray  # [P, n]


def hears_verdicts(names: pd.Series) -> pd.Series:
  """Which strategies are of VERDICTS, whatever their options: 'episodes(environment=hints)' is."""
  return names.str.partition('(')[0].isin(VERDICTS)


def pool(table: pd.DataFrame) -> Pool:
  """The arrays of a bank's rows (NEEDED of them). BadInput where problems have unequal samples."""
  if table.empty:
    raise BadInput('the bank has no rows: run its sample stage')
  rows, ids = pd.factorize(table['problem'])
  table = table.iloc[np.lexsort((table['sample'].to_numpy(), rows))]
  counts = np.bincount(rows)
  if counts.min() != counts.max():
    fewest = ids[int(np.argmin(counts))]
    raise BadInput(
      f'bank: problem {fewest!r} has {counts.min()} samples, others {counts.max()}; '
      'run its sample stage again, it draws what is missing'
    )
  P, n = len(ids), int(counts[0])
  square = lambda column, kind: table[column].to_numpy(kind).reshape(P, n)
  logprob = None
  if 'logprobs' in table and not table['logprobs'].isna().any():
    spans = table['logprobs'].to_list()
    lengths = np.array([len(span) for span in spans])
    sums = np.bincount(np.repeat(np.arange(P * n), lengths), np.concatenate(spans), P * n)
    with np.errstate(invalid='ignore', divide='ignore'):
      logprob = np.where(lengths > 0, sums / lengths, -np.inf).reshape(P, n)
  answers = pd.factorize(table['answer'])[0]
  answers = np.where(table['answer'].isna(), -1, answers).reshape(P, n)
  return Pool(
    problems=list(ids),
    samples=square('sample', np.int64),
    answers=answers,
    correct=square('correct', bool),
    logprob=logprob,
    lengths=square('length', np.float64),
    prompt_tokens=square('prompt_tokens', np.float64)[:, 0],
    prefill_flops=square('prefill_flops', np.float64)[:, 0],
    decode_flops=square('decode_flops', np.float64),
  )


def some(bank: Pool, columns: np.ndarray) -> Pool:
  """The pool of some of the samples: their places [m] of the n, the same in every problem."""
  take = lambda x: x[:, columns] if isinstance(x, np.ndarray) and x.ndim == 2 else x
  return Pool(*(take(x) for x in bank))


def tallies(bank: Pool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(class counts [P, J], correct [P, J], abstained [P]) of the votes, as majority_at_k has them.

  A class is right where any of its samples was found so.
  """
  found = []
  for answers, correct in zip(bank.answers, bank.correct, strict=True):
    voting = answers >= 0
    classes, place = np.unique(answers[voting], return_inverse=True)
    right = np.zeros(len(classes), bool)
    np.logical_or.at(right, place, correct[voting])
    found.append((np.bincount(place, minlength=len(classes)), right))
  J = max(1, max(len(sizes) for sizes, _ in found))
  counts, rights = np.zeros((len(found), J), np.int64), np.zeros((len(found), J), bool)
  for p, (sizes, right) in enumerate(found):
    counts[p, : len(sizes)], rights[p, : len(sizes)] = sizes, right
  return counts, rights, (bank.answers < 0).sum(axis=1)


def oracle(bank: Pool, ks: Sequence[int]) -> np.ndarray:
  """pass@k: [P, K]."""
  return estimators.pass_at_k(bank.correct.shape[1], bank.correct.sum(axis=1), list(ks))


def majority(bank: Pool, ks: Sequence[int]) -> np.ndarray:
  """majority@k: [P, K]."""
  counts, correct, abstained = tallies(bank)
  return estimators.majority_at_k(counts, correct, list(ks), abstained)


def best_of(bank: Pool, scores: np.ndarray, ks: Sequence[int]) -> np.ndarray:
  """The right share of the best-scored of k among those with an answer: [P, K]. scores: [P, n]."""
  ranked = np.where(bank.answers >= 0, scores, -np.inf)
  return estimators.best_of_k(ranked, bank.correct, list(ks))


def weighted(bank: Pool, scores: np.ndarray, ks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """(value, Monte Carlo error) [P, K] of the vote weighted by scores [P, n], 0 or more."""
  return estimators.weighted_vote_at_k(bank.answers, bank.correct, scores, list(ks))


def aggregate(steps: Sequence, how: str) -> np.ndarray:
  """One score of each response's step scores, by `how` of AGGREGATES; 0 where it has no step.

  BadInput for another `how`.
  """
  if how not in AGGREGATES:
    raise BadInput(f'aggregate {how!r}: use one of {", ".join(AGGREGATES)}')
  put = AGGREGATES[how]
  return np.array([float(put(np.asarray(s, np.float64))) if len(s) else 0.0 for s in steps])


def bank_outcomes(table: pd.DataFrame, ks: Sequence[int], stage: str) -> pd.DataFrame:
  """Outcomes of oracle, majority and logprob (where the bank has log-probs) at each k."""
  bank = pool(table)
  return pool_outcomes(bank, unscored(bank, ks), ks, stage)


def unscored(bank: Pool, ks: Sequence[int]) -> dict:
  """strategy -> (value, error) [P, K] of those that need no scorer."""
  exact = np.zeros((len(bank.problems), len(ks)))
  values = {'oracle': (oracle(bank, ks), exact), 'majority': (majority(bank, ks), exact)}
  if bank.logprob is not None:
    values['logprob'] = best_of(bank, bank.logprob, ks), exact
  return values


def scorer_outcomes(
  table: pd.DataFrame,
  scores: pd.DataFrame,
  ks: Sequence[int],
  stage: str,
  scorer: str,
  objective: str,
) -> pd.DataFrame:
  """Outcomes of the strategies that a scorer's scores of a bank allow, at each k.

  scores: problem, sample, score (0 or more), flops, and steps (a list of each response's) where
  `objective` is 'process'. Another objective X has best_of_X and weighted_X. BadInput where a
  sample of the bank has no score.
  """
  bank = pool(table)
  scores = match(bank, scores)
  flops = scores['flops'].to_numpy(np.float64).reshape(bank.correct.shape)
  return pool_outcomes(bank, scored(bank, scores, objective, ks), ks, stage, scorer, flops)


def match(bank: Pool, scores: pd.DataFrame) -> pd.DataFrame:
  """The scores of a pool's samples, in its order, P x n rows. BadInput where one has none."""
  P, n = bank.correct.shape
  wanted = pd.DataFrame({'problem': np.repeat(bank.problems, n), 'sample': bank.samples.ravel()})
  found = wanted.merge(scores, on=['problem', 'sample'], how='left', validate='1:1')
  lost = found['score'].isna()
  if lost.any():
    first = found[lost].iloc[0]
    raise BadInput(
      f'scores: {lost.sum()} of {P * n} samples have none, the first problem {first["problem"]!r} '
      f'sample {first["sample"]}; score the whole bank'
    )
  return found


def scored(bank: Pool, scores: pd.DataFrame, objective: str, ks: Sequence[int]) -> dict:
  """strategy -> (value, error) [P, K] that rank or weigh by scores, as `match` has them."""
  if objective == 'process':
    ranked = {f'prm_{how}': aggregate(scores['steps'], how) for how in AGGREGATES}
    names = {name: (name, f'weighted_{name}') for name in ranked}
  else:
    ranked = {objective: scores['score'].to_numpy(np.float64)}
    names = {objective: (f'best_of_{objective}', f'weighted_{objective}')}
  values, exact = {}, np.zeros((len(bank.problems), len(ks)))
  for name, score in ranked.items():
    score = score.reshape(bank.correct.shape)
    best, vote = names[name]
    values[best] = best_of(bank, score, ks), exact
    values[vote] = weighted(bank, score, ks)
  return values


def pool_outcomes(
  bank: Pool,
  values: dict,
  ks: Sequence[int],
  stage: str,
  scorer: str = '',
  scorer_flops: np.ndarray | None = None,
) -> pd.DataFrame:
  """Outcomes of strategies whose values are {name: (value [P, K], error [P, K])}, with their cost.

  scorer_flops: [P, n], of each sample.
  """
  P, K = len(bank.problems), len(ks)
  each = lambda per_problem: np.repeat(per_problem, K)
  k = np.tile(np.asarray(ks, np.int64), P)
  means = lambda per_sample: each(per_sample.mean(axis=1))
  cost = {
    'samples': k.astype(np.float64),
    'prefill_tokens': each(bank.prompt_tokens),
    'decode_tokens': k * means(bank.lengths),
    'prefill_flops': each(bank.prefill_flops),
    'decode_flops': k * means(bank.decode_flops),
    'scorer_flops': 0.0 if scorer_flops is None else k * means(scorer_flops),
  }
  tables = [
    pd.DataFrame(
      {'stage': stage, 'problem': each(np.array(bank.problems, object)), 'strategy': name}
      | {'scorer': scorer, 'k': k, 'run': 0, 'value': value.ravel(), 'error': error.ravel()}
      | cost
    )
    for name, (value, error) in values.items()
  ]
  return pd.concat(tables, ignore_index=True)[list(OUTCOMES)]


def summary(outcomes: pd.DataFrame) -> list[dict]:
  """A row of measurements for each (strategy, scorer, k) of outcomes, as records hold them.

  value: the mean over problems of the mean over runs; stderr: over problems, which carries the
  sampling noise along; the cost of a query of each kind; problems.
  """
  runs = ['problem', 'run']
  rows = []
  for (strategy, scorer, k), group in outcomes.groupby(['strategy', 'scorer', 'k'], sort=False):
    if group.duplicated(runs).any():
      raise BadInput(f'outcomes: {strategy} at k = {k} has a problem and run twice')
    by_problem = group.groupby('problem', sort=False).mean(numeric_only=True)
    value, stderr = estimators.mean_and_stderr(by_problem['value'])
    flops = {f'query_{kind}_flops': float(by_problem[f'{kind}_flops'].mean()) for kind in KINDS}
    rows.append(
      {'strategy': strategy, 'scorer': scorer, 'k': int(k), 'problems': len(by_problem)}
      | {'value': float(value), 'stderr': float(stderr)}
      | flops
    )
  return rows
