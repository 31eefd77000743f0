"""The rollout bank: every sample drawn to measure a model, one row each, in Parquet shards.

A shard is one block of the sampler, named by its first problem and its first sample, and written
whole or not at all; a bank cut off is drawn on from the shards that are there.

Columns: stage, problem (id), prompt, sample (index), response, tokens, logprobs (the policy's own),
sampler_logprobs (of the distribution drawn from), length (stop token counted), stopped, answer
(null where none was given), correct, reward, temperature, prompt_tokens, prefill_flops (the
prompt's, shared over its samples in the block), decode_flops. A response that was cut off has no
answer and is not correct, whatever it says.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from scaling import compute, files
from scaling.rewards.verifiers import verify


def shard_path(folder: Path, problem: int, sample: int) -> Path:
  """Where the block that begins at this problem and this sample is kept."""
  return Path(folder) / f'shard-p{problem:05d}-s{sample:05d}.parquet'


def rows(stage_id: str, cfg, problems, vocab, drawn, first: int, temperature: float):
  """A table of a block's samples, verified.

  problems: those of the block, P of them; drawn: sample_step.Samples of host arrays [P, S, T];
  first: the index of the block's first sample.
  """
  table = []
  for p, problem in enumerate(problems):
    prompt_tokens = len(vocab.prompt(problem.prompt))
    for s in range(drawn.tokens.shape[1]):
      length = int(drawn.lengths[p, s])
      tokens = drawn.tokens[p, s, :length]
      response = vocab.decode(tokens)
      verdict, stopped = verify(problem, response), bool(drawn.stopped[p, s])
      prefill, decode = compute.query(cfg, prompt_tokens, length, 1)
      table.append(
        dict(
          stage=stage_id,
          problem=problem.id,
          prompt=problem.prompt,
          sample=first + s,
          response=response,
          tokens=tokens.astype(np.int32),
          logprobs=drawn.logprobs[p, s, :length],
          sampler_logprobs=drawn.sampler_logprobs[p, s, :length],
          length=length,
          stopped=stopped,
          answer=verdict.answer if stopped else None,
          correct=verdict.correct and stopped,
          reward=np.float32(verdict.correct and stopped),
          temperature=temperature,
          prompt_tokens=prompt_tokens,
          prefill_flops=prefill / drawn.tokens.shape[1],
          decode_flops=decode,
        )
      )
  return pd.DataFrame(table)


def write(folder: Path, problem: int, sample: int, table: pd.DataFrame) -> None:
  """Adds a block to a bank."""
  Path(folder).mkdir(parents=True, exist_ok=True)
  files.write_table(shard_path(folder, problem, sample), table)


def read_shard(folder: Path, problem: int, sample: int, columns=None) -> pd.DataFrame:
  """One block of a bank."""
  return pd.read_parquet(shard_path(folder, problem, sample), columns=columns)


def read(folder: Path, columns=None) -> pd.DataFrame:
  """A bank, ordered by problem and sample."""
  parts = [
    pd.read_parquet(path, columns=columns) for path in sorted(Path(folder).glob('*.parquet'))
  ]
  return pd.concat(parts, ignore_index=True)
