"""What `benchmarks.data` measures. One process does one piece of work:

python -m benchmarks.data_workers pack|prepare|read
"""

import os
import pathlib
import random
import re
import sys
import tempfile
import time

import numpy as np

from benchmarks import harness

ROW_TOKENS = 512


def repeated(text: str, path: pathlib.Path, megabytes: float) -> int:
  """Writes the lines of a JSONL file over and over, every digit drawn anew; the file's bytes."""
  lines, rng, size = pathlib.Path(text).read_text().splitlines(), random.Random(0), 0
  digit = lambda found: rng.choice('123456789')
  with open(path, 'w') as file:
    while size < megabytes * 1e6:
      for line in lines:
        size += file.write(re.sub(r'\d', digit, line) + '\n')
        if size >= megabytes * 1e6:
          break
  return os.path.getsize(path)


def _spec(path):
  from scaling.data.batches import DataSpec

  return DataSpec(
    task=f'jsonl(path={str(path)!r})', pretrain_tasks=(), style='full', vocab='bpe(1024)',
    row_tokens=ROW_TOKENS, seed=0, sft=None, rl=64, validation=64, test=64, pretrain=0,
    long_examples='drop', contamination='drop',
  )  # fmt: skip


def prepare():
  from scaling.data import subwords, tasks

  assert subwords  # imported before time is taken
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

  def answer(text, scratch, megabytes):
    before = harness.resident_peak()
    path = pathlib.Path(scratch) / f'{megabytes:g}.jsonl'
    size = repeated(text, path, megabytes) / 1e6
    wall, cpu = time.monotonic(), time.process_time()
    tasks.prepare(_spec(path), pathlib.Path(scratch) / f'{megabytes:g}')
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    path.unlink()
    return {
      'mb_per_second': size / wall,
      'mb_per_cpu_second': size / cpu,
      'peak_memory': harness.resident_peak(),
      'imports_memory': before,
    }

  return answer


def pack():
  import seqio
  import tensorflow as tf

  from scaling.data import batches, tasks

  def answer(text, scratch):
    folder = pathlib.Path(scratch) / 'gsm8k'
    tasks.prepare(_spec(text)._replace(rl=0, validation=0, test=0), folder)
    data = batches.load(folder)
    ids = [
      np.array([*data.vocab.prompt(p.prompt), *data.vocab.encode(p.solution), data.vocab.stop])
      for p in batches.problems(folder, 'sft')
    ]
    ours = data.counts['sft']
    assert ours['tokens'] == sum(map(len, ids))
    examples = tf.data.Dataset.from_generator(
      lambda: ({'x': one + 1} for one in ids),
      output_signature={'x': tf.TensorSpec([None], tf.int32)},
    )  # seqio takes zeros for padding
    rows = seqio.utils.trim_and_pack_dataset(examples, {'x': ROW_TOKENS})
    used = [np.count_nonzero(row['x']) for row in rows.as_numpy_iterator()]
    assert sum(used) == ours['tokens']
    positions = lambda rows: rows * ROW_TOKENS
    return {
      'postscale': ours['tokens'] / positions(ours['rows']),
      'seqio': ours['tokens'] / positions(len(used)),
    }

  return answer


def read():
  import jax

  from scaling import losses, sharding, train_step
  from scaling.data import batches, packing
  from scaling.model import transformer

  B, T = 32, 256

  def answer(model, repeats):
    cfg, mesh = transformer.ModelConfig(**model), sharding.make_mesh()
    opt = train_step.OptimizerConfig(b1=0.9, b2=0.98, weight_decay=0.01, clip_norm=1.0)
    step = train_step.make_train_step(cfg, losses.cross_entropy, None, opt, mesh)
    state = train_step.make_init(cfg, opt, mesh)(jax.random.key(0))
    where, rng = sharding.batch(mesh), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
      lengths = rng.integers(32, T, 40_000)
      examples = ((rng.integers(0, cfg.vocab_size, n), n // 2) for n in lengths)
      packing.write(pathlib.Path(scratch) / 'sft', examples, T)
      rows_of, tally = batches.packed(scratch, 'sft'), batches.tally(scratch, 'sft')

      def batch(at):  # as stages/supervised.py has it
        picked = batches.picked(len(tally), 0, at, B)
        counted = int(tally[picked].sum(axis=0)[2])
        rows = batches.read(rows_of, picked)
        rows['weights'] = rows.pop('loss_mask') / np.float32(counted)
        return sharding.feed(where, B, rows)

      def timed(work, count):
        began = time.monotonic()
        for _ in range(count):
          done = work()
        jax.block_until_ready(done)
        return (time.monotonic() - began) / count

      at, found = 0, {'batch': [], 'step': []}
      state, _ = step(state, batch(0), 1e-4, 1.0)

      def train():
        nonlocal state
        state, metrics = step(state, fed, 1e-4, 1.0)
        return metrics['loss']

      def next_batch():
        nonlocal at
        at += 1
        return batch(at)

      for _ in range(repeats):
        fed = batch(0)
        found['step'].append(timed(train, 3))
        found['batch'].append(timed(next_batch, 30))
      return found

  return answer


if __name__ == '__main__':
  harness.serve({'pack': pack, 'prepare': prepare, 'read': read}[sys.argv[1]])
