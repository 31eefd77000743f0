"""What a study would cost, before it runs: `run.py --plan` prints `describe`."""

import math
import time

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from scaling import checks, compute
from scaling.model.presets import PUBLIC
from scaling.stages import hosted
from scaling.stages import stage as stages
from scaling.stages.stage import Stage

# How long things were seen to take on two CPU cores (docs/lab-log.md): the part of the matmul peak
# that a stage's executed FLOPs reach, by the model's width, where it draws samples and where it
# does not; seconds that each stage adds; that the first of a kind and size adds, to compile; and
# that each banked response adds, to be verified.
EFFICIENCY_OF_WIDTH, EFFICIENCY_OF_ROWS, EFFICIENCY_CAP = 0.002, 0.005, 0.5
STAGE_SECONDS = 0.4
TRAINED = ('pretrain', 'sft', 'rl', 'dpo')  # kinds of stages that make the cells of a study
COMPILE_SECONDS = {
  'pretrain': 10.0,
  'sft': 2.0,
  'rl': 7.0,
  'dpo': 5.0,
  'sample': 2.5,
  'synthesize': 3.0,
  'prompts': 8.0,
  'rollouts': 3.0,
  'preference': 4.0,
  'score': 2.0,
  'search': 8.0,
}
RESPONSE_SECONDS = 1e-4
PARTS = {  # what the plan calls the parts of a study, and the kinds of stages that are of each
  'pretraining': ('pretrain',),
  'SFT': ('sft',),
  'RL': ('rl',),
  'DPO': ('dpo',),
  'banks': ('sample',),
  'searches': ('search',),
  'reward models': ('rollouts', 'preference', 'score'),
  'data of its own': ('prompts', 'synthesize'),
}
CALL_SECONDS = 2.0  # of a hosted model, several at a time


def estimate(stage: Stage) -> dict:
  """The ledger that a stage is planned to have.

  Rows are counted as full, of two segments each; responses as of their greatest length, and
  prompts as long as those.
  """
  if stage.kind == 'hosted':  # whose FLOPs nobody here knows
    return compute.empty()
  recipe, cfg = stage.recipe, stages.model(stage.recipe)
  if stage.kind in ('pretrain', 'sft'):
    width = recipe['data']['row_tokens']
    rows = (recipe['stop'] - recipe['start']) * recipe['rows']
    return compute.train(cfg, rows * width, rows * width * width / 4, rows, width)
  if stage.kind == 'dpo':
    width = recipe['data']['row_tokens']
    rows = recipe['most_pairs'] * recipe['epochs']
    read = rows * width, rows * width * width / 4, rows, width
    return compute.add(compute.score(cfg, *read), compute.train(cfg, *read))
  if stage.kind in ('preference', 'score'):
    return _rewarded(stage)
  if stage.kind == 'synthesize' and not _asked_again(recipe):
    return compute.empty()
  response = recipe['response_tokens'] * (recipe['turns'] if stage.kind == 'rl' else 1)
  updates = recipe['stop'] - recipe['start'] if stage.kind == 'rl' else 1
  P, n = _drawn(stage)
  drawn = compute.generate(
    cfg, [response] * P * updates, [[response] * n] * P * updates, response, response, response - 1
  )
  if stage.kind != 'rl':
    return drawn
  passed = compute.groups_passed([response] * P, [[response] * n] * P, response, response, True)
  scores = 1 + (recipe['kl_coef'] > 0 or recipe['measure_kl']) + bool(recipe['teacher'])
  passes = [compute.score_pass(cfg, *passed)] * scores
  passes += [compute.train_pass(cfg, *passed)] * recipe['epochs']
  if recipe['advantage'] == 'gae':  # a critic of the policy's size
    passes += passes
  return compute.add(drawn, *passes * updates)


STEPS = 3  # of a response, where their number matters to a plan and is not known before it is drawn


def _drawn(stage: Stage) -> tuple[int, int]:
  """(prompts, responses to each) that a stage samples; of RL, in each update."""
  recipe = stage.recipe
  if stage.kind == 'rl':
    return recipe['prompts'], recipe['group']
  if stage.kind == 'rollouts':
    return recipe['data']['reward'] * recipe['per_problem'] * STEPS, recipe['n']
  if stage.kind == 'synthesize':
    return recipe['problems'], _asked_again(recipe)
  if stage.kind == 'prompts':
    return recipe['problems'] * recipe['draws'], recipe['n'] + (recipe['source'] == 'reverse')
  if stage.kind == 'search':
    return recipe['problems'] * recipe['runs'], sum(recipe['budgets'])
  return recipe['problems'], recipe['n']


def _asked_again(recipe: dict) -> int:
  """Responses that a stage of kind synthesize draws for each problem, at the most."""
  return recipe['rationalise'] + (recipe['n'] if recipe['keep'] == 'revised' else 0)


def _rewarded(stage: Stage) -> dict:
  """The ledger of reading so many responses with a reward model, to learn from them or to score."""
  recipe, width = stage.recipe, stage.recipe['data']['row_tokens']
  if stage.kind == 'score':
    rows = recipe['samples']
    scored = compute.score(stages.model(recipe), rows * width / 2, rows * width**2 / 8, rows, width)
    return {
      count: compute.empty()[count] | {'reward_model': compute.total(scored, count)}
      for count in scored
    }
  rows = recipe['samples'] * recipe['epochs'] * (1 - recipe['held_out'])
  return compute.train(stages.model(recipe), rows * width / 2, rows * width**2 / 8, rows, width)


def sharing(tree: list[Stage]) -> tuple[float, float]:
  """(model FLOPs of training as planned, as independent runs): each measured cell run alone.

  Cells are the parents of banks; alone, each would train along its whole path.
  """
  by_id = {stage.id: stage for stage in tree}
  cost = {s.id: compute.total(estimate(s)) for s in tree if s.kind in TRAINED}
  cells = {s.parent for s in tree if s.kind == 'sample'}

  def path(stage_id) -> set:
    if stage_id is None:
      return set()
    stage = by_id[stage_id]  # one that learns from examples needs whoever drew them, too
    return {stage_id} | path(stage.parent) | path(stage.recipe.get('synthetic'))

  alone = sum(cost.get(stage_id, 0.0) for cell in cells for stage_id in path(cell))
  return sum(cost.values()), alone


def shares(tree: list[Stage]) -> dict[str, float]:
  """The share of each part of a study (PARTS) in the model FLOPs of all of it."""
  cost = {part: 0.0 for part in PARTS}
  for stage in tree:
    (part,) = (part for part, kinds in PARTS.items() if stage.kind in kinds)
    cost[part] += compute.total(estimate(stage))
  return {part: flops / sum(cost.values()) for part, flops in cost.items() if flops}


def matmul_peak(size: int = 1024, repeats: int = 5) -> float:
  """FLOPs a second of a square float32 matmul: the best of a few."""
  x = jnp.ones((size, size))
  multiply = jax.jit(lambda x: x @ x)
  multiply(x).block_until_ready()
  times = []
  for _ in range(repeats):
    began = time.monotonic()
    multiply(x).block_until_ready()
    times.append(time.monotonic() - began)
  return 2 * size**3 / min(times)


def seconds(tree: list[Stage], peak: float) -> dict[str, float]:
  """Estimated wall time of each stage, by id; the first of a kind and size pays for compiling."""
  compiled, result = set(), {}
  for stage in tree:
    recipe = stage.recipe
    if stage.kind == 'hosted':
      result[stage.id] = CALL_SECONDS * hosted.most(recipe)[0]
      continue
    rows_alone = stage.kind in ('pretrain', 'sft', 'dpo', 'preference', 'score')
    rate = EFFICIENCY_OF_ROWS if rows_alone else EFFICIENCY_OF_WIDTH
    efficiency = min(rate * recipe['model']['d_model'], EFFICIENCY_CAP)
    work = compute.total(estimate(stage), 'executed') / (peak * efficiency)
    if stage.kind in ('sample', 'rollouts', 'search', 'synthesize', 'prompts'):
      work += RESPONSE_SECONDS * math.prod(_drawn(stage))
    program = stage.kind, recipe['preset']
    first = COMPILE_SECONDS[stage.kind] if program not in compiled else 0.0
    compiled.add(program)
    result[stage.id] = STAGE_SECONDS + first + work
  return result


def human(value: float, unit: str = '') -> str:
  """1234567 -> '1.23M': three digits and a letter."""
  for power, letter in ((1e18, 'E'), (1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= power:
      return f'{value / power:.3g}{letter}{unit}'
  return f'{value:.3g}{unit}'


def duration(seconds: float) -> str:
  """5400 -> '1.5 h': seconds, minutes, hours or days."""
  for size, unit in ((86400, 'days'), (3600, 'h'), (60, 'min')):
    if seconds >= 2 * size:
      return f'{seconds / size:,.{int(seconds < 10 * size)}f} {unit}'
  return f'{seconds:.0f} s'


def _half_width(problems: int) -> str:
  """The half width of the 95 % interval of an accuracy on so many problems, one of 50 %."""
  return f'accuracy ± {98 / math.sqrt(problems):.2g} points at most (95 %)'


def _describe_hosted(c: ConfigDict, tree: list[Stage], workdir=None) -> str:
  """`describe` of a model behind an API: calls, tokens and money at the most."""
  lines = [f'study {c.name}: {c.data.task}', '']
  for s in tree:
    calls, money = hosted.most(s.recipe)
    about = [f'{calls:,} calls at the most']
    about.append(f'up to {c.hosted.max_tokens:,} output tokens a response')
    if money:
      about.append(f'{money:.4g} in money for output at the most, input not counted')
    about.append(_half_width(s.recipe['problems']))
    if workdir is not None and stages.done(workdir, s.id) is not None:
      about.append('done')
    lines += [f'{s.label}  [{s.id}]', f'    {", ".join(about)}']
    if s.recipe['judge']:
      lines.append(f'    judged by {s.recipe["judge"]["model"]} ({s.recipe["judge"]["method"]})')
  caps = [f'{c.hosted.cap_tokens:,} tokens'] * bool(c.hosted.cap_tokens)
  caps += [f'{c.hosted.cap_money:g} in money'] * bool(c.hosted.cap_money)
  lines += ['', 'model FLOPs: 0 here; those of a hosted model are not known']
  capped = f'it stops before it goes beyond {" or ".join(caps)}'
  lines.append(capped if caps else 'no cap: set config.hosted.cap_tokens or cap_money')
  return '\n'.join(lines)


def describe(c: ConfigDict, tree: list[Stage], workdir=None) -> str:
  """The tree of stages with parameters, tokens, FLOPs and seconds, and the totals.

  Stages that are done in the workdir are marked, and their time is not counted.
  """
  if c.hosted.model:
    return _describe_hosted(c, tree, workdir)
  peak = matmul_peak()
  done = {s.id for s in tree if workdir is not None and stages.done(workdir, s.id) is not None}
  time_of = seconds([s for s in tree if s.id not in done], peak)
  have = jax.device_count()
  need = math.prod(checks.axes(c, have).values())
  lines = [f'study {c.name}: {c.data.task}']
  public = [size for size in c.model.sizes if not c.init_from and size in PUBLIC]
  if public:
    lines[0] += f'; {", ".join(public)} from random parameters (config.init_from is empty)'
  lines.append('')

  def about(s: Stage) -> list[str]:
    words = [f'{human(compute.parameters(stages.model(s.recipe)).non_embedding)} parameters']
    if s.kind in ('pretrain', 'sft'):
      steps = s.recipe['stop'] - s.recipe['start']
      words.append(f'{human(steps * s.recipe["rows"] * s.recipe["data"]["row_tokens"])} tokens')
      if 'unique' in s.recipe:
        epochs = s.recipe['stop'] * s.recipe['rows'] / s.recipe['unique']
        words.append(f'{epochs:.3g} epochs at its end')
    elif s.kind == 'sample':
      words.append(_half_width(s.recipe['problems']))
    spent = estimate(s)['model'].items()
    words += [f'{kind} {human(flops, "FLOP")}' for kind, flops in spent if flops]
    if s.id in done:
      return [*words, 'done']
    return words + [duration(time_of[s.id])] * (need <= have)

  def visit(parent: str | None, depth: int) -> None:
    for s in tree:
      if s.parent == parent:
        lines.append(f'{"  " * depth}{s.label}  [{s.id}]')
        lines.append(f'{"  " * depth}    {", ".join(about(s))}')
        visit(s.id, depth + 1)

  visit(None, 0)
  total = compute.add(*(estimate(s) for s in tree))
  planned, alone = sharing(tree)
  kinds = ', '.join(f'{k} {human(v)}' for k, v in total['model'].items() if v)
  time = f'about {duration(sum(time_of.values()))} here (matmul peak {human(peak, "FLOP/s")}), '
  time += 'and a minute for data and report'
  if need > have:
    time = (
      f'config.mesh needs {need} devices, here {"is" if have == 1 else "are"} {have}: not for this '
      'machine; of a TPU slice, --compile_for=TOPOLOGY says whether it fits, and how fast at best'
    )
  return '\n'.join(
    [
      *lines,
      '',
      f'{len(tree)} stages, {len(done)} of them done',
      f'model FLOPs: {kinds}; all {human(compute.total(total))} '
      f'(executed: {human(compute.total(total, "executed"))})',
      f'of these: {", ".join(f"{part} {share:.0%}" for part, share in shares(tree).items())}',
      f'training shared between cells: {human(planned)} FLOPs instead of {human(alone)} as '
      f'independent runs, {1 - planned / max(alone, 1):.0%} saved',
      *filter(None, [checks.idle(c, have)]),
      time,
    ]
  )
