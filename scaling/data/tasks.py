"""From pools of problems to arrays on disk: tokenised and packed by seqio, written once.

The only importer of seqio, and only while it prepares: it brings TensorFlow along (some seconds).
What it leaves on disk is read by `scaling.data.batches`, which needs neither.
"""

import collections
import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence

import absl.logging
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scaling.data import attempts
from scaling.data import vocab as vocabs
from scaling.data.batches import PACKED, POOLS, Data, DataSpec, Problem, load
from scaling.data.pools import Draft, draw, example_tokens, fingerprints, versions
from scaling.data.vocab import CHARACTERS, SPECIAL, UNKNOWN, VOCABS, Vocab, holders
from scaling.errors import BadInput


def _shown(draft: Draft, spec: DataSpec) -> Draft:
  """The draft as SFT shows it: some with an earlier attempt in the prompt."""
  if not spec.attempts:
    return draft
  problem = attempts.shown(draft.problem, spec.style, spec.seed, spec.attempts)
  return draft._replace(problem=problem)


def _show_attempts(
  spec: DataSpec, vocab: Vocab, drafts: list[Draft], progress
) -> tuple[list[Draft], int]:
  """(the SFT pool as it is packed, how many of them have an attempt in the prompt).

  Where long examples are left out, one that an attempt makes longer than a row stays without it.
  Otherwise it raises BadInput, as it does for a mark that the vocabulary cannot write.
  """
  found, count, long = [], 0, 0
  for draft in drafts:
    example = _shown(draft, spec)
    if example is draft or example.problem == draft.problem:
      found.append(draft)
      continue
    lengths = example_tokens(example.problem, vocab)
    if sum(lengths) > spec.row_tokens:
      if spec.long_examples == 'error':
        raise BadInput(
          f'{draft.origin}: with an earlier attempt (data.attempts = {spec.attempts}) its prompt '
          f'of {lengths[0]} tokens + response of {lengths[1]} = {sum(lengths)}, and '
          f'data.row_tokens is {spec.row_tokens}: raise it, set data.attempts = 0, or '
          "data.long_examples = 'drop'"
        )
      long += 1
      found.append(draft)
      continue
    _check_text(example, vocab, spec.row_tokens)
    count += 1
    found.append(example)
  if long and progress:
    progress(f'{long} examples stay without an attempt, which would not fit in data.row_tokens')
  return found, count


def _check_text(draft: Draft, vocab: Vocab, row_tokens: int) -> tuple[int, int]:
  """Lengths of the prompt and the response with its stop token.

  Raises BadInput for a character that the vocabulary lacks, or more tokens than a row has.
  """
  problem = draft.problem
  character = vocab.missing(problem.prompt + problem.solution)
  if character is not None:
    raise BadInput(
      f'{draft.origin}: the character {character!r} is not in the vocabulary {vocab.name!r}: '
      f'use data.vocab = {" or ".join(map(repr, holders(character)))}'
    )
  lengths = example_tokens(problem, vocab)
  if sum(lengths) > row_tokens:
    raise BadInput(
      f'{draft.origin}: prompt of {lengths[0]} tokens + response of {lengths[1]} = {sum(lengths)}, '
      f'and data.row_tokens is {row_tokens}: raise it, make the problems smaller, or set '
      "data.long_examples = 'drop'"
    )
  return lengths


@contextlib.contextmanager
def _quiet_seqio() -> Iterator:
  """seqio, without TensorFlow's chatter and without a GPU in TensorFlow's hands."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  level = absl.logging.get_verbosity()
  absl.logging.set_verbosity(absl.logging.ERROR)
  try:
    with _muted():
      import seqio
      import tensorflow as tf

      with contextlib.suppress(RuntimeError):  # TensorFlow is already up
        tf.config.set_visible_devices([], 'GPU')
    yield seqio
  finally:
    absl.logging.set_verbosity(level)


@contextlib.contextmanager
def _muted() -> Iterator:
  """File descriptor 2 to nowhere: native code writes there before any log level is heeded."""
  sys.stderr.flush()
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)


def _seqio_vocabularies(seqio, vocab: Vocab, folder: pathlib.Path) -> tuple:
  """Our vocabulary as seqio's, once for prompts and once for responses.

  Characters and bytes are looked up inside TensorFlow's graph, a SentencePiece model in `folder` is
  seqio's own SentencePieceVocabulary, and any other tokenizer is called from the graph.
  """
  import tensorflow as tf

  pieces = folder / 'tokenizer' / 'tokenizer.model'
  if pieces.is_file():
    return (seqio.SentencePieceVocabulary(str(pieces)),) * 2

  class Ours(seqio.Vocabulary):
    eos_id, unk_id, _base_vocab_size = vocab.stop, None, vocab.size

    def __init__(self, of_text):
      super().__init__()
      self.of_text = of_text

    def _encode(self, s):
      return self.of_text(s)

    def _decode(self, ids):
      return vocab.decode(ids)

    def _encode_tf(self, s):
      if vocab.name == 'bytes':
        return tf.cast(tf.io.decode_raw(s, tf.uint8), tf.int32) + SPECIAL
      if vocab.name in CHARACTERS:
        points = tf.strings.unicode_decode(s, 'UTF-8')
        return tf.gather(table, tf.minimum(points, len(table) - 1))
      ids = lambda s: np.array(self.of_text(s.decode()), np.int32)
      return tf.ensure_shape(tf.numpy_function(ids, [s], tf.int32), [None])

    def _decode_tf(self, ids):
      return tf.numpy_function(lambda ids: vocab.decode(ids.tolist()), [ids], tf.string)

  characters = CHARACTERS.get(vocab.name)
  if characters is not None:
    table = np.full(max(map(ord, characters)) + 2, UNKNOWN, np.int32)
    for character in characters:
      table[ord(character)] = vocab.encode(character)[0]
  return Ours(vocab.prompt), Ours(vocab.encode)


def _seqio_task(seqio, name: str, drafts: Sequence[Draft], vocabularies):
  """A registered seqio Task over problems already drawn: tokenised, targets with a stop token."""
  import tensorflow as tf

  of_prompts, of_responses = vocabularies

  texts = {
    'inputs': [draft.problem.prompt for draft in drafts],
    'targets': [draft.problem.solution for draft in drafts],
  }

  def source(split, shuffle_files, seed=None):
    del split, shuffle_files, seed
    return tf.data.Dataset.from_tensor_slices(texts)

  if name in seqio.TaskRegistry.names():
    seqio.TaskRegistry.remove(name)
  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(source, splits=['train']),
    preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
    output_features={
      'inputs': seqio.Feature(of_prompts, add_eos=False),
      'targets': seqio.Feature(of_responses, add_eos=True),
    },
  )


def _pack(
  seqio, provider, seed: int, row_tokens: int, every_token: bool, token_type
) -> dict[str, np.ndarray]:
  """Rows [R, T] of a Task or Mixture, by seqio's own packing: see `batches.Packed`."""
  import tensorflow as tf

  def join(example):
    prompt, response = example['inputs'], example['targets']
    mark = tf.ones_like(prompt) if not every_token else tf.fill(tf.shape(prompt), 2)
    return {  # seqio takes zeros for padding: ids count from 1; 1 is out of the loss and 2 in it
      'tokens': tf.concat([prompt, response], 0) + 1,
      'mask': tf.concat([mark, tf.fill(tf.shape(response), 2)], 0),
    }

  dataset = provider.get_dataset(
    sequence_length=None, split='train', shuffle=False, seed=seed, num_epochs=1
  )
  dataset = dataset.map(join, num_parallel_calls=tf.data.AUTOTUNE)
  dataset = seqio.utils.trim_and_pack_dataset(dataset, {'tokens': row_tokens, 'mask': row_tokens})
  parts = list(dataset.batch(256).as_numpy_iterator())
  whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
  positions, segments = whole['tokens_positions'], whole['tokens_segment_ids']
  return {
    'tokens': np.maximum(whole['tokens'] - 1, 0).astype(token_type),
    'positions': positions.astype(np.uint16),
    'segment_ids': segments.astype(np.uint16),
    'loss_mask': (whole['mask'] == 2) & (positions > 0),
  }


# -- the folder


def prepare(spec: DataSpec, folder, progress: Callable[[str], None] | None = None) -> None:
  """Draws, tokenises, packs and writes into `folder`, by one rename; done once, it does nothing.

  progress: called with a line of text before each part of the work. Raises BadInput for whatever a
  person can mend.
  """
  folder = pathlib.Path(folder)
  if (folder / 'data.json').is_file():
    return _check_prepared(spec, load(folder))
  sources = fingerprints(spec)
  temporary = folder.with_name(f'.{folder.name}.{secrets.token_hex(4)}')
  try:
    temporary.mkdir(parents=True)
    pools, vocab, dropped = _draw(spec, temporary / 'tokenizer', progress)
    if dropped and progress:
      by_pool = ', '.join(f'{pool} {count}' for pool, count in dropped.items())
      progress(
        f'left out {dropped.total()} examples longer than data.row_tokens = {spec.row_tokens} '
        f'({by_pool})'
      )
    lengths = {
      pool: np.array([_check_text(draft, vocab, spec.row_tokens) for draft in drafts] or [(0, 0)])
      for pool, drafts in pools.items()
    }
    longest = np.max([lengths[pool].max(axis=0) for pool in POOLS], axis=0)
    counts = {pool: {'problems': 0, 'dropped': dropped[pool]} for pool in (*POOLS, 'pretrain')}
    for name, drafts in pools.items():
      counts[name.split()[0]]['problems'] += len(drafts)
    packed = pools
    if spec.attempts:
      examples, counts['sft']['attempts'] = _show_attempts(spec, vocab, pools['sft'], progress)
      packed = pools | {'sft': examples}
    _write_rows(spec, vocab, packed, temporary, counts, progress)
    _write_problems(pools, temporary / 'problems.parquet')
    index = {
      'spec': spec._asdict(),
      'vocab': {'name': vocab.name, 'size': vocab.size, 'stop': vocab.stop},
      'counts': counts,
      'max_prompt_tokens': int(longest[0]),
      'max_response_tokens': int(longest[1]),
      'sources': sources,
      'versions': versions(spec),
    }
    (temporary / 'data.json').write_text(json.dumps(index, indent=2) + '\n')
    temporary.rename(folder)
  except OSError as error:
    if not (folder / 'data.json').is_file():  # else another run was faster
      raise BadInput(
        f'{folder}: {error.strerror or error}: it must be absent or empty, writable and with room'
      ) from None
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _draw(
  spec: DataSpec, tokenizer: pathlib.Path, progress
) -> tuple[dict[str, list[Draft]], Vocab, collections.Counter]:
  """(pools, vocabulary, how many were left out by pool); a tokenizer's files go to that folder."""
  if vocabs.bpe_size(spec.vocab) is not None:
    return _draw_and_train(spec, tokenizer, progress)
  if spec.vocab not in VOCABS:
    from scaling.data import subwords

    subwords.copy(spec.vocab, tokenizer)
  vocab, dropped = vocabs.named(spec.vocab, spec.style == 'chat', tokenizer), collections.Counter()
  return draw(spec, progress, dropped, vocab), vocab, dropped


def _draw_and_train(spec: DataSpec, tokenizer: pathlib.Path, progress):
  """`_draw` with a BPE trained on the prompts and solutions of the SFT and pretraining pools.

  No problem that taught it is in another pool. Where long examples are left out, what fits is known
  only once there is a vocabulary: pools of all lengths teach a first one, and as long as one of
  those problems comes to be held out, it is trained again without them.
  """
  from scaling.data import subwords

  pools = draw(spec._replace(long_examples='error'), progress)
  learned_from = ('pretrain', 'sft')
  taught = [
    _shown(x, spec) if name == 'sft' else x
    for name, part in pools.items()
    if name.split()[0] in learned_from
    for x in part
  ]
  while True:
    if progress:
      progress(f'training {spec.vocab} on {len(taught)} examples')
    shutil.rmtree(tokenizer, ignore_errors=True)
    texts = (text for draft in taught for text in (draft.problem.prompt, draft.problem.solution))
    subwords.train(texts, vocabs.bpe_size(spec.vocab), tokenizer)
    vocab, dropped = vocabs.named(spec.vocab, folder=tokenizer), collections.Counter()
    if spec.long_examples == 'drop':
      pools = draw(spec, progress, dropped, vocab)
    held = {draft.key for pool in ('rl', 'validation', 'test') for draft in pools[pool]}
    rest = [draft for draft in taught if draft.key not in held]
    if len(rest) == len(taught):
      return pools, vocab, dropped
    taught = rest


def _check_prepared(spec: DataSpec, data: Data) -> None:
  """Raises BadInput where a folder holds other data than these; the files may be gone by now."""
  if data.spec != json.loads(json.dumps(spec._asdict())):
    raise BadInput(f'{data.folder}: holds data of another specification: use another workdir')
  with contextlib.suppress(FileNotFoundError):
    for path, known in data.sources.items():
      if hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() != known:
        raise BadInput(f'{path}: changed since {data.folder} was prepared: use another workdir')


def _write_rows(
  spec: DataSpec, vocab: Vocab, pools, folder: pathlib.Path, counts: dict, progress
) -> None:
  """Packs the pools that are read as rows, and completes their counts."""
  if not any(drafts for name, drafts in pools.items() if name.split()[0] in PACKED):
    return  # problems alone, as for a hosted model: no need of TensorFlow
  with _quiet_seqio() as seqio:
    import tensorflow as tf

    vocabularies = _seqio_vocabularies(seqio, vocab, folder)
    token_type = np.uint16 if vocab.size <= 2**16 else np.uint32
    for pool in PACKED:
      parts = {name: drafts for name, drafts in pools.items() if name.split()[0] == pool and drafts}
      if not parts:
        continue
      if progress:
        progress(f'packing {pool}')
      each = [
        _seqio_task(seqio, f'postscale.{name.replace(" ", ".")}', drafts, vocabularies)
        for name, drafts in parts.items()
      ]
      # the default would stop at the first task that runs dry: every example is to come once
      to_the_end = tf.data.Dataset.sample_from_datasets
      provider = (
        seqio.Mixture('postscale.mixture', [(task, 1.0) for task in each], sample_fn=to_the_end)
        if len(each) > 1
        else each[0]
      )
      every = pool == 'pretrain'
      arrays = _pack(seqio, provider, spec.seed, spec.row_tokens, every, token_type)
      (folder / pool).mkdir()
      for name, array in arrays.items():
        np.save(folder / pool / f'{name}.npy', array)
      counts[pool] |= {
        'rows': len(arrays['tokens']),
        'tokens': int((arrays['segment_ids'] > 0).sum()),
        'loss_tokens': int(arrays['loss_mask'].sum()),
      }


def _write_problems(pools: dict[str, list[Draft]], path: pathlib.Path) -> None:
  rows = [
    {'pool': pool, **draft.problem._asdict(), 'entry': json.dumps(draft.problem.entry)}
    for pool in POOLS
    for draft in pools[pool]
  ]
  schema = pa.schema([(name, pa.string()) for name in ('pool', *Problem._fields)])
  pq.write_table(pa.Table.from_pylist(rows, schema), path)
