"""Models that learn from samples, expanded from `config.synthetic` into stages of a study.

    branch -> sample (of the RL pool) -> synthesize -> sft (from the base, or on from the branch)
                                                        |-> sample (on the test problems: measured)
                                                        |-> sample -> synthesize -> sft -> ...

A run is a call of a recipe, with fields of config.synthetic that are its own. The samples are the
learner's own, or of a `teacher`, another size's largest SFT branch: a larger one is distillation,
a smaller one weak-to-strong generalisation (2312.09390). The verifier on the test problems measures
every round, whoever chose the examples.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from scaling import branches, fields, rounds, test_time
from scaling.data import new_prompts
from scaling.data.paths import DISTINCT
from scaling.errors import require
from scaling.stages import prompts


class Recipe(NamedTuple):
  """What config.synthetic says of the fields of the same name."""

  keep: str = 'correct'
  distinct: str = 'none'
  most: int = 0
  rationalise: int = 0
  start: str = 'base'
  accumulate: bool = False
  mix: float = 0.0
  rounds: int = 1
  pool: str = 'rl'


RECIPES = {
  'human': Recipe(keep='human', mix=1.0),  # the control: the SFT pool alone
  'gold': Recipe(keep='gold'),  # the pool's own solutions: what a perfect filter could give
  'unfiltered': Recipe(keep='all'),
  'rft': Recipe(distinct='equations', mix=0.5),  # 2308.01825
  'star': Recipe(most=1, rationalise=1, rounds=3),  # 2203.14465
  'rest_em': Recipe(most=10, rounds=3),  # 2312.06585
  'raft': Recipe(most=1, start='policy', rounds=3),  # 2304.06767
  'best_of_n': Recipe(keep='best', most=1, start='policy'),
  'majority': Recipe(keep='majority', start='policy'),  # 2210.11610
  'self_correction': Recipe(keep='revised', start='policy', mix=0.5),
  'spin': Recipe(keep='pairs', start='policy', rounds=3, pool='sft'),  # 2401.01335
}
# Of `keep`, beside the reward models of config.scorers; see scaling/stages/synthesize.py. 'human',
# and the 'pairs' of SPIN, make no examples: SFT on the SFT pool; DPO against its solutions.
KEEP = ('correct', 'all', 'majority', 'best', 'revised', 'gold', 'human')
ONCE = ('gold', 'human')  # what is the same in every round
OF_SPIN = ('problems', 'n', 'rounds')  # all that it reads; config.dpo has the rest
OF_STUDY = ('runs', 'sizes')  # fields of config.synthetic that are not of a run


def runs(c: ConfigDict) -> list[tuple[str, ConfigDict, Recipe]]:
  """(what it is called, the config with its config.synthetic, its recipe) of each run of a study.

  BadInput for a recipe that there is not, or an option that is no field, or of another type.
  """
  found = []
  for text in c.synthetic.runs:
    name, options = fields.call(text, 'synthetic.runs', 'rft(n=8) or star')
    words = f'config.synthetic.runs: unknown {name!r}; {fields.near(name, RECIPES)}'
    require(name in RECIPES, words)
    others = [key for key in options if name == 'spin' and key not in OF_SPIN]
    require(
      not others,
      f'config.synthetic.runs has {text!r}: spin takes {", ".join(OF_SPIN)}; set others in '
      'config.dpo',
    )
    one = fields.with_fields(c, 'synthetic', text, options, OF_STUDY)
    given = {key: one.synthetic[key] for key in Recipe._fields}
    recipe = RECIPES[name]._replace(**{k: v for k, v in given.items() if v is not None})
    found.append((text, one, recipe))
  return found


def check(c: ConfigDict) -> None:
  """BadInput for runs that cannot be."""
  if not c.synthetic.runs:
    return
  require(bool(c.synthetic.sizes), 'config.synthetic.runs is set: say which sizes learn, in '
           'config.synthetic.sizes')  # fmt: skip
  for size in c.synthetic.sizes:
    words = f'config.synthetic.sizes: {size!r} is not among config.model.sizes'
    require(size in c.model.sizes, words)
  for text, one, recipe in runs(c):
    begun = f'config.synthetic.runs has {text!r}'
    if recipe == RECIPES['spin']._replace(rounds=recipe.rounds):
      _check_samples(one, recipe, begun)
    else:
      _check(one, recipe, begun)


def _check(c: ConfigDict, recipe: Recipe, begun: str) -> None:
  its, per_step = c.synthetic, c.sft.rows * c.data.row_tokens
  scorers = test_time.scorers_of(c)
  for key, known in (
    ('keep', (*KEEP, *scorers)),
    ('distinct', DISTINCT),
    ('start', ('base', 'policy')),
    ('pool', ('rl', 'sft')),
  ):
    value = getattr(recipe, key)
    require(value in known, f'{begun}: {key} is {value!r}; {fields.near(value, known)}')
  require(
    its.teacher in ('', *c.model.sizes),
    f'{begun}: teacher is {its.teacher!r}; {fields.near(its.teacher, c.model.sizes)}',
  )
  require(
    recipe.rounds == 1 or (not its.teacher and recipe.keep not in ONCE),
    f'{begun}: rounds is {recipe.rounds}, and what is learned is the same in every round: set it '
    'to 1',
  )
  require(
    its.tokens >= per_step,
    f'{begun}: tokens is {its.tokens:,.0f}, less than one batch of sft.rows x data.row_tokens = '
    f'{per_step:,}',
  )
  require(
    (recipe.mix == 1) == (recipe.keep == 'human'),
    f'{begun}: mix is {recipe.mix:g} and keep {recipe.keep!r}: a mix of 1 is human data alone, '
    "which is the recipe 'human'",
  )
  require(
    not (recipe.keep == 'revised' or recipe.rationalise)
    or c.data.style != 'short'
    or c.data.attempts > 0,
    f'{begun}: config.data.attempts is 0, so the model was never shown an attempt: set it, say to '
    '0.25',
  )
  require(
    recipe.rationalise == 0 or recipe.keep not in ('gold', 'human', 'revised'),
    f'{begun}: rationalise is {recipe.rationalise} and keep {recipe.keep!r}, which leaves no '
    'problem to be sampled again: set it to 0',
  )
  if recipe.keep in scorers:
    for size in (its.teacher,) if its.teacher else its.sizes:
      require(
        size in c.scorers.policies,
        f'{begun}: {size!r} is not among config.scorers.policies, so there is no reward model of '
        'its samples',
      )
  require(
    not c.sample.stop or not (recipe.keep == 'revised' or recipe.rationalise or its.prompts),
    f'{begun}: config.sample.stop is set, and second attempts and new prompts end at the stop '
    'token alone: set it to ()',
  )
  if recipe.keep != 'human':
    _check_samples(c, recipe, begun)
  if its.prompts:
    _check_prompts(c, recipe, begun)


def _check_prompts(c: ConfigDict, recipe: Recipe, begun: str) -> None:
  its = c.synthetic
  for key, known in (('prompts', prompts.SOURCES), ('valid', prompts.VALID)):
    value = its[key]
    require(value in known, f'{begun}: {key} is {value!r}; {fields.near(value, known)}')
  require(
    recipe.keep not in ('human', 'pairs'),
    f'{begun}: prompts is {its.prompts!r} and keep {recipe.keep!r}, which samples no new problem: '
    "set prompts to ''",
  )
  require(
    recipe.keep != 'gold' or its.valid == 'verifier',
    f"{begun}: keep is 'gold' and valid 'majority': only a task's grammar has solutions",
  )
  why = new_prompts.check(c.data.task)
  require(
    why is None or (its.prompts != 'evolve' and its.valid == 'majority'),
    f"{begun}: {why}: take prompts='reverse' or 'instruct', and valid='majority'",
  )
  require(
    its.prompts != 'instruct' or c.data.style != 'short',
    f"{begun}: prompts is 'instruct' and config.data.style 'short': set 'full' or 'chat', and take "
    'a model that follows words (config.init_from)',
  )
  require(
    its.prompts != 'reverse' or c.data.reversed > 0 or c.init_from != '',
    f"{begun}: prompts is 'reverse' and config.data.reversed 0, so the model was never shown a "
    'solution to write the prompt of: set it, say to 0.25',
  )
  require(
    its.pass_low <= its.pass_high,
    f'{begun}: pass_low is {its.pass_low:g} and pass_high {its.pass_high:g}: swap them',
  )


def _check_samples(c: ConfigDict, recipe: Recipe, begun: str) -> None:
  its, pool = c.synthetic, f'data.{recipe.pool}_problems'
  have = c.data[f'{recipe.pool}_problems']
  require(
    have is None or its.problems <= have,
    f'{begun}: problems is {its.problems}, more than config.{pool} ({have}): ask for fewer',
  )
  for key, part, of, whole in (
    ('block_prompts', c.sample.block_prompts, 'problems', its.problems),
    ('block_samples', min(c.sample.block_samples, its.n), 'n', its.n),
  ):
    require(
      recipe.keep == 'gold' or whole % part == 0,
      f'{begun}: config.sample.{key} ({part}) does not divide {of} ({whole}): each part must be '
      'whole',
    )


def expand(c: ConfigDict, ends: dict, scorers: dict, add: Callable) -> None:
  """Adds the runs of one seed; arguments as of `rounds.expand`."""
  for text, one, recipe in runs(c):
    for size in c.synthetic.sizes:
      if recipe.keep == 'pairs':
        its = one.copy_and_resolve_references()
        its.dpo.update(problems=one.synthetic.problems, n=one.synthetic.n, rounds=recipe.rounds)
        rounds.chain(its, ends[size], 'human', None, ends, add, text)
      else:
        teacher = ends[one.synthetic.teacher or size]
        _chain(one, recipe, text, ends[size], teacher, scorers, add)


def _chain(c, recipe: Recipe, text: str, learner, teacher, scorers, add) -> None:
  """Adds the rounds of one run. learner, teacher: branches.End; the same, where a model teaches
  itself, and then each round's policy is the next one's teacher."""
  of_self, policy, source, made = teacher is learner, learner.branch, teacher.branch, None
  for number in range(1, recipe.rounds + 1):
    label = f'{learner.name}: {text}' + (f', round {number}' if recipe.rounds > 1 else '')
    if recipe.keep != 'human':
      by = learner.base if recipe.keep == 'gold' else source  # solutions are nobody's samples
      made = _examples(c, recipe, label, number, teacher, by, made, scorers, add)
    parent = learner.base if recipe.start == 'base' else policy
    policy = _train(c, recipe, text, label, number, learner, parent, made, add)
    source = policy if of_self else source
    branches.measure(c, learner.common, policy, label, add)


def _examples(c, recipe, label, number, teacher, source, earlier, scorers, add) -> str:
  """Adds the bank of a round and the stage that makes examples of it; the id of that one."""
  its, bank = c.synthetic, None
  scorer = scorers.get((teacher.common['preset'], recipe.keep), (None,))[0]
  made = _new_prompts(c, recipe, label, teacher, source, add)
  if recipe.keep != 'gold':
    drawn = branches.sampled(c, recipe.pool, its.problems, its.n, False, number)
    drawn |= {'temperature': its.temperature, **made}
    bank = add('sample', source, f'{label}: samples', **teacher.common, **drawn)
  return add(
    'synthesize', source, f'{label}: examples', **teacher.common, bank=bank, scorer=scorer,
    earlier=earlier if recipe.accumulate else None, pool=recipe.pool, problems=its.problems,
    n=its.n, keep='scorer' if scorer else recipe.keep, distinct=recipe.distinct, most=recipe.most,
    rationalise=recipe.rationalise, temperature=its.temperature,
    response_tokens=c.sample.response_tokens, round=number, **branches.truncated(c), **made,
  )  # fmt: skip


def _new_prompts(c, recipe, label, teacher, source, add) -> dict:
  """What recipes have beside their pool where problems are new ones; adds the stage of those."""
  its = c.synthetic
  if not its.prompts:
    return {}
  made = add(
    'prompts', source, f'{label}: new prompts', **teacher.common, source=its.prompts,
    pool=recipe.pool, problems=its.problems, draws=its.draws, n=its.judged, valid=its.valid,
    agreement=its.agreement, pass_low=its.pass_low, pass_high=its.pass_high,
    temperature=its.temperature, response_tokens=c.sample.response_tokens, **branches.truncated(c),
  )  # fmt: skip
  return {'prompts': made}


def _train(c, recipe, text, label, number, learner, parent, made, add) -> str:
  """Adds the stage of SFT of a round; the rate falls to 0 at its end."""
  its, width = c.synthetic, c.data.row_tokens
  steps = max(1, round(its.tokens / (c.sft.rows * width)))
  unique = {'unique': round(max(c.sft.unique_tokens) / width)} if c.sft.unique_tokens else {}
  return add(
    'sft', parent, label, **learner.common, pool='sft', **unique, start=0, stop=steps, end=steps,
    decay=math.ceil(c.sft.decay * steps), measure=True, trunk='', rows=c.sft.rows,
    warmup=c.sft.warmup_steps, learning_rate=its.learning_rate * learner.width_rule,
    synthetic=made, mix=recipe.mix, called=text, round=number,
  )  # fmt: skip
