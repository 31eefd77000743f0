"""Writes a small workdir with planted truth, laid out as a real study lays its own.

Planted: held-out loss = E + A N^-alpha + B D^-beta, with a little noise; problem i of a cell is
solved with a probability drawn from a beta distribution whose logit-mean is linear in log N,
log D, log(base + 1e5) and RL's gain, by one uniform number per problem that all cells share (so a
hard problem is hard for all). Wrong answers crowd on a few decoys, a few samples do not parse.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis import estimators, strategies, tables

SIZES = {'25k': 25_000, '75k': 75_000, '150k': 150_000}
KINDS = ('forward', 'backward', 'prefill', 'decode', 'reference', 'reward_model', 'verifier')


RL_GAIN = {('75k', 4e5): 0.0, ('150k', 4e5): 1.2, ('150k', 1.6e6): 1.0, ('75k', 1.6e6): 1.0}


class Truth(NamedTuple):
  """What is planted, and how large the study is."""

  E: float = 0.30
  A: float = 60.0
  alpha: float = 0.45
  B: float = 120.0
  beta: float = 0.45
  loss_noise: float = 0.004
  mean: float = -1.6  # logit-mean at 75k parameters, 4e5 tokens, no RL
  per_log_size: float = 0.7
  per_log_tokens: float = 0.6
  concentration: float = 1.5  # alpha + beta of the beta distribution of problems
  rl_gain: dict = RL_GAIN
  rl_half: float = 20.0  # updates to half of the gain
  sizes: tuple = ('25k', '75k', '150k')
  budgets: tuple = (1e5, 2e5, 4e5, 8e5, 1.6e6)
  updates: tuple = (10, 20, 40, 80, 160)
  seeds: tuple = (2,)
  problems: int = 40
  samples: int = 32
  bases: tuple = (4e5,)  # tokens of pretraining
  per_log_base: float = 0.0


DEFAULT = Truth()


def loss(truth, params, tokens):
  return truth.E + truth.A * params**-truth.alpha + truth.B * tokens**-truth.beta


def logit_mean(truth, model, tokens, updates, base):
  gain = truth.rl_gain.get((model, tokens), 0.0) * updates / (updates + truth.rl_half)
  size = truth.per_log_size * np.log(SIZES[model] / 75_000)
  pretrained = truth.per_log_base * np.log((base + 1e5) / 5e5)
  return truth.mean + size + truth.per_log_tokens * np.log(tokens / 4e5) + gain + pretrained


def solve_rates(truth, model, tokens, updates, base, difficulty):
  """The probability of solving each problem [P]; `difficulty` [P] are its quantiles."""
  mean = 1 / (1 + np.exp(-logit_mean(truth, model, tokens, updates, base)))
  c = truth.concentration
  return stats.beta.ppf(difficulty, mean * c, (1 - mean) * c)


def write(workdir, truth=DEFAULT, name='synthetic', banks=True, rl=True) -> Path:
  """Writes the workdir and returns it. banks=False: losses alone; rl=False: no RL stage."""
  workdir = Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  (workdir / 'version.json').write_text('{"format": 1}')
  writer = _Writer(workdir, truth, name)
  for seed in truth.seeds:
    for model in truth.sizes:
      for base in truth.bases:
        _write_model(writer, seed, model, base, banks, rl)
  independent = 1.8 * sum(writer.flops)
  plan = {
    'name': name,
    'config': {'sizes': list(truth.sizes), 'sft': {'tokens': list(truth.budgets)}},
    'command': f'python run.py --config=experiments/{name}.py --workdir=results/{name}',
    'stages': writer.stages,
    'shared': {'flops_planned': sum(writer.flops), 'flops_independent': independent},
    'environment': {
      'git_commit': '0123456789abcdef',
      'versions': {'jax': '0.10.2', 'numpy': np.__version__},
      'device': 'cpu',
    },
    'seconds': 412.0,
  }
  (workdir / 'studies').mkdir(exist_ok=True)
  (workdir / 'studies' / f'{name}.json').write_text(json.dumps(plan))
  return workdir


class _Writer:
  """Writes stages one by one and remembers them for the plan."""

  def __init__(self, workdir, truth, name):
    self.workdir, self.truth, self.name = workdir, truth, name
    self.stages, self.flops = [], []
    self.rng = np.random.default_rng(7)
    self.difficulty = np.random.default_rng(8).uniform(0.01, 0.99, truth.problems)

  def stage(self, kind, parent, label, seed, recipe, model_flops, records=(), curve=None):
    number = len(self.stages)
    sid = f'{kind}-{number:010x}'
    folder = self.workdir / 'stages' / sid
    folder.mkdir(parents=True)
    entry = {'id': sid, 'kind': kind, 'parent': parent, 'label': label, 'recipe': recipe}
    (folder / 'stage.json').write_text(json.dumps(entry))
    self.stages.append(entry | {'seed': seed})
    executed = {kind: 1.4 * flops for kind, flops in model_flops.items()}
    done = {'outcome': 'ok', 'ledger': {'model': model_flops, 'executed': executed}}
    (folder / 'done.json').write_text(json.dumps(done | {'seconds': 3.0}))
    self.flops.append(sum(model_flops.values()))
    if records:
      rows = [{'stage': sid, 'kind': kind} | row for row in records]
      pd.DataFrame(rows).to_parquet(folder / 'records.parquet')
    if curve is not None:
      curve.to_parquet(folder / 'metrics.parquet')
    return sid


def _write_model(w, seed, model, base_tokens, banks, rl):
  t, params = w.truth, SIZES[model]
  train = lambda tokens: {'forward': 2 * params * tokens, 'backward': 4 * params * tokens}
  ident = {'seed': seed, 'model': model, 'params': params + 1600, 'params_non_embedding': params}
  ident |= {'pretrain_tokens': base_tokens, 'pretrain_source': 'counted'}
  ident |= {'device': 'cpu', 'git_commit': '0123456789abcdef'}
  pretrain = train(base_tokens)
  base = w.stage('pretrain', None, f'pretrain {model}', seed, {'preset': model}, pretrain)
  segment, done, trunk = base, 0.0, None
  for budget in t.budgets:
    stable = 0.8 * budget
    label = f'sft {model} trunk to {stable:.3g} tokens'
    flops, steps = train(stable - done), np.linspace(done, stable, 12)
    curve = pd.DataFrame({'step': (steps / 4096).astype(int), 'loss': loss(t, params, steps + 1e4)})
    recipe = {'preset': model, 'end': None}
    segment = w.stage('sft', segment, label, seed, recipe, flops, curve=curve)
    trunk, done = trunk or segment, stable
    path = {k: pretrain[k] + train(budget)[k] for k in pretrain}
    cell = ident | _costs(path, pretrain, train(budget), {}) | {'trunk': trunk}
    cell |= {'sft_tokens': budget, 'sft_unique_tokens': budget, 'rl_algorithm': 'none'}
    cell |= {'rl_updates': 0, 'rl_samples': 0}
    value = loss(t, params, budget) + t.loss_noise * w.rng.standard_normal()
    row = cell | _measure('loss', 'none', 0, value, t.loss_noise, t.problems, 1)
    label = f'sft {model} {budget:.3g} tokens'
    recipe = {'preset': model, 'end': int(budget / 4096)}
    branch = w.stage('sft', segment, label, seed, recipe, train(budget - stable), [row])
    if banks:
      _sample(w, branch, cell)
    if rl and banks and (model, budget) in t.rl_gain:
      _reinforce(w, branch, cell, path)


def _reinforce(w, parent, cell, path):
  t, params = w.truth, cell['params_non_embedding']
  total, before, reference = dict.fromkeys(KINDS, 0.0), 0, parent
  for updates in t.updates:
    new = (updates - before) * 128  # samples
    flops = {'forward': 2 * params * 45 * new, 'backward': 4 * params * 45 * new}
    flops |= {'prefill': 2 * params * 12 * new / 8, 'decode': 2 * params * 33 * new}
    total = {k: total[k] + flops.get(k, 0.0) for k in KINDS}
    label = f'rl {cell["model"]} {cell["sft_tokens"]:.3g} tokens, {updates} updates'
    steps = np.arange(before, updates)
    curve = pd.DataFrame(
      {'step': steps, 'loss': 0.0, 'reward': 0.2 + 0.3 * steps / (steps + t.rl_half)}
    )
    recipe = {'preset': cell['model'], 'reference': reference}
    parent = w.stage('rl', parent, label, cell['seed'], recipe, flops, curve=curve)
    both = {k: path.get(k, 0.0) + total[k] for k in KINDS}
    costs = _costs(both, None, None, total)
    row = cell | costs | {'pretrain_flops': cell['pretrain_flops'], 'sft_flops': cell['sft_flops']}
    row |= {'rl_algorithm': 'grpo', 'rl_updates': updates, 'rl_samples': updates * 128}
    _sample(w, parent, row)
    before = updates


def _costs(path, pretrain, sft, rl):
  total = lambda flops: float(sum((flops or {}).values()))
  costs = {'pretrain_flops': total(pretrain), 'sft_flops': total(sft), 'rl_flops': total(rl)}
  costs |= {f'flops_{kind}': float(path.get(kind, 0.0)) for kind in KINDS}
  return costs | {'executed_flops': 1.4 * total(path), 'seconds': 3.0, 'versions': '{}'}


def _measure(metric, strategy, k, value, stderr, problems, samples):
  row = {'metric': metric, 'strategy': strategy, 'k': k, 'value': float(value)}
  row |= {'stderr': float(stderr), 'problems': problems, 'samples': samples, 'temperature': 1.0}
  return row | {'bank': '', 'query_prefill_flops': 0.0, 'query_decode_flops': 0.0}


def _sample(w, parent, cell):
  """A bank of the cell, and its records: pass@1 and its like, from the bank itself."""
  t, n, params = w.truth, w.truth.samples, cell['params_non_embedding']
  key = cell['model'], cell['sft_tokens'], cell['rl_updates'], cell['pretrain_tokens']
  p = solve_rates(t, *key, w.difficulty)
  correct = w.rng.uniform(size=(t.problems, n)) < p[:, None]
  decoy = w.rng.choice([3, 7, 8, 9, 11, 13], p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1], size=correct.shape)
  parsed = w.rng.uniform(size=correct.shape) < 0.95
  ids = np.repeat([f'p{i:04d}' for i in range(t.problems)], n)
  answer = np.where(correct, '42', np.where(parsed, decoy.astype(str), None)).ravel()
  length = w.rng.integers(20, 46, size=correct.size)
  tokens = [[5, 6, 1]] * correct.size
  bank = pd.DataFrame(
    {
      'problem': ids,
      'place': np.repeat(np.arange(t.problems), n),
      'prompt': '1 + 2 =',
      'sample': np.tile(np.arange(n), t.problems),
      'response': ['#' + (a or '') for a in answer],
      'tokens': tokens,
      'logprobs': [[-0.1, -0.1, -0.1]] * correct.size,
      'sampler_logprobs': [[-0.1, -0.1, -0.1]] * correct.size,
      'length': length,
      'stopped': True,
      'answer': answer,
      'correct': correct.ravel(),
      'reward': correct.ravel().astype(np.float32),
      'temperature': 1.0,
      'prompt_tokens': 12,
      'prefill_flops': 2.0 * params * 12,
      'decode_flops': 2.0 * params * length,
    }
  )
  rates = correct.mean(1)
  rows, k = [], 1
  while k == 1 or 4 * k <= n:
    one = {'query_prefill_flops': 2.0 * params * 12}
    one |= {'query_decode_flops': k * 2.0 * params * float(length.mean())}
    passes = 1 - (1 - rates) ** k
    for strategy in ('oracle', 'majority'):
      err = passes.std() / np.sqrt(t.problems)
      value = passes.mean() if strategy == 'oracle' else rates.mean()
      rows.append(cell | _measure('accuracy', strategy, k, value, err, t.problems, n) | one)
    k *= 2
  for metric, value in (('parse_rate', 0.95), ('truncation_rate', 0.0), ('response_length', 32.5)):
    rows.append(cell | _measure(metric, 'none', 0, value, 0.01, t.problems, n))
  label = f'sample {key[0]} {key[1]:.3g} tokens, {key[2]} updates'
  number = f'sample-{len(w.stages):010x}'
  for row in rows:
    row['bank'] = number
  flops = {'prefill': 2.0 * params * 12 * t.problems, 'decode': 2.0 * params * float(length.sum())}
  recipe = {'preset': key[0], 'n': n, 'problems': t.problems, 'measure': True}
  sid = w.stage('sample', parent, label, cell['seed'], recipe, flops, rows)
  folder = tables.bank_folder(w.workdir, w.stages[-1])
  folder.mkdir(parents=True)
  bank.insert(0, 'stage', sid)
  bank.to_parquet(folder / 'shard-p00000-s00000.parquet')


def add_strategies(workdir, name='synthetic', skill=1.2) -> Path:
  """Adds to a workdir what stages of test time leave: outcomes, a scorer's scores, a search.

  A right response scores `skill` higher than a wrong one, in standard deviations of the logit.
  """
  workdir = Path(workdir)
  path = workdir / 'studies' / f'{name}.json'
  plan, rng = json.loads(path.read_text()), np.random.default_rng(9)
  banks = [s for s in plan['stages'] if s['kind'] == 'sample']
  for number, stage in enumerate(banks):
    folder = workdir / 'stages' / stage['id']
    rows, cell = (
      tables.stage_bank(workdir, stage['id']),
      pd.read_parquet(folder / 'records.parquet'),
    )
    ks = estimators.default_ks(stage['recipe']['n'])
    outcomes = strategies.bank_outcomes(rows, ks, stage['id'])
    outcomes.to_parquet(folder / 'outcomes.parquet')
    ids = {kind: f'{kind}-{number:010x}' for kind in ('preference', 'score', 'search')}
    logit = rng.normal(skill * rows['correct'], 1)
    scores = rows[['problem', 'sample']].assign(
      score=1 / (1 + np.exp(-logit)), flops=rows['decode_flops'] / 2, prompt_flops=10.0
    )
    scored = strategies.scorer_outcomes(
      rows, scores, ks, ids['score'], ids['preference'], 'outcome'
    )
    beam = outcomes[outcomes['strategy'] == 'oracle'].assign(
      stage=ids['search'], strategy='beam', scorer=ids['preference']
    )
    beam['value'] = rng.uniform(size=len(beam)) < beam['value'] * 0.5
    beam = beam.astype({'value': float})
    beam['scorer_flops'] = beam['decode_flops'] / 2
    about = cell.iloc[0].to_dict() | {
      'strategy': 'none',
      'k': 0,
      'bank': stage['id'],
      'stderr': 0.01,
    }
    about |= {'scorer': ids['preference'], 'kind': 'score', 'stage': ids['score']}
    quality = [about | {'metric': m, 'value': 0.8} for m in ('auc', 'verdict_accuracy')]
    for kind, parent, recipe, table, records in (
      ('preference', stage['parent'], {'objective': 'outcome', 'preset': '25k'}, None, None),
      ('score', stage['id'], {'scorer': ids['preference']}, scored, quality),
      ('search', stage['parent'], {}, beam, [about | {'kind': 'search', 'stage': ids['search']}]),
    ):
      where = workdir / 'stages' / ids[kind]
      where.mkdir()
      entry = {'id': ids[kind], 'kind': kind, 'parent': parent, 'label': kind, 'recipe': recipe}
      (where / 'stage.json').write_text(json.dumps(entry))
      ledger = {'model': {'reward_model': 1e9}, 'executed': {'reward_model': 2e9}}
      (where / 'done.json').write_text(json.dumps({'outcome': 'ok', 'ledger': ledger}))
      plan['stages'].append(entry | {'seed': stage['seed']})
      if table is not None:
        table.to_parquet(where / 'outcomes.parquet')
        pd.DataFrame(records).to_parquet(where / 'records.parquet')
    scores.to_parquet(workdir / 'stages' / ids['score'] / 'scores.parquet')
  path.write_text(json.dumps(plan))
  return workdir
