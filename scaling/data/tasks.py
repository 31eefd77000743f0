"""From pools of problems to arrays on disk: tokenised and packed by seqio, written once.

The only importer of seqio, and only while it prepares: it brings TensorFlow along (some seconds).
What it leaves on disk is read by `scaling.data.batches`, which needs neither.
"""

import collections
import contextlib
import functools
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

from scaling.data import attempts, packing
from scaling.data import vocab as vocabs
from scaling.data.batches import PACKED, POOLS, Data, DataSpec, Problem, load
from scaling.data.pools import Drawn, draw, drawn, fingerprints, read_files, versions
from scaling.data.problem_files import Draft
from scaling.data.sources import TFDS, fingerprint
from scaling.data.stored import Stored, example_tokens
from scaling.data.vocab import VOCABS, Vocab, holders
from scaling.errors import BadInput

AT_A_TIME = 1024  # problems that are read, or written, together
TO_TRAIN_ON = 2**23  # characters that a BPE is trained on, at most


def _shown(draft: Draft, spec: DataSpec) -> Draft:
  """The draft as SFT shows it: some with an earlier attempt in the prompt, some backwards."""
  if not (spec.attempts or spec.reversed):
    return draft
  problem = attempts.reversed_(draft.problem, spec.style, spec.seed, spec.reversed)
  if problem == draft.problem:
    problem = attempts.shown(problem, spec.style, spec.seed, spec.attempts)
  return draft._replace(problem=problem)


def _show_attempts(
  spec: DataSpec, vocab: Vocab, drafts: list[Draft], progress
) -> tuple[list[Draft], int]:
  """(the SFT pool as it is packed, how many of them have an attempt in the prompt or are reversed).

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
    _check_texts([example], vocab, spec)
    count += 1
    found.append(example)
  if long and progress:
    progress(f'{long} examples stay without an attempt, which would not fit in data.row_tokens')
  return found, count


def _check_texts(drafts: Sequence[Draft], vocab: Vocab, spec: DataSpec) -> np.ndarray:
  """Lengths [N, 2] of the prompts and the responses with their stop token.

  Raises BadInput for a character that the vocabulary lacks, or more tokens than a row has.
  """
  known = isinstance(drafts, Stored) and spec.long_examples == 'drop'  # `draw` counted them
  lengths = drafts.file.tokens[drafts.numbers] if known else np.zeros((len(drafts), 2), np.int32)
  for i, draft in enumerate(drafts):
    problem = draft.problem
    character = vocab.missing(problem.prompt + problem.solution)
    if character is not None:
      raise BadInput(
        f'{draft.origin}: the character {character!r} is not in the vocabulary {vocab.name!r}: '
        f'use data.vocab = {" or ".join(map(repr, holders(character)))}'
      )
    if not known:
      lengths[i] = example_tokens(problem, vocab)
    if lengths[i].sum() > spec.row_tokens:
      prompt, response = lengths[i]
      raise BadInput(
        f'{draft.origin}: prompt of {prompt} tokens + response of {response} = {prompt + response},'
        f' and data.row_tokens is {spec.row_tokens}: raise it, make the problems smaller, or set '
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

  A SentencePiece model in `folder` is seqio's own SentencePieceVocabulary; any other vocabulary is
  called from TensorFlow's graph, many texts at a time.
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
      def ids(texts):
        found = [np.array(self.of_text(text.decode()), np.int32) for text in texts]
        return np.concatenate(found), np.array([len(one) for one in found], np.int64)

      flat, lengths = tf.numpy_function(ids, [s], [tf.int32, tf.int64])
      flat, lengths = tf.ensure_shape(flat, [None]), tf.ensure_shape(lengths, [None])
      return tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False)

    def _decode_tf(self, ids):
      return tf.numpy_function(lambda ids: vocab.decode(ids.tolist()), [ids], tf.string)

  return Ours(vocab.prompt), Ours(vocab.encode)


def _seqio_task(seqio, name: str, drafts: Sequence[Draft], vocabularies):
  """A registered seqio Task over problems already drawn: tokenised, targets with a stop token."""
  import tensorflow as tf

  of_prompts, of_responses = vocabularies

  def texts():
    for start in range(0, len(drafts), AT_A_TIME):
      some = [draft.problem for draft in drafts[start : start + AT_A_TIME]]
      yield {
        'inputs': [problem.prompt.encode('utf-8', 'replace') for problem in some],
        'targets': [problem.solution.encode('utf-8', 'replace') for problem in some],
      }

  def source(split, shuffle_files, seed=None):
    del split, shuffle_files, seed
    text = tf.TensorSpec([None], tf.string)
    signature = {'inputs': text, 'targets': text}
    return tf.data.Dataset.from_generator(texts, output_signature=signature)

  if name in seqio.TaskRegistry.names():
    seqio.TaskRegistry.remove(name)
  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(source, splits=['train']),
    preprocessors=[
      functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
      seqio.preprocessors.append_eos,
      lambda batches: batches.unbatch(),
    ],
    output_features={
      'inputs': seqio.Feature(of_prompts, add_eos=False),
      'targets': seqio.Feature(of_responses, add_eos=True),
    },
  )


def _examples(provider, seed: int) -> Iterator[tuple[np.ndarray, int]]:
  """(prompt + response + stop token, tokens of the prompt) of each example of a Task or Mixture."""
  import tensorflow as tf

  options = tf.data.Options()  # what is waited for is Python: more threads cost time
  options.autotune.enabled, options.threading.private_threadpool_size = False, 1
  dataset = provider.get_dataset(
    sequence_length=None, split='train', shuffle=False, seed=seed, num_epochs=1
  )
  for some in dataset.ragged_batch(AT_A_TIME).with_options(options):  # in Python once for many
    (prompts, starts), (responses, ends) = (
      (part.values.numpy(), part.row_splits.numpy()) for part in (some['inputs'], some['targets'])
    )
    for i in range(len(starts) - 1):
      prompt, response = prompts[starts[i] : starts[i + 1]], responses[ends[i] : ends[i + 1]]
      yield np.concatenate([prompt, response]), len(prompt)


# -- the folder


def prepare(spec: DataSpec, folder, progress: Callable[[str], None] | None = None) -> None:
  """Draws, tokenises, packs and writes into `folder`, by one rename; done once, it does nothing.

  progress: called with a line of text before each part of the work. Raises BadInput for whatever a
  person can mend.
  """
  folder = pathlib.Path(folder)
  if (folder / 'data.json').is_file():
    return _check_prepared(spec, load(folder))
  with _reading(spec):
    sources = fingerprints(spec)
  temporary = folder.with_name(f'.{folder.name}.{secrets.token_hex(4)}')
  try:
    temporary.mkdir(parents=True)
    with _reading(spec):
      files = read_files(spec, temporary, progress)
    pools, vocab, out = _draw(spec, temporary / 'tokenizer', files, progress)
    dropped = out.dropped
    if dropped and progress:
      by_pool = ', '.join(f'{pool} {count}' for pool, count in dropped.items())
      progress(
        f'left out {dropped.total()} examples longer than data.row_tokens = {spec.row_tokens} '
        f'({by_pool})'
      )
    lengths = {name: _check_texts(drafts, vocab, spec) for name, drafts in pools.items() if drafts}
    of_problems = [lengths[name] for name in lengths if name.split()[0] in POOLS]
    longest = np.max([part.max(axis=0) for part in of_problems] or [(0, 0)], axis=0)
    counts = {pool: {'problems': 0, 'dropped': dropped[pool]} for pool in (*POOLS, 'pretrain')}
    for name, drafts in pools.items():
      counts[name.split()[0]]['problems'] += len(drafts)
    packed = pools
    if spec.attempts or spec.reversed:
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
      'files': {drafts.file.path: drafts.file.counts for drafts in files.values()},
      'contamination': _report(out, temporary / 'contamination.json', progress),
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


def _reading(spec: DataSpec):
  """Around reading files: TensorFlow is quiet, where TFDS brings it along."""
  texts = (spec.task, *spec.sft_tasks, *spec.pretrain_tasks)
  return _quiet_seqio() if any(TFDS in text for text in texts) else contextlib.nullcontext()


def _report(out: Drawn, path: pathlib.Path, progress) -> dict | None:
  """What the index says of contamination; the file says which examples. None: not looked for."""
  if not out.held:
    return None
  (held,) = out.held
  by_pool = collections.Counter(one['pool'] for one in out.found)
  names = ('ngram', 'prompts', 'short', 'templates')
  words = {name: getattr(held, name) for name in names} | {'found': dict(by_pool)}
  path.write_text(json.dumps(words | {'examples': out.found}, indent=1) + '\n')
  if out.found and progress:
    progress(f'{len(out.found)} examples have {held.ngram} words in a row of a held-out prompt')
  return words


def _draw(
  spec: DataSpec, tokenizer: pathlib.Path, files: dict, progress
) -> tuple[dict[str, Sequence[Draft]], Vocab, Drawn]:
  """(pools, vocabulary, what was left out); a tokenizer's files go to that folder."""
  if vocabs.bpe_size(spec.vocab) is not None:
    return _draw_and_train(spec, tokenizer, files, progress)
  if spec.vocab not in VOCABS:
    from scaling.data import subwords

    subwords.copy(spec.vocab, tokenizer)
  vocab, out = vocabs.named(spec.vocab, spec.style == 'chat', tokenizer), drawn()
  return draw(spec, progress, out, vocab, files), vocab, out


def _draw_and_train(spec: DataSpec, tokenizer: pathlib.Path, files: dict, progress):
  """`_draw` with a BPE trained on the prompts and solutions of the SFT and pretraining pools.

  No problem that taught it is in another pool. Where long examples are left out, what fits is known
  only once there is a vocabulary: pools of all lengths teach a first one, and as long as one of
  those problems comes to be held out, it is trained again without them.
  """
  from scaling.data import subwords

  out = drawn()
  pools = draw(spec._replace(long_examples='error'), progress, out, None, files)
  taught = _to_train_on(pools, spec)
  while True:
    if progress:
      progress(f'training {spec.vocab} on {len(taught)} examples')
    shutil.rmtree(tokenizer, ignore_errors=True)
    texts = (text for draft in taught for text in (draft.problem.prompt, draft.problem.solution))
    subwords.train(texts, vocabs.bpe_size(spec.vocab), tokenizer)
    vocab = vocabs.named(spec.vocab, folder=tokenizer)
    if spec.long_examples == 'drop':
      out = drawn()
      pools = draw(spec, progress, out, vocab, files)
    held = {draft.key for pool in ('rl', 'validation', 'test') for draft in pools[pool]}
    rest = [draft for draft in taught if draft.key not in held]
    if len(rest) == len(taught):
      return pools, vocab, out
    taught = rest


def _to_train_on(pools: dict[str, Sequence[Draft]], spec: DataSpec) -> list[Draft]:
  """The examples of the SFT and pretraining pools, of each the first, up to TO_TRAIN_ON characters
  in all."""
  parts = {name: part for name, part in pools.items() if name.split()[0] in ('pretrain', 'sft')}
  total, taught = sum(map(len, parts.values())), []
  for name, part in parts.items():
    left = TO_TRAIN_ON * len(part) / max(total, 1)
    for draft in part:
      draft = _shown(draft, spec) if name == 'sft' else draft
      left -= len(draft.problem.prompt) + len(draft.problem.solution)
      if left < 0:
        break
      taught.append(draft)
  return taught


def _check_prepared(spec: DataSpec, data: Data) -> None:
  """Raises BadInput where a folder holds other data than these; the files may be gone by now."""
  if data.spec != json.loads(json.dumps(spec._asdict())):
    raise BadInput(f'{data.folder}: holds data of another specification: use another workdir')
  for path, known in data.sources.items():
    try:
      found = fingerprint(path)
    except BadInput:
      continue
    if found != known:
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
      rated = [(task, float(len(drafts))) for task, drafts in zip(each, parts.values())]
      # the default would stop at the first task that runs dry: every example is to come once
      to_the_end = tf.data.Dataset.sample_from_datasets
      provider = (
        seqio.Mixture('postscale.mixture', rated, sample_fn=to_the_end)
        if len(each) > 1
        else each[0]
      )
      every_token = pool == 'pretrain' or (pool == 'sft' and spec.loss_on == 'all')
      counts[pool] |= packing.write(
        folder / pool,
        _examples(provider, spec.seed),
        spec.row_tokens,
        every_token,
        vocab.size,
      )


def _write_problems(pools: dict[str, Sequence[Draft]], path: pathlib.Path) -> None:
  schema = pa.schema([(name, pa.string()) for name in ('pool', *Problem._fields)])
  with pq.ParquetWriter(path, schema) as file:
    for pool in POOLS:
      for drafts in (part for name, part in pools.items() if name.split()[0] == pool):
        for start in range(0, len(drafts), AT_A_TIME):
          rows = [
            {'pool': pool, **draft.problem._asdict(), 'entry': json.dumps(draft.problem.entry)}
            for draft in drafts[start : start + AT_A_TIME]
          ]
          file.write_table(pa.Table.from_pylist(rows, schema))
