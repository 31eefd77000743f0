"""Records: one row a measurement, in long format, in Parquet; `analysis.load` reads them back.

A cell is one trained model of the crossed study: (seed, model, pretrain_tokens, sft_tokens,
rl_updates). `COLUMNS` says what every column holds.
"""

import importlib.metadata
import json
import subprocess
from pathlib import Path

import pandas as pd

from scaling import compute, files
from scaling.stages import stage as stages

COLUMNS = {
  'stage': 'id of the stage that measured',
  'kind': 'its kind',
  'seed': 'seed of the whole branch',
  'model': 'preset',
  'params': 'parameters, embeddings counted',
  'params_non_embedding': 'parameters without embeddings',
  'pretrain_tokens': 'tokens of pretraining, as far as they are known',
  'pretrain_source': 'its FLOPs are counted, estimated (from tokens given) or unknown (left out)',
  'sft_tokens': 'tokens of SFT, padding not counted',
  'sft_unique_tokens': 'distinct ones among them',
  'sft_pool_tokens': 'distinct ones that it drew from: config.sft.unique_tokens, or the whole pool',
  'synthetic': "none; of config.synthetic, as its run is called: 'rft(n=8)'",
  'synthetic_round': 'round of it; 0: none',
  'synthetic_tokens': 'of the tokens of SFT, those of examples that a model made',
  'synthetic_examples': 'examples that the round made and kept',
  'synthetic_paths': 'distinct reasoning paths among them',
  'rl_algorithm': "none; of config.rl, 'grpo(group=4)'; 'dpo verifier': by whose verdict",
  'rl_updates': 'updates of RL; 0 for a model that had none',
  'rl_samples': 'responses, or episodes, drawn during RL',
  'rl_environments': 'distinct problems that RL drew from; 0: none, or DPO alone',
  'rl_turns': 'turns of an episode of RL, at most; 1: single responses; 0: no RL, or DPO alone',
  'trunk': 'id of the SFT trunk: points that share one are correlated',
  'bank': 'id of the rollout bank, or empty',
  'strategy': 'none, or how k samples make an answer: analysis.strategies, scaling.search',
  'scorer': 'id of the stage whose scores the strategy uses, or empty',
  'k': 'samples of a query; 0 where none are drawn',
  'temperature': 'of sampling',
  'metric': 'loss (nats a response token), accuracy, parse_rate, truncation_rate, response_length, '
  'no_verdict_rate (the verifier timed out or failed); '
  'of the scores of a reward model auc, auc_within (a problem), verdict_accuracy, '
  'calibration_error, false_positive, false_negative, precision, best_of_ceiling; of pairs of a '
  'file pair_accuracy: how often the chosen response is ahead',
  'value': 'the measurement',
  'stderr': 'its standard error over problems',
  'problems': 'problems measured on',
  'samples': 'samples drawn of each',
  'pretrain_flops': "model FLOPs of the cell's own pretraining, and a teacher's of another size",
  'sft_flops': '… of its SFT, and of making its examples: samples, and what trained who drew them',
  'rl_flops': '… of its RL, rollouts and scoring counted, and of what trained its reward model or '
  'teacher',
  **{f'flops_{kind}': f'model FLOPs of the three together, kind {kind}' for kind in compute.KINDS},
  'executed_flops': 'FLOPs of the three together as executed, padding and idle rows counted',
  'query_prefill_flops': 'model FLOPs of one query: its prompt, once',
  'query_decode_flops': '… and its k responses',
  'query_scorer_flops': '… and the scorer over them',
  'query_prefill_tokens': 'of a hosted model: input tokens of one query, its judge counted',
  'query_decode_tokens': '… and output tokens',
  'query_money': '… and what they cost by the prices given',
  'seconds': 'wall time of the training stages on the path',
  'device': 'kind of device',
  'git_commit': 'of the code',
  'versions': 'of the libraries, JSON',
}

EMPTY = dict(
  pretrain_tokens=0, sft_tokens=0, sft_unique_tokens=0, sft_pool_tokens=0, rl_algorithm='none',
  synthetic='none', synthetic_round=0, synthetic_tokens=0, synthetic_examples=0, synthetic_paths=0,
  rl_updates=0, rl_samples=0, rl_environments=0, rl_turns=0, trunk='', bank='', strategy='none',
  scorer='', k=0, temperature=1.0, stderr=None, problems=0, samples=0, query_prefill_flops=0.0,
  query_decode_flops=0.0,
  query_scorer_flops=0.0, query_prefill_tokens=None, query_decode_tokens=None, query_money=None,
)  # fmt: skip


def environment(mesh) -> dict:
  """What a result may depend on beside its recipe: git commit, library versions, device."""
  try:
    commit = subprocess.run(
      ['git', 'describe', '--always', '--dirty', '--abbrev=12'],
      cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
  except (OSError, subprocess.CalledProcessError):
    commit = 'unknown'
  names = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'reasoning-gym')
  device = mesh.devices.flat[0]
  return {
    'git_commit': commit,
    'versions': {name: version for name in names if (version := _version(name))},
    'device': f'{device.device_kind} x {mesh.size}',
  }


def _version(name: str) -> str | None:
  """Of an installed package; None where it is not there, as reasoning-gym need not be."""
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def cell_of_model(recipe: dict, cfg) -> dict:
  """The columns of a cell that its model and seed decide."""
  count = compute.parameters(cfg)
  return dict(
    seed=recipe['seed'],
    model=recipe['preset'],
    params=count.total,
    params_non_embedding=count.non_embedding,
    seconds=0.0,
  )


def row(stage: stages.Stage, cell: dict, path: dict, environment: dict, **measured) -> dict:
  """One row of `COLUMNS`, checked to be whole."""
  everything = compute.add(*path.values())
  values = EMPTY | {
    'stage': stage.id,
    'kind': stage.kind,
    **{f'{kind}_flops': compute.total(ledger) for kind, ledger in path.items()},
    **{f'flops_{kind}': everything['model'][kind] for kind in compute.KINDS},
    'executed_flops': compute.total(everything, 'executed'),
    'device': environment['device'],
    'git_commit': environment['git_commit'],
    'versions': json.dumps(environment['versions']),
  }
  values |= cell | measured
  if set(values) != set(COLUMNS):
    raise KeyError(f'a record has not the columns it should: {set(values) ^ set(COLUMNS)}')
  return {name: values[name] for name in COLUMNS}


def write(workdir: Path, stage_id: str, rows: list[dict]) -> None:
  """Writes the records of a stage."""
  files.write_table(stages.folder(workdir, stage_id) / 'records.parquet', pd.DataFrame(rows))
