"""Stage `rl`: GRPO with a verifier, on-policy, from update `start` to update `stop`.

An update: draw `group` responses to each of `prompts` prompts, verify them, score them with the
learner (old log-probs), and take `minibatches` optimiser steps on them. A run is a chain of such
stages, cut where it is measured; each continues the state of the one before.

Axes: P prompts, G responses of each, B = P x G rows, S prompt width, R response width, T = S + R.
"""

import math

import numpy as np

from scaling import compute, losses, processes, sample_step, sharding, stops, train_step
from scaling.data import batches
from scaling.rewards.verifiers import verify
from scaling.stages import sample as sampling
from scaling.stages import stage as stages

WATCHED = ('loss', 'reward', 'entropy', 'zero_variance', 'response_length')  # on the board


def assemble(prompts_PxS, prompt_lengths_P, drawn: sample_step.Samples) -> dict:
  """Rows of prompt and response end to end, padded behind, for the learner; host arrays [B, T].

  Returns tokens, positions, segment_ids, `mask` (the response's tokens, stop token counted) and
  `sampler_logp` under the mask.
  """
  P, G, R = drawn.tokens.shape
  S = prompts_PxS.shape[1]
  lengths, responses = np.repeat(prompt_lengths_P, G), drawn.lengths.reshape(-1)
  columns = np.arange(S + R)[None]
  mask = (columns >= lengths[:, None]) & (columns < (lengths + responses)[:, None])
  inside = np.arange(R)[None] < responses[:, None]  # both masks count the same cells, row by row
  tokens = np.pad(np.repeat(prompts_PxS, G, axis=0), ((0, 0), (0, R)))
  sampler_logp = np.zeros((P * G, S + R), np.float32)
  tokens[mask] = drawn.tokens.reshape(-1, R)[inside]
  sampler_logp[mask] = drawn.sampler_logprobs.reshape(-1, R)[inside]
  real = columns < (lengths + responses)[:, None]
  return {
    'tokens': tokens.astype(np.int32),
    'positions': np.broadcast_to(columns, tokens.shape).astype(np.int32),
    'segment_ids': real.astype(np.int32),
    'mask': mask,
    'sampler_logp': sampler_logp,
  }


def reward(problems, vocab, drawn: sample_step.Samples) -> np.ndarray:
  """[P, G]: 1 for a response that stops and is verified, 0 for any other."""
  correct = [
    [verify(problem, vocab.decode(tokens)).correct for tokens in responses]
    for problem, responses in zip(problems, drawn.tokens, strict=True)
  ]
  return (np.array(correct) & drawn.stopped).astype(np.float64)


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Runs the updates, with rewards and all costs recorded for each."""
  recipe, mesh = stage.recipe, setting.mesh
  how = stages.mechanics(setting.how, recipe, mesh)
  cfg, opt = stages.model(recipe), stages.optimizer(recipe)
  folder, data = stages.load_data(setting.workdir, recipe)
  problems = batches.problems(folder, 'rl')
  vocab, S = data.vocab, sampling.prompt_width(data)
  P, G, M = recipe['prompts'], recipe['group'], recipe['minibatches']
  sharding.check_rows(mesh, P, 'config.rl.prompts')
  sharding.check_rows(mesh, P * G // M, 'config.rl.prompts x group / minibatches')
  shape = sample_step.SampleShape(P, G, G, S, recipe['response_tokens'])
  sample = sample_step.make_sampler(cfg, shape, mesh, how)
  ends = stops.table(vocab, [vocab.stop]), sample_step.no_limits(shape)
  score = train_step.make_score(cfg, mesh, how)
  options = losses.GrpoOptions(recipe['clip_low'], recipe['clip_high'], recipe['kl_coef'])
  train = train_step.make_train_step(cfg, losses.grpo, options, opt, mesh, how)
  reference = None
  if recipe['kl_coef'] > 0:
    reference = stages.state_of(setting.workdir, recipe['reference'], mesh).params

  state, meta, curve = stages.begin(setting, stage)
  ledger, update, seconds = meta['ledger'], int(state.step) // M, stages.stopwatch(meta)
  key = stages.key(recipe['seed'], 'rollouts')
  temperature = recipe['temperature']
  rows_BxT = sharding.batch(mesh)

  with stages.output(setting, stage, update) as out:
    while update < recipe['stop']:
      chosen = [problems[i] for i in batches.rl_prompts(recipe['seed'], update, P, len(problems))]
      prompts, lengths, hashes = batches.encode_prompts(chosen, vocab, S)
      asked = sharding.spread(sharding.rows(mesh), (prompts, lengths, hashes))
      drawn = processes.gather(sample(state.params, *asked, key, update, 0, temperature, *ends))
      ledger = compute.add(ledger, sampling.cost(cfg, shape, lengths, drawn))
      rewards = reward(chosen, vocab, drawn)
      batch = assemble(prompts, lengths, drawn)
      mask, sampler_logp = batch.pop('mask'), batch.pop('sampler_logp')
      real = batch['segment_ids'] > 0
      counts = int(real.sum()), int((batch['positions'][real] + 1).sum()), P * G, real.shape[1]
      rows_read = sharding.spread(rows_BxT, batch)
      old_logp = processes.gather(score(state.params, rows_read, temperature))
      trained = compute.train(cfg, *counts, how.remat, how.loss_chunk)
      ledger = compute.add(ledger, compute.score(cfg, *counts), trained)
      batch['old_logp'] = old_logp
      if reference is not None:
        batch['reference_logp'] = processes.gather(score(reference, rows_read, temperature))
        ledger = compute.add(ledger, compute.score(cfg, *counts))
      advantages = np.asarray(losses.group_advantages(rewards)).reshape(-1, 1)
      batch['advantages'] = np.broadcast_to(advantages, mask.shape).astype(np.float32)
      watched = []
      for part in np.split(np.arange(P * G), M):
        rows = {name: values[part] for name, values in batch.items()}
        rows['weights'] = np.asarray(losses.mean_over_responses(mask[part].astype(np.float32)))
        rows = sharding.spread(rows_BxT, rows)
        state, metrics = train(state, rows, recipe['learning_rate'], temperature)
        watched.append(metrics)
      watched = processes.gather(watched)
      row = {name: float(np.mean([w[name] for w in watched])) for name in watched[0]}
      row |= {
        'step': update,
        'reward': float(rewards.mean()),
        'zero_variance': float((rewards.std(axis=1) == 0).mean()),
        'response_length': float(drawn.lengths.mean()),
        'truncation_rate': float((~drawn.stopped).mean()),
        'sampler_mismatch': float(np.abs(old_logp - sampler_logp)[mask].mean()),
        'first_ratio_error': float(watched[0]['ratio_error']),
      }
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
        stages.save(out, state, {'ledger': ledger, 'seconds': seconds()}, curve)
      if told_to_stop:
        raise processes.Preempted

  cell, path = stages.path_of(setting, stage)
  path['rl'] = compute.add(path['rl'], ledger)
  meta = {'ledger': ledger, 'seconds': seconds()}
  cell |= dict(
    rl_algorithm='grpo',
    rl_updates=recipe['stop'],
    rl_samples=recipe['stop'] * P * G,
    seconds=cell['seconds'] + meta['seconds'],
  )
  stages.finish(setting, stage, cell, path, meta)
