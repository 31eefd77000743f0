"""Rounds of direct preference optimisation, expanded from `config.dpo` into stages of a study.

    branch -> sample (fresh, of the RL pool) -> dpo -> sample (on the test problems: measured)
                                                 |-> sample (fresh) -> dpo -> ...

The verifier on the test problems is what measures every round, whoever said which response was the
better: it is the frozen evaluator of policies that reward themselves.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from scaling import branches, config, fields, test_time
from scaling.data import preferences
from scaling.errors import require

FEEDBACK = (
  'verifier',
  'majority',
  'likelihood',
  'human',
  'self',
  'pairs',
)  # see scaling/stages/dpo.py
JUDGED_BY = ('verdict', 'words', 'pairs')  # see scaling/rewards/model_judge.py


def check(c: ConfigDict) -> None:
  """BadInput for rounds that cannot be."""
  if not c.dpo.feedback:
    return
  judges, scorers = [f'judge {size}' for size in c.model.sizes], test_time.scorers_of(c)
  known = [*FEEDBACK, *judges, *scorers]
  for name in c.dpo.feedback:
    words = f'config.dpo.feedback: unknown {name!r}; {fields.near(name, known)}'
    require(name in known, words)
  require(bool(c.dpo.sizes), 'config.dpo.feedback is set: say where, in config.dpo.sizes')
  for size in c.dpo.sizes:
    require(size in c.model.sizes, f'config.dpo.sizes: {size!r} is not among config.model.sizes')
    require(
      not set(scorers) & set(c.dpo.feedback) or size in c.scorers.policies,
      f'config.dpo.sizes: {size!r} is not among config.scorers.policies, so there is no reward '
      'model of its samples',
    )
  require(
    ('pairs' in c.dpo.feedback) == bool(c.dpo.pairs),
    "config.dpo.pairs names a file for feedback 'pairs': set both, or none",
  )
  check_judge(c, bool({'self', *judges} & set(c.dpo.feedback)))
  if tuple(c.dpo.feedback) != ('pairs',):
    _check_samples(c)


def check_judge(c: ConfigDict, judged: bool) -> None:
  """BadInput for an unknown way to judge; where a model is to judge, for one that never saw how."""
  require(
    c.dpo.judge_by in JUDGED_BY,
    f'config.dpo.judge_by is {c.dpo.judge_by!r}: one of {", ".join(map(repr, JUDGED_BY))}',
  )
  require(
    not judged or c.dpo.judge_by != 'verdict' or c.data.style != 'short' or c.data.attempts > 0,
    'config.data.attempts is 0, so no model was ever shown an attempt to judge: set it, say to '
    '0.25',
  )


def judging(c: ConfigDict, judged: bool) -> dict:
  """How a judge judges, for a recipe; what nobody reads there, since there is no judge or it writes
  no words, is at its default."""
  given = config.default().dpo
  by = c.dpo.judge_by if judged else given.judge_by
  return {
    'judge_by': by,
    'judge_tokens': c.dpo.judge_tokens if by == 'words' else given.judge_tokens,
  }


def pool_of(feedback: str) -> str:
  """Whose problems a round samples: against human solutions, those that SFT learned from."""
  return 'sft' if feedback == 'human' else 'rl'


def _check_samples(c: ConfigDict) -> None:
  for pool in {pool_of(feedback) for feedback in c.dpo.feedback if feedback != 'pairs'}:
    have = c.data[f'{pool}_problems']
    require(
      have is None or have >= c.dpo.problems,
      f'config.dpo.problems is {c.dpo.problems}, more than config.data.{pool}_problems ({have}): '
      'ask for fewer',
    )
  samples = min(c.sample.block_samples, c.dpo.n)
  for key, part, of, whole in (
    ('block_prompts', c.sample.block_prompts, 'problems', c.dpo.problems),
    ('block_samples', samples, 'n', c.dpo.n),
  ):
    require(
      whole % part == 0,
      f'config.sample.{key} ({part}) does not divide config.dpo.{of} ({whole}): each part must be '
      'whole',
    )
  fresh = c.dpo.fresh_scorer and c.dpo.rounds > 1
  require(
    not fresh or not any(name.startswith('process ') for name in c.dpo.feedback),
    'config.dpo.fresh_scorer: a process reward model needs roll-outs, which rounds do not make: '
    "set it to False, or take 'outcome'",
  )
  require(
    not fresh or not c.scorers.pairs or not set(test_time.scorers_of(c)) & set(c.dpo.feedback),
    'config.dpo.fresh_scorer: the reward model learned from config.scorers.pairs, and a file says '
    'nothing of fresh samples: set it to False',
  )


def expand(c: ConfigDict, ends: dict, scorers: dict, add: Callable) -> None:
  """Adds the rounds of one seed.

  ends: branches.End of each size; scorers: what test_time.expand returns; add: of study.expand.
  """
  for size in c.dpo.sizes if c.dpo.feedback else ():
    for feedback in c.dpo.feedback:
      scorer = scorers.get((size, feedback))
      chain(c, ends[size], feedback, scorer, ends, add, feedback)


def chain(c, end, by: str, scorer, ends, add, called: str) -> None:
  """Adds the rounds of one policy, end.branch, and the banks that measure them.

  by: of config.dpo.feedback, which the records name as `called`; scorer: of `expand`, or None.
  """
  policy, rounds = end.branch, 1 if by == 'pairs' else c.dpo.rounds
  for number in range(1, rounds + 1):
    label = f'{end.name}: dpo {called}, round {number}'
    if number > 1 and scorer is not None and c.dpo.fresh_scorer:
      scorer = _goes_on(c, end, policy, scorer, number, f'{label}: {by}', add)
    policy = _round(c, end, policy, by, called, number, label, ends, scorer, add)
    branches.measure(c, end.common, policy, label, add)


def _round(c, end, policy, by: str, called: str, number, label, ends, scorer, add) -> str:
  """Adds one round and the bank that it learns from; the id of its policy."""
  word, _, of = by.partition(' ')
  feedback = 'scorer' if scorer is not None else word
  recipe = dict(bank=None, scorer=None, grader=None, pairs=None, samples=0)
  most = c.dpo.problems * c.dpo.pairs_per_problem
  if feedback == 'pairs':
    recipe['pairs'] = preferences.identity(c.dpo.pairs)
    most = len(preferences.read(c.dpo.pairs).pairs)
  else:
    drawn = branches.sampled(c, pool_of(feedback), c.dpo.problems, c.dpo.n, False, number)
    recipe['bank'] = add('sample', policy, f'{label}: fresh samples', **end.common, **drawn)
    recipe['samples'] = c.dpo.problems * c.dpo.n
  if feedback == 'judge':
    recipe['grader'] = ends[of].branch
  if feedback == 'scorer':
    recipe['scorer'] = scorer[0]
  options = {name: c.dpo[name] for name in ('rows', 'epochs', 'beta', 'length_normalised')}
  options |= judging(c, feedback in ('self', 'judge'))
  given = config.default().dpo  # of what a round does not read
  options['held_out'] = (c.dpo if feedback == 'pairs' else given).held_out
  options['pairs_per_problem'] = (given if feedback == 'pairs' else c.dpo).pairs_per_problem
  return add(
    'dpo', policy, label, **end.common, **recipe, **options, called=called, feedback=feedback,
    most_pairs=most, warmup=c.dpo.warmup_steps,
    learning_rate=c.dpo.learning_rate * end.width_rule,
  )  # fmt: skip


def _goes_on(c, end, policy: str, scorer, number: int, label: str, add):
  """Adds a reward model that goes on from `scorer` on fresh samples of a policy: like `scorer`."""
  stage, recipe, _ = scorer
  drawn = branches.sampled(c, 'reward', c.data.reward_problems, c.scorers.n, False, number)
  bank = add('sample', policy, f'{label}: fresh samples', **end.common, **drawn)
  recipe = recipe | {'bank': bank}
  return add('preference', stage, label, **recipe), recipe, None
