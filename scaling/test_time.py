"""Reward models and searches, expanded from `config.scorers` and `config.search` into stages.

    branch -> sample (of the reward pool) -> preference (a reward model; 'process': of rollouts)
           |-> sample (on the test problems) -> score
           |-> search

They stand beside the branch of the largest SFT budget; searches, if asked, behind RL too.
"""

import itertools
from collections.abc import Callable

from ml_collections import ConfigDict

from scaling import branches, fields
from scaling.data import preferences
from scaling.errors import require
from scaling.rewards.reward_model import OBJECTIVES
from scaling.stages import search


def scorers_of(c: ConfigDict) -> list[str]:
  """The names, 'OBJECTIVE SIZE', of the reward models of a study."""
  return [f'{o} {size}' for o, size in itertools.product(c.scorers.objectives, c.scorers.sizes)]


def check(c: ConfigDict) -> None:
  """BadInput for reward models, or a search, that cannot be."""
  for name in c.scorers.objectives:
    require(
      name in OBJECTIVES,
      f'config.scorers.objectives: unknown {name!r}; {fields.near(name, OBJECTIVES)}',
    )
  for key in ('scorers.sizes', 'scorers.policies', 'search.policies'):
    section, field = key.split('.')
    for size in c[section][field]:
      require(size in c.model.sizes, f'config.{key}: {size!r} is not among config.model.sizes')
  if c.scorers.objectives:
    require(
      bool(c.scorers.sizes) and bool(c.scorers.policies),
      'config.scorers.objectives is set: say which reward models, in config.scorers.sizes, and of '
      'whose samples, in config.scorers.policies',
    )
    require(
      bool(c.scorers.pairs) or c.data.reward_problems >= 10,
      f'config.data.reward_problems is {c.data.reward_problems}: reward models learn from problems '
      'of their own, set at least 10',
    )
    require(
      c.data.reward_problems % c.sample.block_prompts == 0,
      f'config.sample.block_prompts ({c.sample.block_prompts}) does not divide '
      f'config.data.reward_problems ({c.data.reward_problems}): each part must be whole',
    )
  require(
    not c.scorers.pairs or tuple(c.scorers.objectives) == ('pairs',),
    "config.scorers.pairs is a file for objective 'pairs', and config.scorers.objectives is "
    f"{c.scorers.objectives}: set it to ('pairs',)",
  )
  require(
    'process' not in c.scorers.objectives or not c.sample.stop,
    "config.sample.stop is set, and the roll-outs of 'process' in config.scorers.objectives end at "
    'the stop token alone, since a stop string may have begun before them: set it to (), or leave '
    "'process' out",
  )
  scorers = scorers_of(c)
  require(
    not c.search.scorer or c.search.scorer in scorers,
    f'config.search.scorer: {c.search.scorer!r} is not among those of config.scorers '
    f'({", ".join(scorers) or "there are none"})',
  )
  for text in c.search.strategies:
    fields.call(text)
  if c.search.strategies:
    require(
      bool(c.search.policies) and bool(c.search.budgets),
      'config.search.strategies is set: say which sizes search, in config.search.policies, and '
      'with which k, in config.search.budgets',
    )
    if c.search.scorer:
      for size in c.search.policies:
        require(
          size in c.scorers.policies,
          f'config.search.policies: {size!r} is not among config.scorers.policies, so there is no '
          'scorer of its samples',
        )


def expand(c: ConfigDict, ends: dict, add: Callable) -> dict:
  """Adds the reward models of one seed, what they score, and the searches.

  ends: branches.End of each size; add: of study.expand. Returns (policy, 'OBJECTIVE SIZE') ->
  (stage, its recipe, the stage that scores) of the reward models.
  """
  scorers = {}
  for policy in c.scorers.policies if c.scorers.objectives else ():
    end = ends[policy]
    bank = labels = None
    samples = c.data.reward_problems * c.scorers.n
    if c.scorers.pairs:
      samples = 2 * len(preferences.read(c.scorers.pairs).pairs)
    else:
      drawn = branches.sampled(c, 'reward', c.data.reward_problems, c.scorers.n, False)
      bank = add('sample', end.branch, f'{end.name}: bank for reward models', **end.common, **drawn)
    if 'process' in c.scorers.objectives:
      labels = add(
        'rollouts', end.branch, f'{end.name}: roll-outs from steps', **end.common, bank=bank,
        per_problem=c.scorers.per_problem, n=c.scorers.rollouts, temperature=c.sample.temperature,
        response_tokens=c.sample.response_tokens, block_prompts=c.sample.block_prompts,
        block_samples=c.scorers.rollouts, block_rows=c.scorers.rollouts, **branches.truncated(c),
      )  # fmt: skip
    for size in c.scorers.sizes:
      scorer = ends[size]
      rewarding = scorer.common | {'model': scorer.common['model'] | {'head': 'scalar'}}
      for objective in c.scorers.objectives:
        label = f'{objective} reward model {size} of {end.name}'
        recipe = rewarding | dict(
          objective=objective, bank=bank, labels=labels if objective == 'process' else None,
          rows=c.scorers.rows, epochs=c.scorers.epochs,
          learning_rate=c.scorers.learning_rate * scorer.width_rule,
          warmup=c.scorers.warmup_steps, held_out=c.scorers.held_out,
          samples=c.data.reward_problems * c.scorers.per_problem
          if objective == 'process' else samples,
        )  # fmt: skip
        if c.scorers.pairs:
          recipe['pairs'] = preferences.identity(c.scorers.pairs)
        trained = add('preference', scorer.branch, label, **recipe)
        scored = add(
          'score', end.bank, f'{end.name}: scored by {objective} {size}', **end.common,
          scorer=trained, block_rows=c.scorers.rows, samples=c.data.test_problems * c.sample.n,
        )  # fmt: skip
        scorers[policy, f'{objective} {size}'] = trained, recipe, scored
  for policy in c.search.policies:
    end = ends[policy]
    add_searches(c, policy, end.common, end.branch, end.name, scorers, add)
  return scorers


def add_searches(c: ConfigDict, size: str, common: dict, of: str, name: str, scorers, add) -> None:
  """Adds the searches of the model that stage `of` leaves."""
  for text in c.search.strategies:
    strategy, options = fields.call(text)
    recipe = common | dict(
      strategy=strategy,
      options=options,
      budgets=sorted(c.search.budgets),
      runs=c.search.runs,
      scorer=scorers.get((size, c.search.scorer), (None,))[0],
      temperature=c.search.temperature,
      response_tokens=c.search.response_tokens,
      problems=c.data.test_problems,
    )
    search.check(recipe)
    if not search.scored(recipe):  # it hangs on no reward model
      recipe['scorer'] = None
    add('search', of, f'{name}: {text}', **recipe)
