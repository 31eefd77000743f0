"""From a specification to pools of problems, disjoint and drawn the same way every time.

A task is written as a call with literal arguments, and read without running it:

    chain_sum(min_terms=3, max_terms=3, min_digits=2, max_digits=2)     reasoning-gym
    jsonl(path='train.jsonl', test_path='test.jsonl')                   GSM8K's format
    math(path='train.jsonl'), code(path='train.jsonl')                  see problem_files.py
"""

import ast
import collections
import dataclasses
import difflib
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from scaling.data import problem_files, solutions
from scaling.data import vocab as vocabs
from scaling.data.batches import LONG_EXAMPLES, POOLS, DataSpec, Problem
from scaling.data.problem_files import ARGUMENTS, Draft
from scaling.data.vocab import VOCABS, Vocab
from scaling.errors import BadInput
from scaling.rewards import verifiers

CHUNK = 4096  # reasoning-gym entries drawn from one seed
STYLES = ('short', 'full', 'chat')  # 'chat': the text of 'full', as a user's message
DRAWN = ('test', 'validation', 'rl', 'sft', 'reward')  # in this order: the first stay as they are


class Task(NamedTuple):
  name: str
  arguments: dict


# -- the specification


def parse_task(text: str) -> Task:
  """A task and its arguments. Raises BadInput for an unknown name, argument or type."""
  try:
    node = ast.parse(text.strip(), mode='eval').body
    if isinstance(node, ast.Name):
      name, arguments = node.id, {}
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
      name = node.func.id
      if None in (item.arg for item in node.keywords):  # **arguments
        raise ValueError
      arguments = {item.arg: ast.literal_eval(item.value) for item in node.keywords}
    else:
      raise ValueError
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
    raise BadInput(
      f'task {text!r} is not a name with literal arguments: write it as chain_sum(max_terms=3)'
    ) from None
  known = ARGUMENTS[name] if name in ARGUMENTS else _arguments(name)
  for argument in arguments:
    if argument not in known:
      near = difflib.get_close_matches(argument, known, n=1)
      hint = f'did you mean {near[0]}? ' if near else ''
      raise BadInput(
        f'task {name}: no argument {argument!r}: {hint}it takes {", ".join(sorted(known))}'
      )
  if name in ARGUMENTS:
    for argument, value in arguments.items():
      if not isinstance(value, known[argument]):
        raise BadInput(
          f'task {name}: {argument} is {value!r}: it must be a {known[argument].__name__}'
        )
    if 'path' not in arguments:
      raise BadInput(f"task {name}: no path: write it as {name}(path='train.jsonl')")
  else:
    _dataset(Task(name, arguments), 0, 1)
  return Task(name, arguments)


def check_spec(spec: DataSpec) -> None:
  """Raises BadInput for a specification that cannot be prepared, before anything is drawn."""
  if spec.style not in STYLES:
    raise BadInput(f'data.style is {spec.style!r}: it must be one of {", ".join(STYLES)}')
  vocabs.check(spec.vocab, spec.style == 'chat')
  if not 2 <= spec.row_tokens <= 65535:
    raise BadInput(f'data.row_tokens is {spec.row_tokens}: it must be between 2 and 65535')
  if spec.long_examples not in LONG_EXAMPLES:
    raise BadInput(
      f'data.long_examples is {spec.long_examples!r}: it must be one of {", ".join(LONG_EXAMPLES)}'
    )
  if not 0 <= spec.attempts <= 1:
    raise BadInput(f'data.attempts is {spec.attempts}: it must be in [0, 1], a part of them')
  if spec.seed < 0:
    raise BadInput(f'data.seed is {spec.seed}: it must be at least 0')
  tasks = {text: parse_task(text) for text in (spec.task, *spec.pretrain_tasks)}
  if spec.attempts and tasks[spec.task].name in ('math', 'code'):
    raise BadInput(
      f'data.attempts is {spec.attempts} and the task {tasks[spec.task].name}: attempts are made '
      "from solutions that end in '#' and an answer: set data.attempts = 0"
    )
  for task in tasks.values():
    if spec.style == 'short' and task.name not in solutions.SHORT:
      raise BadInput(
        f"task {task.name}: it has no short prompt: use data.style = 'full' (short ones are "
        f'written for {", ".join(sorted(solutions.SHORT))})'
      )
  verifiers.check_available(tasks[spec.task].name)
  for pool in (*POOLS, 'pretrain'):
    count = getattr(spec, pool)
    if count is None and (pool == 'pretrain' or tasks[spec.task].name not in ARGUMENTS):
      raise BadInput(f'data.{pool} is None: say how many, only a JSONL file has an end')
    if count is not None and count < 0:
      raise BadInput(f'data.{pool} is {count}: it must be at least 0')
  shared = [pool for pool in POOLS if getattr(spec, pool) is None]
  if tasks[spec.task].arguments.get('test_path'):
    shared = [pool for pool in shared if pool != 'test']
  if len(shared) > 1:
    raise BadInput(
      f'data.{shared[0]} and data.{shared[1]} are both None: only one pool can have what is left'
    )
  if spec.pretrain and not spec.pretrain_tasks:
    raise BadInput(
      f'data.pretrain is {spec.pretrain} and data.pretrain_tasks is empty: name a task'
    )
  if spec.pretrain_tasks and not spec.pretrain:
    raise BadInput('data.pretrain_tasks names tasks and data.pretrain is 0: say how many examples')


def fingerprints(spec: DataSpec) -> dict[str, str]:
  """SHA-256 of each file that a specification names, by its path. Raises BadInput for one missing.

  What is prepared is a function of the specification, these, and the generator's version.
  """
  found = {}
  for text in (spec.task, *spec.pretrain_tasks):
    if problem_files.of_file(text):
      arguments = parse_task(text).arguments
      for path in (arguments[name] for name in ('path', 'test_path') if name in arguments):
        found[path] = hashlib.sha256(problem_files.read_bytes(path)).hexdigest()
  if spec.vocab not in VOCABS and vocabs.bpe_size(spec.vocab) is None:
    from scaling.data import subwords

    for path in subwords.files(spec.vocab):
      found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found


def versions(spec: DataSpec) -> dict:
  """The versions of the packages that decide what is drawn, and which tokens it becomes."""
  names = ['reasoning-gym'] if spec.vocab in VOCABS else ['reasoning-gym', 'tokenizers']
  return {name: importlib.metadata.version(name) for name in names}


def _arguments(name: str) -> list[str]:
  """The arguments of a reasoning-gym task, seed and size excepted: those are ours."""
  verifiers.check_task(name)
  import reasoning_gym.factory

  fields = dataclasses.fields(reasoning_gym.factory.DATASETS[name][1])
  return [field.name for field in fields if field.name not in ('seed', 'size')]


def _dataset(task: Task, seed: int, size: int):
  import reasoning_gym

  try:
    return reasoning_gym.create_dataset(task.name, seed=seed, size=size, **task.arguments)
  except (AssertionError, TypeError, ValueError) as error:
    raise BadInput(f'task {task.name}({_written(task.arguments)}): {error}') from None


def _written(arguments: dict) -> str:
  return ', '.join(f'{name}={value!r}' for name, value in arguments.items())


# -- drawing problems


def example_tokens(problem: Problem, vocab: Vocab) -> tuple[int, int]:
  """Lengths of the prompt and of the response, its stop token included."""
  return len(vocab.prompt(problem.prompt)), len(vocab.encode(problem.solution)) + 1


def _fits(spec: DataSpec, vocab: Vocab | None) -> Callable[[Draft], bool]:
  """Whether a draft may be in a pool; with 'error' each may, and a long one is refused later."""
  if spec.long_examples == 'error':
    return lambda draft: True
  return lambda draft: sum(example_tokens(draft.problem, vocab)) <= spec.row_tokens


def _left_out(count: int) -> str:
  """A clause for a message about problems that do not suffice."""
  return f' (without {count} longer than data.row_tokens)' if count else ''


def _number_from(*parts) -> int:
  """A 62-bit integer from a hash: a seed, or a place in an order."""
  return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], 'big') >> 2


def _draft(name: str, entry: dict, style: str) -> Draft | None:
  """A reasoning-gym entry as a problem; None where it is not well posed, or where its own scorer
  refuses its own answer.
  """
  steps = solutions.worked_steps(name, entry, style)
  answer = verifiers.canonical(name, entry['answer'])
  if steps is None or not answer:
    return None
  short = solutions.short_prompt(name, entry)
  if style == 'short':
    shown = re.sub(r"[\[\]' ]", '', answer) if name == 'number_sorting' else answer
    prompt, solution = short, f'{";".join(steps)}#{shown}'
  else:
    text = entry['metadata'].get('answer_cot')  # gsm_symbolic's own, which ends in '#### answer'
    prompt = entry['question'].rstrip('\n') + '\n'
    solution = text or '\n'.join([*steps, f'#{entry["answer"]}'])
  if name == 'number_sorting':  # as JSON, which its scorer reads without eval
    entry = {**entry, 'answer': json.dumps(entry['metadata']['sorted_numbers'])}
  key = short or prompt
  identity = problem_files.identity(name, key)
  problem = Problem(identity, name, prompt, solution, answer, _plain(entry))
  if not verifiers.sound(problem):
    return None
  return Draft(problem, key, problem.id)


def _plain(entry: dict) -> dict:
  """The entry as JSON has it: what the scorer will be given when it is read back."""
  return json.loads(json.dumps(entry, default=str))


def _generate(
  task: Task,
  spec: DataSpec,
  pool: str,
  count: int,
  taken: set[str],
  fits: Callable[[Draft], bool],
  dropped: collections.Counter,
) -> Iterator[Draft]:
  """Yields `count` drafts of new problems that fit, adding their keys to `taken`.

  Each pool draws from a stream of its own, so that a larger pool begins with the smaller one.
  Distinct problems that do not fit are counted in `dropped`. Raises BadInput when the task has too
  few: nothing new that fits among five times as many draws as there were finds.
  """
  long = set()
  found = stale = chunk = 0
  while found < count:
    dataset = _dataset(task, _number_from(spec.seed, task.name, pool, chunk), CHUNK)
    for i in range(CHUNK):
      draft = _draft(task.name, dataset[i], spec.style)
      if draft is None or draft.key in taken or not fits(draft):
        if draft is not None and draft.key not in taken and draft.key not in long:
          long.add(draft.key)
          dropped[pool.split()[0]] += 1
        stale += 1
        if stale > max(2000, 5 * len(taken)):
          raise BadInput(
            f'task {task.name}({_written(task.arguments)}): only {found} distinct problems were '
            f'left for the {pool} pool{_left_out(len(long))}, which asks for {count}: '
            'ask for fewer or widen the task'
          )
        continue
      taken.add(draft.key)
      found, stale = found + 1, 0
      yield draft
      if found == count:
        return
    chunk += 1


def _order(drafts: Sequence[Draft], seed: int) -> list[Draft]:
  """A shuffle that hangs on each problem's content alone: a new line moves no other."""
  return sorted(drafts, key=lambda draft: _number_from(seed, draft.key))


def _split_file(
  task: Task,
  spec: DataSpec,
  taken: set[str],
  fits: Callable[[Draft], bool],
  dropped: collections.Counter,
) -> dict[str, list[Draft]]:
  """Pools out of a file, or out of a file and its test file; the pool of None has what is left."""
  path, test_path = task.arguments['path'], task.arguments.get('test_path')
  read = lambda path: _order(problem_files.read(task.name, path, task.arguments), spec.seed)
  drafts = read(path)
  pools, left = {}, {pool: getattr(spec, pool) for pool in DRAWN}
  if test_path:
    held_out = read(test_path)
    pools['test'], _ = _take(held_out, left.pop('test'), fits, 'test', test_path, dropped)
    everything = {draft.key for draft in held_out}
    drafts = [draft for draft in drafts if draft.key not in everything]
  fixed = sum(count for count in left.values() if count is not None)
  fitting = sum(map(fits, drafts))
  if fixed > fitting:
    raise BadInput(
      f'{path}: {fitting} distinct problems{_left_out(len(drafts) - fitting)}, and the pools '
      f'{", ".join(left)} ask for {fixed}: ask for fewer'
    )
  for pool in sorted(left, key=lambda pool: left[pool] is None):
    pools[pool], drafts = _take(drafts, left[pool], fits, pool, path, dropped)
  taken.update(draft.key for drafts in pools.values() for draft in drafts)
  return pools


def _take(
  drafts: list[Draft],
  count: int | None,
  fits: Callable[[Draft], bool],
  pool: str,
  path: str,
  dropped: collections.Counter,
) -> tuple[list[Draft], list[Draft]]:
  """(the first `count` drafts that fit, the rest); with None, all that fit.

  Those passed over are counted in `dropped`. Raises BadInput where too few fit.
  """
  kept, at = [], 0
  while at < len(drafts) and len(kept) != count:
    kept += [drafts[at]] if fits(drafts[at]) else []
    at += 1
  long = at - len(kept)
  if count is not None and len(kept) < count:
    raise BadInput(
      f'{path}: {len(kept)} distinct problems{_left_out(long)}, and data.{pool} is {count}: '
      'ask for fewer'
    )
  if long:
    dropped[pool] += long
  return kept, drafts[at:]


def draw(
  spec: DataSpec,
  progress: Callable[[str], None] | None = None,
  dropped: collections.Counter | None = None,
  vocab: Vocab | None = None,
) -> dict[str, list[Draft]]:
  """All pools, disjoint: test first, so that it stays the same whatever the others ask for.

  'pretrain' is a list for each of its tasks, under 'pretrain 0', 'pretrain 1', ...
  dropped: gets, by pool, how many examples longer than a row were passed over to fill it.
  vocab: in which those are counted; None: the one that the specification names, unless it is one
  that is yet to be trained.
  """
  check_spec(spec)
  say = progress or (lambda text: None)
  say('drawing problems')
  dropped = collections.Counter() if dropped is None else dropped
  if vocab is None and spec.long_examples == 'drop':
    vocab = vocabs.named(spec.vocab, spec.style == 'chat')
  fits = _fits(spec, vocab)
  task = parse_task(spec.task)
  taken: set[str] = set()
  if task.name in ARGUMENTS:
    pools = _split_file(task, spec, taken, fits, dropped)
  else:
    pools = {
      pool: list(_generate(task, spec, pool, getattr(spec, pool), taken, fits, dropped))
      for pool in DRAWN
    }
  sft = {draft.key for draft in pools['sft']}
  known = taken - sft  # pretraining may meet what SFT will show again
  parts = len(spec.pretrain_tasks)
  for i, text in enumerate(spec.pretrain_tasks):
    say(f'drawing problems to pretrain on: {text}')
    part = parse_task(text)
    count = spec.pretrain // parts + (i < spec.pretrain % parts)
    if part.name in ARGUMENTS:
      drafts = problem_files.read(part.name, part.arguments['path'], part.arguments)
      fresh = [draft for draft in _order(drafts, spec.seed) if draft.key not in known]
      path = part.arguments['path']
      pools[f'pretrain {i}'], _ = _take(fresh, count, fits, 'pretrain', path, dropped)
      known.update(draft.key for draft in pools[f'pretrain {i}'])
    else:
      name = f'pretrain {i}'
      pools[name] = list(_generate(part, spec, name, count, known, fits, dropped))
  return pools
