"""RL runs, expanded from `config.rl` into stages of a study.

    branch -> rl (updates 0 to a) -> rl (a to b) -> ...
               |-> sample, search     |-> sample, search      (on the test problems: measured)

A run is a call of an algorithm, with fields of config.rl that are its own. It is one run however
often it is measured, cut where it is.
"""

import itertools
from collections.abc import Callable

from ml_collections import ConfigDict

from scaling import branches, config, fields, losses, rounds, test_time
from scaling.data.attempts import CRITIQUES
from scaling.environments.checker import ENVIRONMENTS
from scaling.errors import require
from scaling.rewards.reward_model import OBJECTIVES

OF_STUDY = ('updates', 'sizes', 'sft_tokens', 'runs')  # fields of config.rl that are not of a run


def algorithm(c: ConfigDict) -> losses.Algorithm:
  """The algorithm of config.rl, with the fields that are set in it. BadInput for an unknown one."""
  require(
    c.rl.algorithm in losses.ALGORITHMS,
    f'config.rl.algorithm: unknown {c.rl.algorithm!r}; '
    f'{fields.near(c.rl.algorithm, losses.ALGORITHMS)}',
  )
  named = losses.ALGORITHMS[c.rl.algorithm]
  given = {name: c.rl[name] for name in named._fields if c.rl[name] is not None}
  return named._replace(**given)


def runs(c: ConfigDict) -> list[tuple[str, ConfigDict]]:
  """(what it is called, the config with its config.rl) of each of the RL runs of a study.

  BadInput for an option that is no field of config.rl, or of another type.
  """
  if not c.rl.updates:
    require(not c.rl.runs, 'config.rl.runs is set: say for how long, in config.rl.updates')
    return []
  found = []
  for text in c.rl.runs or (c.rl.algorithm,):
    name, options = fields.call(text, 'rl.runs', "dapo or grpo(group=4, reward='outcome 75k')")
    one = fields.with_fields(c, 'rl', text, options | {'algorithm': name}, OF_STUDY)
    found.append((text, one))
  return found


def check(c: ConfigDict) -> None:
  """BadInput for runs that cannot be."""
  for _, one in runs(c):
    _check(one)


def _check(c: ConfigDict) -> None:
  """BadInput for one run that cannot be."""
  require(
    bool(c.rl.sizes) and bool(c.rl.sft_tokens),
    'config.rl.updates is set: say where RL starts, in config.rl.sizes and config.rl.sft_tokens',
  )
  how = algorithm(c)
  require(
    c.rl.prompts % c.rl.minibatches == 0,
    f'config.rl.minibatches ({c.rl.minibatches}) does not divide config.rl.prompts '
    f'({c.rl.prompts}): each part must be whole',
  )
  for key, value, known in (
    ('loss', how.loss, losses.POLICY),
    ('advantage', how.advantage, [*losses.ADVANTAGES, 'gae']),
    ('average', how.average, losses.AVERAGES),
    ('zero_variance', how.zero_variance, ['keep', 'drop', 'resample']),
    ('curriculum', c.rl.curriculum, ['', 'pass_rate']),
    ('kl', c.rl.kl, ['k1', 'k2', 'k3']),
    ('kl_in', c.rl.kl_in, ['loss', 'reward']),
  ):
    require(value in known, f'config.rl.{key} is {value!r}: one of {", ".join(map(repr, known))}')
  require(
    c.rl.kl_coef == 0 or c.rl.kl_in == 'reward' or c.rl.kl != 'k1',
    "config.rl.kl is 'k1' as a term of the loss, where its gradient is 0 in expectation: take k2 "
    "or k3, or config.rl.kl_in='reward'",
  )
  require(
    c.rl.kl_target == 0 or c.rl.kl_coef > 0,
    'config.rl.kl_target is set and config.rl.kl_coef, which it starts from, is 0: set it',
  )
  require(
    c.rl.reward != 'none' or how.zero_variance != 'resample',
    "config.rl.reward is 'none', so no group has any variance, and config.rl.zero_variance "
    "'resample' (as dapo and scalerl have it) draws others in vain: set it to 'keep'",
  )
  require(
    c.rl.group >= 2 or how.advantage in ('gae', 'batch_mean'),
    f'config.rl.group is {c.rl.group}: a group baseline needs 2 or more',
  )
  require(
    how.overlong_cache < c.rl.response_tokens,
    f'config.rl.overlong_cache is {how.overlong_cache}: it must be less than '
    f'config.rl.response_tokens ({c.rl.response_tokens})',
  )
  require(c.rl.staleness <= 8, f'config.rl.staleness is {c.rl.staleness}: at most 8 updates ahead')
  prompts = c.rl.environments or c.data.rl_problems
  require(
    prompts <= c.data.rl_problems,
    f'config.rl.environments is {c.rl.environments}: at most config.data.rl_problems '
    f'({c.data.rl_problems})',
  )
  require(
    prompts >= c.rl.prompts,
    f'config.{"rl.environments" if c.rl.environments else "data.rl_problems"} is {prompts}: an '
    f'update draws config.rl.prompts ({c.rl.prompts}) of them, so give at least that many',
  )
  _check_turns(c)
  judges = [f'judge {size}' for size in c.model.sizes]
  known = ['verifier', 'none', *judges, *test_time.scorers_of(c)]
  objective, _, size = c.rl.reward.partition(' ')
  require(
    c.rl.reward in known or objective not in OBJECTIVES or size not in c.model.sizes,
    f'config.rl.reward is {c.rl.reward!r} and the study trains no such reward model: add '
    f'{objective!r} to config.scorers.objectives, {size!r} to config.scorers.sizes and the sizes '
    'that RL trains to config.scorers.policies, and set config.data.reward_problems, as '
    'experiments/reward_model_size.py does',
  )
  require(
    c.rl.reward in known,
    f'config.rl.reward: unknown {c.rl.reward!r}; {fields.near(c.rl.reward, known)}',
  )
  if c.rl.reward in judges:
    rounds.check_judge(c, judged=True)
  if c.rl.reward in test_time.scorers_of(c):
    for size in c.rl.sizes:
      require(
        size in c.scorers.policies,
        f'config.rl.reward is {c.rl.reward!r} and config.rl.sizes has {size!r}, which is not among '
        'config.scorers.policies: there is no reward model of its samples',
      )
  require(
    c.rl.reward == 'verifier' or c.rl.false_positive == c.rl.false_negative == 0,
    f'config.rl.false_positive and false_negative are of the verifier, and config.rl.reward is '
    f'{c.rl.reward!r}',
  )
  teachers = ['', *c.model.sizes, *(f'self {what}' for what in CRITIQUES)]
  require(
    c.rl.teacher in teachers,
    f'config.rl.teacher: unknown {c.rl.teacher!r}; {fields.near(c.rl.teacher, teachers)}',
  )
  require(
    c.rl.reward != 'none' or bool(c.rl.teacher),
    "config.rl.reward is 'none' and there is no config.rl.teacher: there is nothing to learn from",
  )


def _check_turns(c: ConfigDict) -> None:
  """BadInput for episodes of several turns that cannot be."""
  require(
    c.rl.environment in ENVIRONMENTS,
    f'config.rl.environment: unknown {c.rl.environment!r}; '
    f'{fields.near(c.rl.environment, ENVIRONMENTS)}',
  )
  if c.rl.turns == 1:
    return
  require(
    c.data.style != 'chat',
    f"config.rl.turns is {c.rl.turns} and config.data.style 'chat': episodes are not written in a "
    "chat template; take 'full' or 'short'",
  )
  require(
    c.rl.reward == 'verifier' and c.rl.false_positive == c.rl.false_negative == 0,
    f'config.rl.turns is {c.rl.turns}: the environment rewards an episode, so leave '
    "config.rl.reward 'verifier', without mistakes",
  )
  require(
    not c.rl.teacher.startswith('self '),
    f'config.rl.turns is {c.rl.turns} and config.rl.teacher {c.rl.teacher!r}: its critique is of '
    'one response',
  )


def recipe_of(c: ConfigDict) -> dict:
  """What the recipe of a run has of config.rl, with what its algorithm says of the fields not set.

  What such a run does not read is at its default, so that it is the same run whatever is set there.
  """
  how, given = algorithm(c), config.default().rl
  read = {
    ('gamma', 'gae_lambda', 'value_clip', 'critic_learning_rate'): how.advantage == 'gae',
    ('environment',): c.rl.turns > 1,
    ('least_accuracy',): c.rl.reward not in ('verifier', 'none'),
    ('teacher_coef',): bool(c.rl.teacher),
    ('kl', 'kl_in'): c.rl.kl_coef > 0,
  }
  unread = [name for names, it_does in read.items() if not it_does for name in names]
  recipe = {k: v for k, v in c.rl.items() if k not in OF_STUDY} | how._asdict()
  return recipe | {name: given[name] for name in unread}


def expand(c: ConfigDict, ends: dict, scorers: dict, add: Callable) -> None:
  """Adds the runs of one seed; arguments as of `rounds.expand`."""
  for called, one in runs(c):
    its, word = recipe_of(one), one.rl.reward.split()[0]
    for size, tokens in itertools.product(c.rl.sizes, c.rl.sft_tokens):
      end = ends[size]
      scorer = scorers.get((size, one.rl.reward), (None, None, None))
      recipe = its | dict(
        called=called,
        reference=end.branches[tokens],
        learning_rate=one.rl.learning_rate * end.width_rule,
        critic_learning_rate=its['critic_learning_rate'] * end.width_rule,
        scorer=scorer[0],
        scored=scorer[2] or (end.bank if word == 'judge' else None),
        grader=ends[one.rl.reward.split()[1]].branch if word == 'judge' else None,
        teaching=ends[one.rl.teacher].branch if one.rl.teacher in ends else None,
        **rounds.judging(c, word == 'judge'),
      )
      parent, done = end.branches[tokens], 0
      for updates in sorted(c.rl.updates):
        name = f'{end.name}: sft {tokens:,.0f}, {called} {updates} updates'
        parent = add('rl', parent, name, **end.common, start=done, stop=updates, **recipe)
        branches.measure(c, end.common, parent, name, add)
        if c.search.after_rl and size in c.search.policies:
          test_time.add_searches(c, size, end.common, parent, name, scorers, add)
        done = updates
