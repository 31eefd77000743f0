"""From pools of problems to arrays on disk: tokenised once, mixed by seqio, packed, written once.

The only importer of seqio, and only where there is a mixture to prepare: it brings TensorFlow along
(some seconds). What is left on disk is read by `scaling.data.batches`, which needs neither.
"""

import bisect
import collections
import contextlib
import functools
import itertools
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
import scipy.stats

from scaling.data import attempts, packing, stored
from scaling.data import vocab as vocabs
from scaling.data.batches import PACKED, POOLS, Data, DataSpec, Problem, load
from scaling.data.pools import Drawn, draw, drawn, fingerprints, numbers, read_files, versions
from scaling.data.problem_files import Draft, of_file
from scaling.data.sources import TFDS, fingerprint
from scaling.data.splits import HIDDEN
from scaling.data.stored import Encoded, Stored
from scaling.data.vocab import VOCABS, Vocab, holders
from scaling.errors import BadInput
from scaling.files import PARTIAL
from scaling.rewards import verifiers

AT_A_TIME = 1024  # problems that are read, or written, together
UNLIKE = 0.1  # of how far two distributions of prompt lengths may lie apart
TO_READ_BACK = 8  # problems of a pool whose solutions are verified as the tokens have them
TO_TRAIN_ON = 2**22  # characters that a BPE is trained on, at most


def _shown(draft: Draft, spec: DataSpec) -> Draft:
  """The draft as SFT shows it: some with an earlier attempt in the prompt, some backwards."""
  if not (spec.attempts or spec.reversed or spec.corrected):
    return draft
  problem = attempts.reversed_(draft.problem, spec.style, spec.seed, spec.reversed)
  if problem == draft.problem:
    problem = attempts.shown(problem, spec.style, spec.seed, spec.attempts)
  if problem == draft.problem:
    problem = attempts.corrected(problem, spec.style, spec.seed, spec.corrected)
  return draft._replace(problem=problem)


def _show_attempts(
  spec: DataSpec, drafts: Sequence[Draft], plain: Encoded, progress
) -> tuple[Encoded, int]:
  """(the SFT pool as it is packed, how many of them have an attempt in the prompt or are reversed).

  Where long examples are left out, one that an attempt makes longer than a row stays without it.
  Otherwise it raises BadInput, as it does for a mark that the vocabulary cannot write.
  """
  numbers, count, long = plain.numbers.copy(), 0, 0
  for i, draft in enumerate(drafts):
    example = _shown(draft, spec)
    if example.problem == draft.problem:
      continue
    number = plain.tokens.add(example.problem)
    one = plain._replace(numbers=np.array([number]))
    lengths = one.lengths[0]
    if lengths.sum() > spec.row_tokens:
      if spec.long_examples == 'error':
        raise BadInput(
          f'{draft.origin}: with an earlier attempt (data.attempts = {spec.attempts}) its prompt '
          f'of {lengths[0]} tokens + response of {lengths[1]} = {lengths.sum()}, and '
          f'data.row_tokens is {spec.row_tokens}: raise it, set data.attempts = 0, or '
          "data.long_examples = 'drop'"
        )
      long += 1
      continue
    _check_texts([example], one, spec)
    count += 1
    numbers[i] = number
  if long and progress:
    progress(f'{long} examples stay without an attempt, which would not fit in data.row_tokens')
  return plain._replace(numbers=numbers), count


def _check_written(draft: Draft, vocab: Vocab) -> None:
  """BadInput for a draft with a character that the vocabulary lacks."""
  character = vocab.missing(vocabs.contents(draft.problem.prompt) + draft.problem.solution)
  if character is not None:
    raise BadInput(
      f'{draft.origin}: the character {character!r} is not in the vocabulary {vocab.name!r}: '
      f'use data.vocab = {" or ".join(map(repr, holders(character)))}'
    )


def check_first(spec: DataSpec) -> None:
  """BadInput for what is seen before all is prepared: a file that is not there, or characters of
  the first problem of a generated task that the vocabulary lacks."""
  with _reading(spec):
    fingerprints(spec)
  tasks = (spec.task, *spec.sft_tasks, *spec.pretrain_tasks)
  if spec.vocab in VOCABS and not any(map(of_file, tasks)):
    few = {pool: min(spec._asdict()[pool], 1) for pool in (*POOLS, 'pretrain')}
    vocab = VOCABS[spec.vocab]
    for drafts in draw(spec._replace(**few), None, drawn(), vocab, {}).values():
      for draft in drafts:
        _check_written(draft, vocab)


def _check_texts(drafts: Sequence[Draft], encoded: Encoded, spec: DataSpec) -> np.ndarray:
  """The longest prompt and the longest response with its stop token, in tokens, [2].

  Raises BadInput for a character that the vocabulary lacks, or more tokens than a row has.
  """
  lengths, unwritten = encoded.lengths, encoded.unwritten
  wrong = unwritten | (lengths.sum(axis=1) > spec.row_tokens)
  if not wrong.any():
    return lengths.max(axis=0)
  at, vocab = int(wrong.argmax()), encoded.tokens.vocab
  if unwritten[at]:
    _check_written(drafts[at], vocab)
  origin, (prompt, response) = drafts[at].origin, lengths[at]
  raise BadInput(
    f'{origin}: prompt of {prompt} tokens + response of {response} = {prompt + response},'
    f' and data.row_tokens is {spec.row_tokens}: raise it, make the problems smaller, or set '
    "data.long_examples = 'drop'"
  )


def _check_decoded(drafts: Sequence[Draft], encoded: Encoded, spec: DataSpec) -> None:
  """BadInput where a right solution is wrong once it is read back from its tokens, as a program is
  without its line breaks: no response could be right. The first TO_READ_BACK are looked at."""
  vocab, changed = encoded.tokens.vocab, []
  for draft, number in zip(drafts[:TO_READ_BACK], encoded.numbers.tolist()):
    ids, prompt = encoded.tokens.sequence(number)
    text = vocab.decode(ids[prompt:])
    if text != draft.problem.solution:
      changed.append((draft, text))
  problems = [draft.problem for draft, _ in changed]
  texts = [[draft.problem.solution, text] for draft, text in changed]
  for (draft, text), verdicts in zip(changed, verifiers.verify_all(problems, texts)):
    as_text, as_tokens = (verdict.correct for verdict in verdicts)
    if as_text and not as_tokens:
      raise BadInput(
        f'{draft.origin}: its solution is right, and what data.vocab = {spec.vocab!r} makes of it '
        f'is wrong ({text[:40]!r}…): no response could be right: use a tokenizer that keeps line '
        "breaks and spaces, say a byte-level one, or data.vocab = 'bytes'"
      )


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


def _mixed(sizes: Sequence[int], seed: int) -> Iterator[int]:
  """The numbers of all examples of a mixture, those of a part after those of the part before it: in
  the order in which seqio mixes parts of these sizes, at rates in proportion to them."""
  with _quiet_seqio() as seqio:
    import tensorflow as tf

    feature = {'number': seqio.Feature(seqio.PassThroughVocabulary(0), False, True, tf.int64, 0)}
    rated = []
    for i, (start, size) in enumerate(zip(np.cumsum([0, *sizes]), sizes)):
      numbers = np.arange(start, start + size)
      source = functools.partial(_numbers, numbers)
      name = f'postscale.part.{i}'
      if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
      source = seqio.FunctionDataSource(source, splits=['train'])
      rated.append((seqio.TaskRegistry.add(name, source, feature), float(size)))
    # the default would stop at the first task that runs dry: every example is to come once
    to_the_end = tf.data.Dataset.sample_from_datasets
    mixture = seqio.Mixture('postscale.mixture', rated, sample_fn=to_the_end)
    options = tf.data.Options()  # what is waited for is Python: more threads cost time
    options.autotune.enabled, options.threading.private_threadpool_size = False, 1
    dataset = mixture.get_dataset(
      sequence_length=None, split='train', shuffle=False, seed=seed, num_epochs=1
    )
    for some in dataset.batch(AT_A_TIME).with_options(options):  # in Python once for many
      yield from some['number'].numpy().tolist()


def _numbers(numbers: np.ndarray, split, shuffle_files, seed=None):
  """The source of a seqio Task: the numbers of its examples."""
  import tensorflow as tf

  del split, shuffle_files, seed
  return tf.data.Dataset.from_tensor_slices({'number': numbers})


def _examples(parts: Sequence[Encoded], seed: int) -> Iterator[tuple[np.ndarray, int]]:
  """(prompt + response + stop token, tokens of the prompt) of each example of a pool's parts."""
  sizes = [len(part.numbers) for part in parts]
  ends = list(itertools.accumulate(sizes))
  for number in _mixed(sizes, seed) if len(parts) > 1 else range(*sizes):
    at = bisect.bisect_right(ends, number)
    part = parts[at]
    yield part.tokens.sequence(part.numbers[number - ends[at]])


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
  temporary = folder.with_name(f'.{folder.name}.{secrets.token_hex(4)}{PARTIAL}')
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
    encoded, longest, learned = {}, np.zeros(2, int), pools | out.responses
    for name, drafts in learned.items():
      if drafts:
        encoded[name] = stored.encode(drafts, vocab, temporary)
        most = _check_texts(drafts, encoded[name], spec)
        longest = np.maximum(longest, most) if name in POOLS else longest
        if name in ('test', 'rl'):
          _check_decoded(drafts, encoded[name], spec)
    apart = unlike({name: its.lengths[:, 0] for name, its in encoded.items()})
    counts = {pool: {'problems': 0, 'dropped': dropped[pool]} for pool in (*POOLS, 'pretrain')}
    for name, drafts in pools.items():
      counts[name.split()[0]]['problems'] += len(drafts)
    if out.responses:
      counts['sft']['responses'] = sum(
        len(drafts) for name, drafts in learned.items() if name.split()[0] == 'sft'
      )
    if spec.attempts or spec.reversed or spec.corrected:
      counts['sft']['attempts'] = 0
      if pools['sft']:
        encoded['sft'], counts['sft']['attempts'] = _show_attempts(
          spec, learned['sft'], encoded['sft'], progress
        )
    _write_rows(spec, vocab, encoded, temporary, counts, progress)
    _write_problems(pools, temporary / 'problems.parquet')
    index = {
      'spec': spec._asdict(),
      'vocab': {'name': vocab.name, 'size': vocab.size, 'stop': vocab.stop},
      'counts': counts,
      'max_prompt_tokens': int(longest[0]),
      'max_response_tokens': int(longest[1]),
      'unlike': apart,
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


def unlike(lengths: dict[str, np.ndarray]) -> dict[str, dict]:
  """Pools to learn from whose prompts are of other lengths than the test problems'.

  lengths: pool -> int [N], tokens of each prompt. Two pools are unlike where their distributions
  lie more than UNLIKE apart (Kolmogorov and Smirnov's statistic) and beyond chance (p < .001).
  Returns pool -> {'at_most': the length where they are furthest apart, 'test' and 'there': the
  parts of the prompts of either that are no longer}.

  So it is where one kind of problem is so small that the pools drawn first take most of it.
  """
  found = {}
  for pool in ('sft', 'rl'):
    if not {'test', pool} <= set(lengths):
      continue
    test, there = lengths['test'], lengths[pool]
    apart = scipy.stats.ks_2samp(test, there, method='asymp')
    if apart.statistic > UNLIKE and apart.pvalue < 1e-3:
      at_most = int(apart.statistic_location)
      parts = {'test': np.mean(test <= at_most), 'there': np.mean(there <= at_most)}
      found[pool] = {'at_most': at_most} | {name: float(part) for name, part in parts.items()}
  return found


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
  only once there is a vocabulary: pools of all lengths teach a first one, those with words of a
  held-out prompt left out unless they are allowed, and as long as one of the problems comes to be
  held out, it is trained again without them.
  """
  from scaling.data import subwords

  out = drawn()
  first, drop = spec._replace(long_examples='error'), spec.long_examples == 'drop'
  if drop and spec.contamination == 'error':  # whether any is among those that fit is seen below
    first = first._replace(contamination='drop')
  pools = draw(first, progress, out, None, files)
  taught = _to_train_on(pools, spec)
  while True:
    if progress:
      count = sum(len(part) for part in taught.values())
      progress(f'training {spec.vocab} on {count} examples')
    shutil.rmtree(tokenizer, ignore_errors=True)
    texts = itertools.chain.from_iterable(_texts(taught, spec))
    subwords.train(texts, vocabs.bpe_size(spec.vocab), tokenizer)
    vocab = vocabs.named(spec.vocab, folder=tokenizer)
    hidden = draw(spec, None, None, vocab, files, hidden_alone=True) if drop else pools
    held = np.concatenate([numbers(hidden[pool]) for pool in HIDDEN])
    rest = {name: _without(part, held) for name, part in taught.items()}
    if sum(map(len, rest.values())) == sum(map(len, taught.values())):
      break
    taught = rest
  if drop:
    out = drawn()
    pools = draw(spec, progress, out, vocab, files)
  return pools, vocab, out


def _to_train_on(pools: dict[str, Sequence[Draft]], spec: DataSpec) -> dict[str, Sequence[Draft]]:
  """The examples of the SFT and pretraining pools, of each the first, up to TO_TRAIN_ON characters
  in all."""
  parts = {name: part for name, part in pools.items() if name.split()[0] in ('pretrain', 'sft')}
  total, taught = sum(map(len, parts.values())), {}
  for name, part in parts.items():
    left, count = TO_TRAIN_ON * len(part) / max(total, 1), 0
    for prompt, solution in _texts({name: part}, spec):
      left -= len(prompt) + len(solution)
      if left < 0:
        break
      count += 1
    taught[name] = part[:count]
  return taught


def _texts(parts: dict[str, Sequence[Draft]], spec: DataSpec) -> Iterator[tuple[str, str]]:
  """(prompt, solution) of each example, as it is learned."""
  for name, part in parts.items():
    for draft in part:
      problem = (_shown(draft, spec) if name == 'sft' else draft).problem
      yield problem.prompt, problem.solution


def _without(drafts: Sequence[Draft], held: np.ndarray) -> Sequence[Draft]:
  """Those whose numbers are not among `held`."""
  keep = ~np.isin(numbers(drafts), held)
  if isinstance(drafts, Stored):
    return Stored(drafts.file, drafts.numbers[keep])
  return list(itertools.compress(drafts, keep))


def _check_prepared(spec: DataSpec, data: Data) -> None:
  """Raises BadInput where a folder holds other data than these. The files of problems may be gone
  by now; a tokenizer's may not: planning reads it where data.vocab says."""
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
  spec: DataSpec,
  vocab: Vocab,
  encoded: dict[str, Encoded],
  folder: pathlib.Path,
  counts: dict,
  progress,
) -> None:
  """Packs the pools that are read as rows, and completes their counts."""
  for pool in PACKED:
    parts = [part for name, part in encoded.items() if name.split()[0] == pool]
    if parts:
      if progress:
        progress(f'packing {pool}')
      every_token = pool == 'pretrain' or (pool == 'sft' and spec.loss_on == 'all')
      counts[pool] |= packing.write(
        folder / pool, _examples(parts, spec.seed), spec.row_tokens, every_token, vocab.size
      )


def _write_problems(pools: dict[str, Sequence[Draft]], path: pathlib.Path) -> None:
  schema = pa.schema([(name, pa.string()) for name in ('pool', *Problem._fields)])
  with pq.ParquetWriter(path, schema) as file:
    for pool in POOLS:
      for drafts in (part for name, part in pools.items() if name.split()[0] == pool):
        for start in range(0, len(drafts), AT_A_TIME):
          rows = [
            (pool, *draft.problem[:-1], json.dumps(draft.problem.entry))
            for draft in drafts[start : start + AT_A_TIME]
          ]
          columns = [pa.array(column, pa.string()) for column in zip(*rows)]
          file.write_table(pa.Table.from_arrays(columns, schema=schema))
