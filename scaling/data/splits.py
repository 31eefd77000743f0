"""Pools out of files: each problem in one of them, and none that is measured on in what is learned.

`read` reads every file of a specification once. `split` cuts the file of `data.task` into pools,
`take` fills one of them.
"""

import array
import collections
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scaling.data import contamination, near_duplicates, problem_files, stored
from scaling.data import vocab as vocabs
from scaling.data.batches import DataSpec
from scaling.data.contamination import HeldOut
from scaling.data.stored import Stored
from scaling.data.vocab import Vocab
from scaling.errors import BadInput

ORDER = ('test', 'validation', 'rl', 'sft', 'reward')  # in which pools are filled
HIDDEN = {'test', 'validation', 'rl'}  # pools that no vocabulary is trained on
AT_A_TIME = 1024  # problems whose tokens are counted together


class Rules(NamedTuple):
  """What decides which problems a pool takes, and what was left out."""

  spec: DataSpec
  vocab: Vocab | None  # that long examples are long in; None where they are not left out
  dropped: collections.Counter  # by pool: examples longer than a row
  found: list  # of contamination: {'pool', 'where', 'words', 'held_out'}


def read(
  name: str, arguments: dict, path: str, spec: DataSpec, folder, say: Callable[[str], None]
) -> Stored:
  """The distinct problems of a file, in the order that pools take them in.

  Near-duplicates of an earlier one are left out, but for a file of test problems, which stays as it
  is; chats are compared without what their system messages say. What was left out is counted in
  `file.counts`, and told.
  """
  chats = name == 'messages' and spec.style == 'chat'
  prompt = vocabs.named(spec.vocab, True).prompt if chats else None
  file = stored.read(name, path, arguments, spec.style, spec.seed, folder, prompt)
  drafts = stored.distinct(file)
  if spec.near_duplicates and path != arguments.get('test_path'):
    say(f'looking for near-duplicates in {path}')
    texts = lambda i: problem_files.asked(drafts[i].problem)
    kept = near_duplicates.kept(len(drafts), texts, spec.near_duplicates, folder)
    file.counts['near_duplicates'] = int((~kept).sum())
    drafts = Stored(file, drafts.numbers[kept])
  used = {'lines', 'repeated'} if arguments.get('per_prompt', 1) > 1 else {'lines'}
  out = {key: count for key, count in file.counts.items() if key not in used and count}
  if out:
    words = ', '.join(f'{count} {key.replace("_", " ")}' for key, count in out.items())
    say(f'{path}: left out {words} of {file.counts["lines"]} problems')
  return drafts


def check_paths(arguments: dict) -> None:
  """BadInput where a file's test file is the file itself."""
  path, test_path = arguments['path'], arguments.get('test_path')
  same = test_path and (path == test_path or os.path.realpath(path) == os.path.realpath(test_path))
  if same:
    raise BadInput(
      f'{path}: path and test_path are the same file: give another test_path, or none, and '
      'data.test problems are held out of the one file'
    )


def split(
  path: str,
  drafts: Stored,
  test_path: str | None,
  tests: Stored | None,
  rules: Rules,
  hidden_alone: bool = False,
) -> tuple[dict[str, Stored], HeldOut]:
  """(pools out of a file, or out of a file and its test file; what must not be learned).

  The pool whose number is None has what is left. hidden_alone: what comes after the pools of HIDDEN
  is not filled. BadInput where there are too few, or where the two files share problems and that is
  not allowed.
  """
  spec, drafts = rules.spec, first_that_fit(drafts, rules)
  pools, left = {}, {pool: getattr(spec, pool) for pool in ORDER}
  if tests is not None:
    tests = first_that_fit(tests, rules)
    both = np.isin(drafts.keys, tests.keys)
    if both.any() and spec.contamination == 'error':
      first = drafts[int(np.argmax(both))].origin
      raise BadInput(
        f'{test_path}: shares {both.sum()} problems with {path}, the first at {first}: remove them '
        "from one of the two, or set data.contamination = 'drop' to keep them out of training"
      )
    drafts.file.counts['in_test_path'] = int(both.sum())
    pools['test'], _ = take(tests, left.pop('test'), 'test', rules, None)
    drafts = Stored(drafts.file, drafts.numbers[~both])
  every, held = drafts, None
  for pool in sorted(left, key=lambda pool: left[pool] is None):
    if hidden_alone and pools.keys() >= HIDDEN:
      break
    if held is None and pool not in ('test', 'validation'):
      held = held_out(pools, spec)
    try:
      pools[pool], drafts = take(drafts, left[pool], pool, rules, held)
    except BadInput:
      _check_enough(path, every, left, rules)
      raise
  return pools, held


def _check_enough(path: str, drafts: Stored, left: dict, rules: Rules) -> None:
  """BadInput where a file has fewer problems than its pools ask for together."""
  fixed = sum(count for count in left.values() if count is not None)
  fitting = int(_fits(drafts, rules).sum())
  if fixed > fitting:
    raise BadInput(
      f'{path}: {fitting} distinct problems{_left_out(len(drafts) - fitting)}, and the pools '
      f'{", ".join(left)} ask for {fixed}: ask for fewer'
    )


def held_out(pools: dict, spec: DataSpec) -> HeldOut:
  """The held-out prompts of pools, to be looked for in what is learned."""
  measured = (draft for pool in ('test', 'validation') for draft in pools[pool])
  return contamination.held_out(measured, spec.ngram)


def _left_out(long: int, copies: int = 0) -> str:
  """A clause for a message about problems that do not suffice."""
  parts = [f'{long} longer than data.row_tokens'] * bool(long)
  parts += [f'{copies} with words of held-out prompts'] * bool(copies)
  return f' (without {" and ".join(parts)})' if parts else ''


def _fits(drafts: Stored, rules: Rules) -> np.ndarray:
  """Which ones may be in a pool; with 'error' all may, and a long one is refused later."""
  if rules.spec.long_examples == 'error':
    return np.ones(len(drafts), bool)
  return stored.encode(drafts, rules.vocab).lengths.sum(axis=1) <= rules.spec.row_tokens


def first_that_fit(drafts: Stored, rules: Rules) -> Stored:
  """The problems, each with the first of its lines that fits, where long examples are left out."""
  file = drafts.file
  if rules.spec.long_examples == 'error' or not file.counts['repeated']:
    return drafts
  long = np.flatnonzero(~_fits(drafts, rules))
  lines = Stored(file, np.flatnonzero(np.isin(file.keys, drafts.keys[long])))
  fitting = lines.numbers[_fits(lines, rules)]
  keys, first = np.unique(file.keys[fitting], return_index=True)
  long, numbers = long[np.isin(drafts.keys[long], keys)], drafts.numbers.copy()
  numbers[long] = fitting[first[np.searchsorted(keys, drafts.keys[long])]]
  return Stored(file, numbers)


def take(
  drafts: Stored,
  count: int | None,
  pool: str,
  rules: Rules,
  held: HeldOut | None,
  again: bool = False,
) -> tuple[Stored, Stored]:
  """(the first `count` that may be in the pool, the rest); with None, all that may.

  Those passed over are counted. again: where there are fewer, they come again, from the first.
  BadInput where too few are left.
  """
  spec, name = rules.spec, pool.split()[0]
  kept, long, copies, at = array.array('q'), 0, 0, 0
  while at < len(drafts) and len(kept) != count:
    if at % AT_A_TIME == 0:
      fits = _fits(drafts[at : at + AT_A_TIME], rules)
    if not fits[at % AT_A_TIME]:
      long += 1
    else:
      copied = _copies(drafts, at, name, rules, held)
      copies += copied
      if not copied or spec.contamination != 'drop':
        kept.append(at)
    at += 1
  if count is not None and len(kept) < count:
    if not (again and kept):
      copies = copies if spec.contamination == 'drop' else 0
      raise BadInput(
        f'{drafts.file.path}: {len(kept)} distinct problems{_left_out(long, copies)}, and '
        f'data.{name} is {count}: ask for fewer'
      )
    kept = np.resize(kept, count)
  if long:
    rules.dropped[name] += long
  numbers = drafts.numbers[np.asarray(kept, np.int64)]
  return Stored(drafts.file, numbers), drafts[at:]


def _copies(drafts: Stored, at: int, pool: str, rules: Rules, held: HeldOut | None) -> bool:
  """Whether an example has words of a held-out prompt, which is noted."""
  if held is None or not held.runs:
    return False
  draft = drafts[at]
  words = contamination.shared(held, draft.problem)
  if words is not None:
    found = {'pool': pool, 'where': draft.origin, 'words': words[0], 'held_out': words[1]}
    rules.found.append(found)
  return words is not None


def responses(drafts: Stored, most: int, pool: str, rules: Rules, held: HeldOut | None) -> Stored:
  """The examples of an SFT pool: of each prompt the response that it has, then further distinct
  ones in the order of the file, `most` in all. Those passed over are counted as in `take`."""
  file, name, drop = drafts.file, pool.split()[0], rules.spec.contamination == 'drop'
  order = np.argsort(drafts.keys)
  lines = np.flatnonzero(np.isin(file.keys, drafts.keys))
  place = order[np.searchsorted(drafts.keys, file.keys[lines], sorter=order)]
  its = np.lexsort((lines, ~np.isin(lines, drafts.numbers), place))
  every, place, kept, last = Stored(file, lines[its]), place[its].tolist(), array.array('q'), -1
  for at, prompt in enumerate(place):
    solution = every[at].problem.solution
    if prompt != last:
      last, texts = prompt, {solution}  # its own, which `take` took
    elif len(texts) == most or solution in texts:
      continue
    elif not _fits(every[at : at + 1], rules)[0]:
      rules.dropped[name] += 1
      continue
    elif _copies(every, at, name, rules, held) and drop:
      continue
    texts.add(solution)
    kept.append(at)
  return Stored(file, every.numbers[np.asarray(kept, np.int64)])


def refuse(rules: Rules, held: HeldOut | None) -> None:
  """BadInput for contamination that is not allowed."""
  if not rules.found or rules.spec.contamination != 'error':
    return
  first, count = rules.found[0], len(rules.found)
  raise BadInput(
    f'{first["where"]}: {held.ngram} words in a row of a held-out prompt ({first["held_out"]}): '
    f'"{first["words"]}"; so have {count} of the examples to learn from: set data.contamination = '
    "'drop' to leave them out, or 'allow' to keep them (contamination.json of the prepared data "
    'then lists them)'
  )
