"""The rollout bank: every sample drawn of a model's responses, one row each, in Parquet.

    workdir/banks/<hash>/
      shard-p00000-s00000.parquet    a block of the sampler: a row group for each of its problems
      _footers/                      a copy of each shard's footer: a shard cut off is read by it
      _index.jsonl                   whose bank it is; then a line a shard: what it holds

The hash is of the model's stage and of the recipe without what only says how much is drawn and read
(`READER`). So stages that ask for 128 and for 512 samples of the same model share a bank: the
second draws what is missing, and what is there stays as it is. The size of a block is in the hash,
and is no more than what is asked for: below config.sample.block_samples each n has its own bank, as
those of reward models, DPO and self-training mostly do. A shard is written whole or not at all, and
nothing is written into one again but a recovery. `pandas.read_parquet(folder)` reads all of it.

Columns: `SCHEMA` has them. A response that was cut off at its limit has no answer and is not
correct, whatever it says; one that a stop string ended is cut before that string in `response`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scaling import compute, files, processes
from scaling.errors import BadInput
from scaling.rewards import verifiers
from scaling.stages import stage as stages

READER = ('n', 'problems', 'measure')  # keys of a recipe that a bank does not depend on

SCHEMA = pa.schema(
  {
    'stage': pa.string(),  # that drew it
    'problem': pa.string(),  # its id
    'place': pa.int32(),  # its index in the pool
    'prompt': pa.string(),
    'sample': pa.int32(),  # its index among the problem's
    'response': pa.string(),
    'tokens': pa.list_(pa.int32()),
    'logprobs': pa.list_(pa.float32()),  # the policy's own
    'sampler_logprobs': pa.list_(pa.float32()),  # of the distribution drawn from
    'length': pa.int32(),  # tokens, the stop token counted
    'stopped': pa.bool_(),  # False: cut off at its limit
    'answer': pa.string(),  # canonical; null where none was given
    'correct': pa.bool_(),
    'reward': pa.float32(),  # of the verdict; null where there could be none (it timed out, say)
    'temperature': pa.float64(),
    'prompt_tokens': pa.int32(),
    'prefill_flops': pa.float64(),  # model FLOPs of the prompt, once for all its samples
    'decode_flops': pa.float64(),
  }
)
VERDICT = ('answer', 'correct', 'reward')


def identity(parent: str | None, recipe: dict) -> dict:
  """What a bank depends on: the stage of its model, and the recipe without `READER`."""
  kept = {k: v for k, v in recipe.items() if k not in READER}
  return json.loads(json.dumps({'parent': parent, 'recipe': kept}))  # as it is read back


def folder_of(workdir: Path, parent: str | None, recipe: dict) -> Path:
  """Where the bank of a model and a recipe is kept."""
  text = json.dumps(identity(parent, recipe), sort_keys=True)
  return Path(workdir) / 'banks' / hashlib.sha256(text.encode()).hexdigest()[:10]


def folder(workdir: Path, stage_id: str) -> Path:
  """Where the bank of a stage of sampling is kept. BadInput where there is no such stage."""
  stage = _stage(workdir, stage_id)
  return folder_of(workdir, stage['parent'], stage['recipe'])


def _stage(workdir: Path, stage_id: str) -> dict:
  path = stages.folder(workdir, stage_id) / 'stage.json'
  if not path.exists():
    raise BadInput(f'{path}: no such stage; a bank is named by the id of a stage of kind sample')
  return files.read_json(path)


def of_stage(workdir: Path, stage_id: str, columns=None, verdicts: str | None = None):
  """The rows that a stage of sampling asked for: its first n samples of its first problems."""
  stage = _stage(workdir, stage_id)
  recipe = stage['recipe']
  where = folder_of(workdir, stage['parent'], recipe)
  table = read(where, columns, recipe['n'], recipe['problems'], verdicts)
  return table.assign(stage=stage_id) if 'stage' in table else table


def cut(text: str, stop: Sequence[str]) -> str:
  """A response's text before the stop string that ended it: the one that is whole first."""
  ends = [(text.find(s) + len(s), -len(s)) for s in stop if s in text]
  if not ends:
    return text
  end, size = min(ends)
  return text[: end + size]


def rows(
  stage_id: str, cfg, problems, vocab, drawn, first: int, temperature: float, stop=(), places=None
) -> pd.DataFrame:
  """A table of a block's samples, verified.

  problems: those of the block, P of them; drawn: sample_step.Samples of host arrays [P, S, T];
  first: the index of the block's first sample; stop: the stop strings; places: the problems'
  indices in their pool, 0 … P - 1 by default.
  """
  S, table = drawn.tokens.shape[1], []
  lengths, whole = drawn.lengths, np.asarray(drawn.stopped, bool)

  def text(p: int, s: int) -> str:
    said = vocab.decode(drawn.tokens[p, s, : lengths[p, s]])
    return cut(said, stop) if whole[p, s] else said

  said = [[text(p, s) for s in range(S)] for p in range(len(problems))]
  asked = [[text if whole[p, s] else '' for s, text in enumerate(ones)]
           for p, ones in enumerate(said)]  # fmt: skip
  verdicts = verifiers.verify_all(problems, asked)
  for p, problem in enumerate(problems):
    prompt_tokens = len(vocab.prompt(problem.prompt))
    for s in range(S):
      length, stopped = int(lengths[p, s]), bool(whole[p, s])
      prefill, decode = compute.query(cfg, prompt_tokens, length, 1)
      table.append(
        dict(
          stage=stage_id,
          problem=problem.id,
          place=p if places is None else places[p],
          prompt=problem.prompt,
          sample=first + s,
          response=said[p][s],
          tokens=drawn.tokens[p, s, :length].astype(np.int32),
          logprobs=drawn.logprobs[p, s, :length],
          sampler_logprobs=drawn.sampler_logprobs[p, s, :length],
          length=length,
          stopped=stopped,
          **_verdict(verdicts[p][s]),
          temperature=temperature,
          prompt_tokens=prompt_tokens,
          prefill_flops=prefill,
          decode_flops=decode,
        )
      )
  return pd.DataFrame(table)


def _verdict(verdict: verifiers.Verdict) -> dict:
  reward = np.float32(verdict.correct if verdict.status == 'ok' else np.nan)
  return {'answer': verdict.answer, 'correct': verdict.correct, 'reward': reward}


def prepare(where: Path, about: dict) -> list[list[int]]:
  """Opens a bank to draw on, or begins it: [place, first sample] of each row group that is there.

  Every shard is read. One that is cut off or damaged is written again with the row groups that are
  whole, and a line says so. BadInput where the bank is another model's or of another recipe than
  `about` (an `identity`).
  """
  where = Path(where)
  (where / '_footers').mkdir(parents=True, exist_ok=True)
  index = _read_index(where)
  if index is not None:
    _check_identity(where, index[0], about)
  shards, there = [], []
  for path in sorted(where.glob('shard-*.parquet')):
    groups, notes, total, intact = _groups(path)
    if not intact:
      print(
        f'{path}: cut off or damaged; {len(groups)} of its {total or "?"} problems are recovered, '
        'the others are drawn again',
        flush=True,
      )
      path.unlink()
      if groups:
        path = where / _name(groups)  # the old name is that of what is drawn again
        _write(path, groups, notes | {'executed': _share(notes['executed'], len(groups) / total)})
    if groups:
      shards.append(_line(path, groups))
      there += [[p, shards[-1]['sample']] for p in shards[-1]['places']]
  lines = [{'bank': about}, *shards]
  if index != lines:
    files.write_text(where / '_index.jsonl', ''.join(json.dumps(line) + '\n' for line in lines))
  return there


def _read_index(where: Path) -> list | None:
  """The lines of the index; one that was being written when the run was cut off is left out."""
  path = where / '_index.jsonl'
  if not path.exists():
    return None
  lines = []
  for line in path.read_text().splitlines():
    try:
      lines.append(json.loads(line))
    except json.JSONDecodeError:
      break
  return lines or None


def _check_identity(where: Path, first: dict, about: dict) -> None:
  old = first.get('bank', {})
  if old == about:
    return

  def flat(x):
    recipe = x.get('recipe', {})
    model = {f'model.{k}': v for k, v in recipe.get('model', {}).items()}
    return {'parent': x.get('parent'), **model, **recipe}

  old, new = flat(old), flat(about)
  key = next(k for k in (*new, *old) if old.get(k) != new.get(k))
  of = 'model' if key.split('.')[0] in ('parent', 'model', 'preset') else 'recipe'
  raise BadInput(
    f'{where}: the bank of another {of} ({key} is {old.get(key)!r} there, {new.get(key)!r} here); '
    'move that folder away, or use another workdir'
  )


def _share(executed: dict, part: float) -> dict:
  return {kind: flops * part for kind, flops in executed.items()}


def _footer(path: Path) -> Path:
  return path.parent / '_footers' / (path.name + '.footer')


def _groups(path: Path) -> tuple[list[pa.Table], dict, int, bool]:
  """(the row groups of a shard that are whole, its notes, how many there were, is it all whole).

  0 were there where neither its footer nor the copy can be read.
  """
  for footer in (path, _footer(path)):
    try:
      metadata = pq.read_metadata(footer)
      file = pq.ParquetFile(path, metadata=metadata, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
      continue
    groups = []
    for i in range(metadata.num_row_groups):
      try:
        groups.append(file.read_row_group(i))
      except (OSError, pa.ArrowException):
        continue
    file.close()
    total = metadata.num_row_groups
    intact = footer == path and len(groups) == total
    return groups, json.loads(metadata.metadata[b'postscale']), total, intact
  return [], {}, 0, False


def _name(groups: list[pa.Table]) -> str:
  """A shard's file: by its first problem and sample, which are in no other shard."""
  place, sample = (groups[0][name][0].as_py() for name in ('place', 'sample'))
  return f'shard-p{place:05d}-s{sample:05d}.parquet'


def _line(path: Path, groups: list[pa.Table]) -> dict:
  """What the index says of a shard."""
  return {
    'file': path.name,
    'bytes': path.stat().st_size,
    'places': [int(group['place'][0].as_py()) for group in groups],
    'sample': int(groups[0]['sample'][0].as_py()),
    'samples': len(groups[0]),
  }


def _write(path: Path, groups: list[pa.Table], notes: dict) -> None:
  """Writes a shard whole, and the copy of its footer before it has its name."""
  schema = SCHEMA.with_metadata({'postscale': json.dumps(notes)})
  with files.replacing(path) as scratch:
    with pq.ParquetWriter(scratch, schema, write_page_checksum=True) as writer:
      for group in groups:
        writer.write_table(group.replace_schema_metadata(schema.metadata))
    with files.replacing(_footer(path)) as footer:
      pq.read_metadata(scratch).write_metadata_file(footer)


def write(where: Path, table: pd.DataFrame, executed: dict) -> None:
  """Adds a block to a bank that is prepared; executed: FLOPs by kind that drawing it took."""
  if not processes.first():
    return
  groups = [
    pa.Table.from_pandas(group, SCHEMA, preserve_index=False)
    for _, group in table.groupby('place', sort=True)
  ]
  path = Path(where) / _name(groups)
  _write(path, groups, {'stage': str(table['stage'].iloc[0]), 'executed': executed})
  with open(path.parent / '_index.jsonl', 'a') as file:
    file.write(json.dumps(_line(path, groups)) + '\n')


def spent(where: Path, stage_id: str) -> dict:
  """The ledger of what a stage drew of a bank: nothing of what another had drawn before."""
  ledger = compute.empty()
  for path in sorted(Path(where).glob('shard-*.parquet')):
    notes = json.loads(pq.read_metadata(path).metadata[b'postscale'])
    if notes['stage'] == stage_id:
      ledger = compute.add(ledger, _ledger(_table(path, COST), notes['executed']))
  return ledger


def cost(workdir: Path, stage_id: str) -> dict:
  """The ledger of all that a stage of sampling asked for, whichever stage drew it."""
  stage = _stage(workdir, stage_id)
  recipe, ledger = stage['recipe'], compute.empty()
  where = folder_of(workdir, stage['parent'], recipe)
  for path in sorted(where.glob('shard-*.parquet')):
    table = _table(path, COST)
    asked = table[(table['sample'] < recipe['n']) & (table['place'] < recipe['problems'])]
    executed = json.loads(pq.read_metadata(path).metadata[b'postscale'])['executed']
    part = _ledger(asked, _share(executed, len(asked) / len(table)))
    ledger = compute.add(ledger, part) if len(asked) else ledger
  return ledger


COST = ['place', 'sample', 'prefill_flops', 'decode_flops']


def _ledger(table: pd.DataFrame, executed: dict) -> dict:
  """The ledger of the rows of a shard; a prompt is prefilled once for each block."""
  once = table.drop_duplicates('place')
  model = {'prefill': once['prefill_flops'].sum(), 'decode': table['decode_flops'].sum()}
  part = {k: {kind: float(v) for kind, v in x.items()} for k, x in
          (('model', model), ('executed', executed))}  # fmt: skip
  zeros = compute.empty()
  return {k: zeros[k] | part[k] for k in part}


def _table(path: Path, columns=None) -> pd.DataFrame:
  try:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
      return file.read(columns=columns).to_pandas()
  except (OSError, pa.ArrowException) as error:
    reason = str(error).splitlines()[0]
    raise BadInput(
      f'{path}: not readable ({reason}); remove the done.json of its sample stage and run again, '
      'which recovers what is whole and draws the rest'
    ) from error


def read(
  where: Path,
  columns: Sequence[str] | None = None,
  n: int | None = None,
  problems: int | None = None,
  verdicts: str | None = None,
) -> pd.DataFrame:
  """A bank, ordered by problem and sample: the first n samples of its pool's first problems.

  columns: those alone; verdicts: the name of a `rescore`, whose verdicts take the place of the
  bank's own. BadInput where there is no bank, or a shard is damaged.
  """
  where = Path(where)
  paths = sorted(where.glob('shard-*.parquet'))
  if not paths:
    raise BadInput(f'{where}: no bank is there; run its sample stage')
  columns = list(columns) if columns is not None else SCHEMA.names
  parts = []
  for path in paths:
    part = _table(path, list(dict.fromkeys([*columns, 'place', 'sample', 'problem'])))
    keep = np.ones(len(part), bool)
    keep &= part['sample'].to_numpy() < n if n is not None else True
    keep &= part['place'].to_numpy() < problems if problems is not None else True
    parts.append(part[keep])
  table = pd.concat(parts, ignore_index=True)
  table = table.sort_values(['place', 'sample'], ignore_index=True)
  if verdicts is not None:
    fresh = pd.read_parquet(_verdicts(where, verdicts))
    table = table.drop(columns=list(VERDICT), errors='ignore')
    table = table.merge(fresh, on=['problem', 'sample'], how='left', validate='1:1')
  return table[columns]


def _verdicts(where: Path, name: str) -> Path:
  return Path(where) / f'_verdicts-{name}.parquet'


def rescore(
  where: Path,
  problems: Sequence,
  verify: Callable = verifiers.verify,
  name: str = 'rescored',
) -> Path:
  """Verdicts of a new verifier on all of a bank: a file beside it, for `read(verdicts=name)`.

  problems: those of the pool, each with an id; verify(problem, response) -> Verdict. Nothing is
  generated, and the bank's own verdicts stay. Columns: problem, sample, answer, correct, reward.
  BadInput where the bank has a problem that is not among `problems`.
  """
  by_id = {problem.id: problem for problem in problems}
  table = read(where, ['problem', 'sample', 'response', 'stopped'])
  lost = set(table['problem']) - set(by_id)
  if lost:
    raise BadInput(f'{where}: has problem {min(lost)!r}, which is not among those given')
  none = verifiers.Verdict(False, None)  # of a response that was cut off
  found = [
    _verdict(verify(by_id[row.problem], row.response) if row.stopped else none)
    for row in table.itertuples()
  ]
  fresh = pd.concat([table[['problem', 'sample']], pd.DataFrame(found)], axis=1)
  files.write_table(_verdicts(where, name), fresh)
  return _verdicts(where, name)
