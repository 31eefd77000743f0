"""Stage `rl`: a policy learns from feedback on its own samples, from update `start` to `stop`.

An update: draw `group` responses to each of `prompts` prompts, reward them (`rewards.feedback`),
score them with the learner (old log-probs), and go over them `epochs` times in `minibatches`
optimiser steps each. What is learned is an entry of losses.ALGORITHMS with its fields changed. With
`staleness` k an update learns from samples of the policy k updates before, as where generation runs
ahead. A run is a chain of such stages, cut where it is measured; each goes on from all that the one
before left: policy, critic, rollouts in flight, pass rates, the KL's weight.

With `turns` a response is an episode (`scaling.environments`): the policy's turns and, between
them, what the environment says, which is read and not learned.

Axes: P prompts, G responses of each, R response width, N prompts of the pool.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scaling import (
  checkpoint,
  compute,
  losses,
  processes,
  rollouts,
  sharding,
  train_step,
)
from scaling.data import batches
from scaling.environments import environment
from scaling.environments.checker import ENVIRONMENTS
from scaling.errors import BadInput
from scaling.rewards import feedback, teacher
from scaling.rollouts import Rollouts
from scaling.stages import answers, audit, carried, synthesize, teachers
from scaling.stages import sample as sampling
from scaling.stages import stage as stages
from scaling.stages.carried import Side

WATCHED = ('loss', 'reward', 'gold', 'entropy', 'zero_variance', 'response_length')  # on the board
# Draws of prompts for one update, at most, where groups without variance are replaced.
RESAMPLED = 8


class Tools(NamedTuple):
  """What a stage's updates are made with."""

  recipe: dict
  cfg: object  # of the policy
  critic_cfg: object  # of the critic, or None
  how: object  # Mechanics
  mesh: object
  vocab: object
  style: str
  problems: list
  prompt_tokens: int  # columns of a padded prompt
  shared: bool  # prompts go once through the learner: rollouts.layout
  answer: Callable  # of stages.answers
  score: Callable
  train: Callable
  critic_score: Callable | None
  critic_train: Callable | None
  reference: dict | None  # parameters
  audited: dict  # the ledger of the audit of what rewards, made before the first update
  teacher: teacher.Teacher | None
  room: int  # tokens of what a teacher that is the policy itself reads before a response


def _reward(setting: stages.Setting, stage: stages.Stage, data) -> tuple[Callable, dict]:
  """(what rewards a response, the ledger of its audit). BadInput for a model that is too often
  wrong."""
  recipe, audited = stage.recipe, compute.empty()
  word = recipe['reward'].split()[0]
  if word == 'verifier':
    wrong = recipe['false_positive'], recipe['false_negative']
    return feedback.by_verifier(recipe['seed'], *wrong), audited
  if word == 'none':
    return feedback.nothing(), audited
  if word == 'judge':
    how = recipe['judge_by'], recipe['judge_tokens']
    says = teachers.judging(setting, recipe['grader'], data, *how)
    if recipe['least_accuracy'] > 0 and recipe['start'] == 0:
      problems = batches.problems(data.folder, 'test')
      audited = audit.gate_judge(setting, stage, problems, says)
  else:
    if recipe['least_accuracy'] > 0 and recipe['scored'] is not None:
      audit.gate(setting.workdir, recipe['scored'], recipe['least_accuracy'])
    says = teachers.rewarding(setting, recipe['scorer'])
  return feedback.by_model(says, recipe['reward']), audited


def _teacher(setting: stages.Setting, recipe: dict, cfg, how) -> teacher.Teacher | None:
  if not recipe['teacher']:
    return None
  temperature = recipe['temperature']
  if recipe['teacher'].startswith('self '):
    width = recipe['data']['row_tokens']
    return teacher.of_self(cfg, setting.mesh, how, width, temperature)
  return teachers.load_teacher(setting, recipe['teaching'], recipe, temperature)


def tools_of(setting: stages.Setting, stage: stages.Stage) -> Tools:
  """The Tools of a stage. BadInput for what cannot run."""
  recipe, mesh = stage.recipe, setting.mesh
  how = stages.mechanics(setting.how, recipe, mesh)
  cfg, opt = stages.model(recipe), stages.optimizer(recipe)
  folder, data = stages.load_data(setting.workdir, recipe)
  check(recipe, how, mesh)
  check_room(recipe, data)
  loss, options, _ = loss_of(recipe)
  train = train_step.make_train_step(cfg, loss, options, opt, mesh, how)
  critic_cfg = critic_score = critic_train = reference = None
  if recipe['advantage'] == 'gae':
    critic_cfg = stages.model(recipe | {'model': recipe['model'] | {'head': 'scalar'}})
    critic_score = train_step.make_score(critic_cfg, mesh, how)
    clip = losses.ValueOptions(recipe['value_clip'])
    critic_train = train_step.make_train_step(critic_cfg, losses.value, clip, opt, mesh, how)
  if _has_kl(recipe) or recipe['measure_kl']:
    reference = stages.state_of(setting.workdir, recipe['reference'], mesh).params
  reward, audited = _reward(setting, stage, data)
  return Tools(
    recipe=recipe,
    cfg=cfg,
    critic_cfg=critic_cfg,
    how=how,
    mesh=mesh,
    vocab=data.vocab,
    style=data.spec['style'],
    problems=batches.problems(folder, 'rl')[: recipe['environments'] or None],
    prompt_tokens=sampling.prompt_width(data),
    shared=shares(how, mesh),
    answer=answers.make(recipe, data, cfg, mesh, how, reward),
    score=train_step.make_score(cfg, mesh, how),
    train=train,
    critic_score=critic_score,
    critic_train=critic_train,
    reference=reference,
    audited=audited,
    teacher=_teacher(setting, recipe, cfg, how),
    room=recipe['data']['row_tokens'] - recipe['response_tokens'],
  )


def check_room(recipe: dict, data: batches.Data) -> None:
  """BadInput where the episodes of a recipe may be longer than a row of its data."""
  if recipe['turns'] > 1:
    how = recipe['turns'], recipe['response_tokens'], data.spec['row_tokens']
    made = ENVIRONMENTS[recipe['environment']](data.spec['style'])
    environment.check_room(made, data.vocab, data.max_prompt_tokens, *how)


def _has_kl(recipe: dict) -> bool:
  """Whether a KL is part of what is learned, and not only measured."""
  return recipe['kl_coef'] > 0


def loss_of(recipe: dict) -> tuple[Callable, losses.PolicyOptions, tuple[str, ...]]:
  """(the loss, its options, the arrays of responses that it reads beside weights) of a recipe."""
  in_loss = recipe['kl_in'] == 'loss' and _has_kl(recipe)
  options = losses.PolicyOptions(
    recipe['clip_low'],
    recipe['clip_high'],
    recipe['kl'] if in_loss else '',
    recipe['entropy_coef'],
    recipe['importance_cap'],
  )
  reads = ('advantages', 'old_logp')
  reads += ('sampler_logp',) * bool(recipe['importance_cap'])
  reads += ('mask',) * (recipe['loss'] == 'sequence_clipped')
  reads += ('reference_logp', 'kl_coef') * in_loss
  return losses.POLICY[recipe['loss']], options, reads


def shares(how, mesh) -> bool:
  """Whether a prompt goes once through the learner for all its responses: where attention is plain.
  The fused kernels take whole rows."""
  return how.attention == 'plain' and mesh.shape['sequence'] == 1


def check(recipe: dict, how, mesh) -> None:
  """BadInput where the prompts of a minibatch do not split over the mesh and the microbatches."""
  if not shares(how, mesh):
    return  # whole rows do, which config.batches_of has
  part, name = recipe['prompts'] // recipe['minibatches'], 'config.rl.prompts / minibatches'
  if part % how.microbatches:
    raise BadInput(
      f'{name} is {part}: config.mechanics.microbatches ({how.microbatches}) must divide it'
    )
  sharding.check_rows(mesh, part // how.microbatches, f'{name} / mechanics.microbatches')


def draw(tools: Tools, params: dict, update: int, side: Side, key) -> tuple[Rollouts, Side, dict]:
  """(rewarded Rollouts of one update, the Side after it, its ledger) by the policy of `params`.

  With zero_variance 'resample' prompts are drawn until P of them have responses of different
  rewards, RESAMPLED times at most; then some of those without stay in.
  """
  recipe, ledger, kept, tally = tools.recipe, compute.empty(), [], np.zeros(5)
  P = recipe['prompts']
  resample = recipe['zero_variance'] == 'resample'
  for _ in range(RESAMPLED if resample else 1):
    chosen = rollouts.choose(
      recipe['seed'], side.cursor, P, side.rates, recipe['curriculum'], recipe['drop_passed']
    )
    problems = [tools.problems[i] for i in chosen]
    found = tools.answer(params, side.cursor, problems, key)
    ledger, got = compute.add(ledger, found.ledger), found.reward
    rates = rollouts.passed(side.rates, chosen, got.rewards)
    side = side._replace(cursor=side.cursor + 1, rates=rates)
    varied = got.rewards.std(axis=1) > 0
    tally += P, (~varied).sum(), got.no_verdict, got.rewards.mean(), got.gold.mean()
    arrays = chosen, *found[: answers.Answers._fields.index('reward')], got.rewards, got.gold
    kept.append((varied, [np.asarray(x) for x in arrays]))
    if not resample or sum(v.sum() for v, _ in kept) >= P:
      break
  tally[3:] /= len(kept)
  varied = np.concatenate([v for v, _ in kept])
  take = np.sort(np.argsort(~varied, kind='stable')[:P]) if resample else np.arange(P)
  arrays = [np.concatenate(parts)[take] for parts in zip(*(x for _, x in kept), strict=True)]
  return Rollouts(*arrays, np.int64(update), tally), side, ledger


def _teach(tools: Tools, params: dict, taken: Rollouts, prompts, lengths) -> tuple:
  """(the teacher's log-prob of each token of the responses [P, G, R], ledger)."""
  batch = rollouts.assemble(prompts, lengths, taken)
  problems = [tools.problems[i] for i in taken.chosen]
  what = tools.recipe['teacher'].removeprefix('self ')
  if what != tools.recipe['teacher']:
    texts = rollouts.texts(tools.vocab, taken)
    batch |= teacher.critiques(
      tools.vocab, tools.style, what, problems, texts, taken.gold > 0, tools.room
    )
  logp = np.zeros(taken.tokens.shape, np.float32)
  logp[rollouts.mask_of(taken)] = tools.teacher.logp(params, batch)[batch['mask']]
  return logp, tools.teacher.cost(batch)


def advantages_of(tools: Tools, taken: Rollouts, old_logp, reference_logp, kl_coef, values):
  """(advantages [P, G, R], returns [P, G, R] or None) of the rewards, all penalties put in."""
  recipe, mask = tools.recipe, taken.own
  R, (_, longest) = mask.shape[2], rollouts.turns_of(taken.own)
  most, cache = recipe['response_tokens'], recipe['overlong_cache']
  rewards = taken.rewards + losses.overlong_penalty(longest, most, cache)
  penalty = np.zeros(mask.shape)
  if recipe['kl_in'] == 'reward' and _has_kl(recipe):
    kl = np.asarray(losses.kl_estimate(recipe['kl'], old_logp, reference_logp), np.float64)
    penalty = np.where(mask, kl_coef * kl, 0.0)
  if recipe['advantage'] != 'gae':
    given = losses.ADVANTAGES[recipe['advantage']](rewards - penalty.sum(axis=2))
    return np.broadcast_to(given[..., None], mask.shape), None
  each = -penalty
  last = np.arange(R) == taken.lengths[..., None] - 1
  each = each + np.where(last, rewards[..., None], 0.0)
  flat = lambda x: x.reshape(-1, R)
  advantages, returns = losses.gae(
    flat(each), flat(values), flat(mask), recipe['gamma'], recipe['gae_lambda']
  )
  advantages = losses.whiten(advantages, flat(mask))
  return advantages.reshape(mask.shape), returns.reshape(mask.shape)


def learn(tools: Tools, state, side: Side, taken: Rollouts) -> tuple:
  """(state, Side, row of the training curve, ledger) of one update on these rollouts."""
  recipe, how, mesh = tools.recipe, tools.how, tools.mesh
  (P, G, R), mask = taken.tokens.shape, taken.own
  problems = [tools.problems[i] for i in taken.chosen]
  S = tools.prompt_tokens + -(tools.prompt_tokens + R) % mesh.shape['sequence']  # rows split evenly
  prompts, lengths, _ = batches.encode_prompts(problems, tools.vocab, S)
  laid = rollouts.layout(prompts, lengths, taken, tools.shared)
  where, temperature = sharding.batch(mesh), recipe['temperature']
  read = sharding.spread(where, laid.batch)
  said = lambda score, params: processes.gather(score(params, read, temperature))
  of = lambda score, params: laid.take(said(score, params))
  old_logp = of(tools.score, state.params)
  ledger = compute.score_pass(tools.cfg, *laid.passed)
  reference_logp = values = None
  if tools.reference is not None:
    reference_logp = of(tools.score, tools.reference)
    ledger = compute.add(ledger, compute.score_pass(tools.cfg, *laid.passed))
  if side.critic is not None:
    values = laid.take_states(said(tools.critic_score, side.critic.params))
    ledger = compute.add(ledger, compute.score_pass(tools.critic_cfg, *laid.passed))
  advantages, returns = advantages_of(tools, taken, old_logp, reference_logp, side.kl_coef, values)
  if tools.teacher is not None:
    taught, spent = _teach(tools, state.params, taken, prompts, lengths)
    advantages = advantages + recipe['teacher_coef'] * (taught - old_logp)
    ledger = compute.add(ledger, spent)

  counted = mask
  if recipe['zero_variance'] != 'keep' and tools.teacher is None:  # a teacher has a word on all
    counted = mask & (taken.rewards.std(axis=1) > 0)[:, None, None]
  extra = {
    'advantages': advantages,
    'old_logp': old_logp,
    'sampler_logp': taken.sampler_logp,
    'mask': mask,
    'reference_logp': reference_logp,
    'kl_coef': np.full(mask.shape, side.kl_coef),
  }
  batch = laid.batch | {name: laid.put(extra[name]) for name in loss_of(recipe)[2]}
  average = losses.AVERAGES[recipe['average']]
  critic, watched, M = side.critic, [], recipe['minibatches']
  step = int(state.step)
  warm = lambda peak: train_step.learning_rate(step, peak, recipe['warmup_steps'], None, 0)
  for epoch in range(recipe['epochs']):
    again = side.cursor * recipe['epochs'] + epoch
    order = np.arange(P) if epoch == 0 else batches.rl_prompts(recipe['seed'], again, P, P)
    for chosen in np.split(order, M):
      weigh = lambda mask, average=average, chosen=chosen: _spread(
        average(mask[chosen].reshape(-1, R).astype(np.float32), G), chosen, mask.shape
      )
      rows = rollouts.part(batch | {'weights': laid.put(weigh(counted))}, chosen, P)
      rows = sharding.spread(where, rows)
      state, metrics = tools.train(state, rows, warm(recipe['learning_rate']), temperature)
      watched.append(metrics)
      if critic is not None:
        told = {'returns': returns, 'old_values': values}
        told['weights'] = weigh(mask, losses.mean_over_tokens)
        told = {name: laid.put_states(x) for name, x in told.items()}
        rows = sharding.spread(where, rollouts.part(laid.batch | told, chosen, P))
        rate = warm(recipe['critic_learning_rate'])
        critic, metrics = tools.critic_train(critic, rows, rate, 1.0)
        watched[-1] = watched[-1] | {'value_loss': metrics['loss'], 'value': metrics['value']}
      step += 1
  chunked = 0 < how.loss_chunk < laid.batch['tokens'].shape[-1]
  for cfg in (tools.cfg, tools.critic_cfg):
    if cfg is not None:
      one = compute.train_pass(cfg, *laid.passed, how.remat, chunked)
      ledger = compute.add(ledger, *[one] * recipe['epochs'])
  watched = processes.gather(watched)
  row = {name: float(np.mean([w[name] for w in watched])) for name in watched[0]}
  drawn, flat, missing, reward, gold = taken.tally
  row |= {
    'reward': float(reward),
    'gold': float(gold),
    'zero_variance': float(flat / drawn),
    'prompts_drawn': float(drawn),
    'no_verdict': float(missing),
    'turns': float(rollouts.turns_of(mask)[0].mean()),
    'response_length': float(mask.sum(axis=2).mean()),
    'truncation_rate': float((~taken.stopped).mean()),
    'sampler_mismatch': float(np.abs(old_logp - taken.sampler_logp)[mask].mean()),
    'first_ratio_error': float(watched[0]['ratio_error']),
    'kl_coef': side.kl_coef,
  }
  kl_coef = side.kl_coef
  if reference_logp is not None:
    kl = np.asarray(losses.kl_estimate('k3', old_logp, reference_logp), np.float64)
    row['kl_of_response'] = float(np.where(mask, kl, 0).sum(axis=2).mean())
    if recipe['kl_target']:  # Ziegler et al., 1909.08593
      error = np.clip(row['kl_of_response'] / recipe['kl_target'] - 1, -0.2, 0.2)
      kl_coef = float(kl_coef * (1 + 0.1 * error))
  return state, side._replace(critic=critic, kl_coef=kl_coef), row, ledger


def _spread(weights_RxT, chosen, shape) -> np.ndarray:
  """The weights of some prompts at their places among all [P, G, R]."""
  whole = np.zeros(shape, np.float32)
  whole[chosen] = weights_RxT.reshape(len(chosen), *shape[1:])
  return whole


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Runs the updates, with rewards and all costs recorded for each."""
  recipe, tools = stage.recipe, tools_of(setting, stage)
  per_update = recipe['minibatches'] * recipe['epochs']
  state, meta, curve, side = carried.begin(setting, stage, tools.critic_cfg, len(tools.problems))
  ledger, update = meta['ledger'], int(state.step) // per_update
  if update == 0:
    ledger = compute.add(ledger, tools.audited)
  seconds, key = stages.stopwatch(meta), stages.key(recipe['seed'], 'rollouts')
  with stages.output(setting, stage, update) as out:
    critics = None
    if side.critic is not None:
      folder = stages.folder(setting.workdir, stage.id) / 'critic'
      critics = checkpoint.Manager(folder, keep=2)
    while update < recipe['stop']:
      while len(side.queue) <= recipe['staleness']:
        drawn, side, spent = draw(tools, state.params, update, side, key)
        side = side._replace(queue=[*side.queue, drawn])
        ledger = compute.add(ledger, spent)
      taken, queue = side.queue[0], side.queue[1:]
      state, side, row, spent = learn(tools, state, side._replace(queue=queue), taken)
      ledger = compute.add(ledger, spent)
      row |= {'step': update, 'staleness': update - int(taken.drawn_at)}
      if not (math.isfinite(row['loss']) and math.isfinite(row['grad_norm'])):
        words = f'update {update}: loss {row["loss"]}, gradient norm {row["grad_norm"]}'
        raise stages.NonFinite(words, ledger)
      curve.append(row)
      stages.scalars(out, row, WATCHED)
      update += 1
      part_done = (update - recipe['start']) / (recipe['stop'] - recipe['start'])
      setting.progress(part_done, f'update {update}, reward {row["reward"]:.3f}')
      told_to_stop = processes.preempted()
      if out.due() or told_to_stop or update == recipe['stop']:
        stages.check_finite(state.params, f'update {update - 1}', ledger)
        meta = {'ledger': ledger, 'seconds': seconds()}
        carried.save(setting, stage, out, critics, state, side, meta, curve)
      if told_to_stop:
        raise processes.Preempted
    if critics is not None:
      critics.close()

  cell, path = stages.path_of(setting, stage)
  others = synthesize.charged(setting, stage, ('scorer', 'grader', 'teaching'))
  path['pretrain'] = compute.add(path['pretrain'], others['pretrain'])
  path['rl'] = compute.add(path['rl'], ledger, others['sft'])
  meta = {'ledger': ledger, 'seconds': seconds()}
  cell |= dict(
    rl_algorithm=recipe['called'],
    rl_updates=recipe['stop'],
    rl_samples=side.cursor * recipe['prompts'] * recipe['group'],
    rl_environments=len(tools.problems),
    rl_turns=recipe['turns'],
    seconds=cell['seconds'] + meta['seconds'],
  )
  stages.finish(setting, stage, cell, path, meta)
