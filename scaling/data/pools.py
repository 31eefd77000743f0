"""From a specification to pools of problems, disjoint and drawn the same way every time.

A task is written as a call with literal arguments, and read without running it:

    chain_sum(min_terms=3, max_terms=3, min_digits=2, max_digits=2)     reasoning-gym
    jsonl(path='train.jsonl', test_path='test.jsonl')                   GSM8K's format
    math(path='train.jsonl.gz'), messages(path='chats.parquet'),
    responses(path='tfds:xsum/train', prompt='document', response='summary')
                                                  see problem_files.py and sources.py
"""

import ast
import collections
import dataclasses
import difflib
import hashlib
import importlib.metadata
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from scaling.data import problem_files, solutions, sources, splits
from scaling.data import vocab as vocabs
from scaling.data.batches import CONTAMINATION, LONG_EXAMPLES, LOSS_ON, POOLS, DataSpec, Problem
from scaling.data.contamination import HeldOut
from scaling.data.problem_files import ARGUMENTS, Draft
from scaling.data.stored import Stored, example_tokens, number_from
from scaling.data.vocab import VOCABS, Vocab
from scaling.errors import BadInput
from scaling.rewards import verifiers

CHUNK = 4096  # reasoning-gym entries drawn from one seed
STYLES = ('short', 'full', 'chat')  # 'chat': the text of 'full', as a user's message


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
    for path in _paths(arguments):
      sources.check(path)
    splits.check_paths(arguments)
    if arguments.get('per_prompt', 1) < 1:
      raise BadInput(f'task {name}: per_prompt is {arguments["per_prompt"]}: it must be at least 1')
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
  if not 0 <= spec.reversed <= 1:
    raise BadInput(f'data.reversed is {spec.reversed}: it must be in [0, 1], a part of them')
  if spec.seed < 0:
    raise BadInput(f'data.seed is {spec.seed}: it must be at least 0')
  if not 0 <= spec.near_duplicates <= 1:
    raise BadInput(
      f'data.near_duplicates is {spec.near_duplicates}: it must be in [0, 1], a Jaccard index'
    )
  for key, value, known in (
    ('data.contamination', spec.contamination, CONTAMINATION),
    ('sft.loss_on', spec.loss_on, LOSS_ON),
  ):
    if value not in known:
      raise BadInput(f'{key} is {value!r}: it must be one of {", ".join(known)}')
  if spec.ngram < 1:
    raise BadInput(f'data.ngram is {spec.ngram}: it must be at least 1, a number of words')
  tasks = {text: parse_task(text) for text in (spec.task, *spec.sft_tasks, *spec.pretrain_tasks)}
  shown = 'attempts' if spec.attempts else 'corrected'
  if getattr(spec, shown) and tasks[spec.task].name in ARGUMENTS.keys() - {'jsonl'}:
    raise BadInput(
      f'data.{shown} is {getattr(spec, shown)} and the task {tasks[spec.task].name}: attempts are '
      f"made from solutions that end in '#' and an answer: set data.{shown} = 0"
    )
  _check_mixtures(spec, tasks)
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
    of_test = pool == 'test' and not tasks[spec.task].arguments.get('test_path')
    if count is None and (pool == 'validation' or of_test):
      raise BadInput(f'data.{pool} is None: say how many to hold out')
    if count is not None and count < 0:
      raise BadInput(f'data.{pool} is {count}: it must be at least 0')
  shared = [pool for pool in POOLS if getattr(spec, pool) is None]
  if tasks[spec.task].arguments.get('test_path'):
    shared = [pool for pool in shared if pool != 'test']
  if len(shared) > 1:
    raise BadInput(
      f'data.{shared[0]} and data.{shared[1]} are both None: only one pool can have what is left'
    )
  for text in spec.pretrain_tasks:
    if tasks[text].arguments.get('per_prompt', 1) > 1:
      raise BadInput(f'pretrain.tasks: {text}: several responses of a prompt are for SFT alone: '
                     'leave per_prompt out')  # fmt: skip
  for key, of in (('data.sft_tasks', spec.sft_tasks), ('pretrain.tasks', spec.pretrain_tasks)):
    for text in of:
      if 'test_path' in tasks[text].arguments and text != spec.task:
        raise BadInput(f'{key}: {text}: problems are held out of data.task alone: leave test_path '
                       'out')  # fmt: skip
  if spec.pretrain and not spec.pretrain_tasks:
    raise BadInput(
      f'data.pretrain is {spec.pretrain} and data.pretrain_tasks is empty: name a task'
    )
  if spec.pretrain_tasks and not spec.pretrain:
    raise BadInput('data.pretrain_tasks names tasks and data.pretrain is 0: say how many examples')


def _check_mixtures(spec: DataSpec, tasks: dict[str, Task]) -> None:
  """BadInput for rates that no mixture can have."""
  for key, rates, of in (
    ('pretrain.rates', spec.pretrain_rates, spec.pretrain_tasks),
    ('data.sft_rates', spec.sft_rates, spec.sft_tasks),
  ):
    if rates and len(rates) != len(of):
      raise BadInput(
        f'{key} has {len(rates)} rates for {len(of)} tasks: give one for each, or none'
      )
    if rates and not (min(rates) >= 0 and math.isfinite(sum(rates)) and sum(rates) > 0):
      raise BadInput(f'{key} is {rates}: an empty mixture: rates are at least 0, and not all 0')
  if spec.pretrain_temperature < 0:
    raise BadInput(f'pretrain.temperature is {spec.pretrain_temperature}: it must be at least 0')
  if spec.pretrain_temperature:
    if spec.pretrain_rates:
      raise BadInput('pretrain.rates and pretrain.temperature both say the rates: set one of them')
    for text in spec.pretrain_tasks:
      if tasks[text].name not in ARGUMENTS:
        raise BadInput(
          f'pretrain.temperature makes rates of the sizes of files, and the task {text!r} has no '
          'end: set pretrain.rates'
        )


def _paths(arguments: dict) -> list[str]:
  return [arguments[name] for name in ('path', 'test_path') if name in arguments]


def fingerprints(spec: DataSpec) -> dict[str, str]:
  """SHA-256 of each file that a specification names, by its path. Raises BadInput for one missing.

  What is prepared is a function of the specification, these, and the generator's version.
  """
  found = {}
  for text in (spec.task, *spec.sft_tasks, *spec.pretrain_tasks):
    if problem_files.of_file(text):
      for path in _paths(parse_task(text).arguments):
        found[path] = sources.fingerprint(path)
  if spec.vocab not in VOCABS and vocabs.bpe_size(spec.vocab) is None:
    from scaling.data import subwords

    for path in subwords.files(spec.vocab):
      found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found


def versions(spec: DataSpec) -> dict:
  """The versions of the packages that decide what is drawn, in what order, and which tokens it
  becomes: of those that the specification uses."""
  texts, pieces = (spec.task, *spec.sft_tasks, *spec.pretrain_tasks), False
  own = spec.vocab in VOCABS
  if not own and vocabs.bpe_size(spec.vocab) is None:
    from scaling.data import subwords

    pieces = subwords.files(spec.vocab)[0].suffix == '.model'
  used = {
    'reasoning-gym': not all(map(problem_files.of_file, texts)),
    'seqio': len(spec.pretrain_tasks) > 1 or bool(spec.sft_tasks),
    'tensorflow-datasets': any(sources.TFDS in text for text in texts),
    'tokenizers': not own and not pieces,
    'sentencepiece': pieces,
    'jinja2': spec.style == 'chat',
  }
  return {name: importlib.metadata.version(name) for name, needed in used.items() if needed}


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


def _fits(spec: DataSpec, vocab: Vocab | None) -> Callable[[Draft], bool]:
  """Whether a draft may be in a pool; with 'error' each may, and a long one is refused later."""
  if spec.long_examples == 'error':
    return lambda draft: True
  return lambda draft: sum(example_tokens(draft.problem, vocab)) <= spec.row_tokens


def _left_out(count: int) -> str:
  """A clause for a message about problems that do not suffice."""
  return f' (without {count} longer than data.row_tokens)' if count else ''


def draft_of(name: str, entry: dict, style: str) -> Draft | None:
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
  taken: set[int],
  fits: Callable[[Draft], bool],
  dropped: collections.Counter,
) -> Iterator[Draft]:
  """Yields `count` drafts of new problems that fit, adding their numbers to `taken`.

  Each pool draws from a stream of its own, so that a larger pool begins with the smaller one.
  Distinct problems that do not fit are counted in `dropped`. Raises BadInput when the task has too
  few: nothing new that fits among five times as many draws as there were finds.
  """
  long = set()
  found = stale = chunk = 0
  while found < count:
    dataset = _dataset(task, number_from(spec.seed, task.name, pool, chunk), CHUNK)
    for i in range(CHUNK):
      draft = draft_of(task.name, dataset[i], spec.style)
      number = None if draft is None else problem_files.number(draft.problem.id)
      if draft is None or number in taken or not fits(draft):
        if draft is not None and number not in taken and number not in long:
          long.add(number)
          dropped[pool.split()[0]] += 1
        stale += 1
        if stale > max(2000, 5 * len(taken)):
          kind = pool.split()[0]
          key = 'pretrain.examples' if kind == 'pretrain' else f'data.{kind}_problems'
          raise BadInput(
            f'task {task.name}({_written(task.arguments)}): only {found} distinct problems were '
            f'left for the {pool} pool{_left_out(len(long))}, which asks for {count}: '
            f'lower config.{key}, or widen the task'
          )
        continue
      taken.add(number)
      found, stale = found + 1, 0
      yield draft
      if found == count:
        return
    chunk += 1


# -- all pools


def read_files(spec: DataSpec, folder=None, progress=None) -> dict[tuple, Stored]:
  """Every file of a specification, read once, by the task and the path; see `splits.read`."""
  say, found = progress or (lambda text: None), {}
  for text in (spec.task, *spec.sft_tasks, *spec.pretrain_tasks):
    if problem_files.of_file(text):
      name, arguments = parse_task(text)
      for path in _paths(arguments)[: 2 if text == spec.task else 1]:
        if (text, path) not in found:
          say(f'reading {path}')
          found[text, path] = splits.read(name, arguments, path, spec, folder, say)
  return found


def shares(total: int, rates: Sequence[float]) -> list[int]:
  """`total` split in proportion to rates, in whole numbers: by the largest remainders."""
  exact = np.asarray(rates, float) * total / sum(rates)
  parts = np.floor(exact + 1e-9).astype(int)
  for i in np.argsort(-(exact - parts), kind='stable')[: total - parts.sum()]:
    parts[i] += 1
  return parts.tolist()


class Drawn(NamedTuple):
  """What `draw` leaves out, and found."""

  dropped: collections.Counter  # by pool: examples passed over that are longer than a row
  found: list  # of contamination: {'pool', 'where', 'words', 'held_out'}
  held: list[HeldOut]  # what was looked for; empty where the held-out problems are of no file
  # The examples of 'sft', 'sft 0', ... where SFT learns several responses of a prompt.
  responses: dict[str, Stored]


def drawn() -> Drawn:
  """Nothing yet."""
  return Drawn(collections.Counter(), [], [], {})


def draw(
  spec: DataSpec,
  progress: Callable[[str], None] | None = None,
  out: Drawn | None = None,
  vocab: Vocab | None = None,
  files: dict[tuple, Stored] | None = None,
  hidden_alone: bool = False,
) -> dict[str, Sequence[Draft]]:
  """All pools, disjoint: test first, so that it stays the same whatever the others ask for.

  'sft 0', 'sft 1', ... are what is mixed into the SFT pool: so many of each of data.sft_tasks for
  one of data.task; 'pretrain 0', ... the parts of the mixture to pretrain on, by its rates.
  out: gets what was left out. vocab: in which examples that may be longer than a row are counted;
  None: the one that the specification names, unless it is one that is yet to be trained. files:
  what `read_files` read; None: they are read. hidden_alone: only the pools of `splits.HIDDEN`, and
  what must be drawn before them.
  """
  check_spec(spec)
  say = progress or (lambda text: None)
  files = read_files(spec, progress=progress) if files is None else files
  say('drawing problems')
  out = drawn() if out is None else out
  if spec.long_examples == 'drop':
    vocab = vocabs.named(spec.vocab, spec.style == 'chat') if vocab is None else vocab
  fits, rules = _fits(spec, vocab), splits.Rules(spec, vocab, out.dropped, out.found)
  task, held = parse_task(spec.task), None
  taken: set[int] = set()
  if task.name in ARGUMENTS:
    path, test_path = task.arguments['path'], task.arguments.get('test_path')
    given = files[spec.task, path], test_path, files.get((spec.task, test_path))
    pools, held = splits.split(path, *given, rules, hidden_alone)
    if hidden_alone:
      return pools
    out.held.append(held)
    for pool in splits.ORDER:
      taken.update(pools[pool].keys.tolist() if pool != 'sft' else ())
  else:
    pools = {
      pool: list(_generate(task, spec, pool, getattr(spec, pool), taken, fits, out.dropped))
      for pool in splits.ORDER
      if pool in splits.HIDDEN or not hidden_alone
    }
    if hidden_alone:
      return pools
  learned = numbers(pools['sft'])
  for i, text in enumerate(spec.sft_tasks):
    say(f'drawing problems to mix in: {text}')
    count = round((spec.sft_rates[i] if spec.sft_rates else 1) * len(pools['sft']))
    hidden = np.concatenate([learned, np.array(list(taken), np.uint64)])
    pools[f'sft {i}'] = _part(
      text, spec, f'sft {i}', count, taken, hidden, files, rules, held, fits
    )
    learned = np.concatenate([learned, numbers(pools[f'sft {i}'])])
  known = np.setdiff1d(np.array(list(taken), np.uint64), learned)  # what SFT shows may come before
  known = set(known.tolist())
  parts = _pretrain_counts(spec, files, known)
  for i, (text, count) in enumerate(zip(spec.pretrain_tasks, parts)):
    say(f'drawing problems to pretrain on: {text}')
    hidden, name = np.array(list(known), np.uint64), f'pretrain {i}'
    pools[name] = _part(text, spec, name, count, known, hidden, files, rules, held, fits)
    known.update(numbers(pools[name]).tolist())
  of_sft = {'sft': spec.task} | {f'sft {i}': text for i, text in enumerate(spec.sft_tasks)}
  for name, text in of_sft.items():
    most = parse_task(text).arguments.get('per_prompt', 1)
    if most > 1:
      out.responses[name] = splits.responses(pools[name], most, name, rules, held)
  splits.refuse(rules, held)
  if spec.sft is None and not pools['sft']:
    raise BadInput(f'{spec.task}: no problem is left for the SFT pool: ask for fewer in the others')
  return pools


def numbers(drafts: Sequence[Draft]) -> np.ndarray:
  """The numbers uint64 of problems."""
  if isinstance(drafts, Stored):
    return drafts.keys
  return np.array([problem_files.number(draft.problem.id) for draft in drafts], np.uint64)


def _pretrain_counts(spec: DataSpec, files: dict, known: set[int]) -> list[int]:
  """How many examples of each of the tasks of the mixture: in proportion to the rates, equal ones
  where none are given; with a temperature T to the number of a file's problems ^ (1 / T)."""
  rates = spec.pretrain_rates or (1.0,) * len(spec.pretrain_tasks)
  if spec.pretrain_temperature:
    hidden = np.array(list(known), np.uint64)
    sizes = [
      (~np.isin(files[text, parse_task(text).arguments['path']].keys, hidden)).sum()
      for text in spec.pretrain_tasks
    ]
    rates = [float(size) ** (1 / spec.pretrain_temperature) for size in sizes]
  return shares(spec.pretrain, rates) if spec.pretrain_tasks else []


def _part(text, spec, name, count, taken, hidden, files, rules, held, fits) -> Sequence[Draft]:
  """`count` problems of one task of a mixture, none of which is among `hidden` or `taken`.

  Where rates are given, those of a file that has too few come again.
  """
  task = parse_task(text)
  if task.name not in ARGUMENTS:
    return list(_generate(task, spec, name, count, taken, fits, rules.dropped))
  drafts = files[text, task.arguments['path']]
  fresh = Stored(drafts.file, drafts.numbers[~np.isin(drafts.keys, hidden)])
  fresh = splits.first_that_fit(fresh, rules)
  rated = bool(spec.pretrain_rates or spec.pretrain_temperature)
  again = name.startswith('pretrain') and rated
  return splits.take(fresh, count, name, rules, held, again)[0]
