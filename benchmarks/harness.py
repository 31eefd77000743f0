"""What every benchmark of the project shares: workers that take turns, rows, the file, the table.

Each tool runs in a long-lived process of its own and is told over a pipe to do one piece of work
at a time, so that tools take turns within one run, and share no thread pool, allocator or flag.
Times on a shared machine drift; what is reported is the median over turns, with min and max.

The file is JSON: {"machine": {...}, "rows": [{"tool", "work", "metric", "median", "min", "max",
"n"}, ...], "skipped": {tool: reason}}.
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'torch', 'transformers', 'google-tunix', 'trl')


class Skip(Exception):
  """Raised by a worker's setup: the tool cannot do this work, and why."""


class Worker(NamedTuple):
  """A tool's process. It answers each message, a dict, by a dict."""

  tool: str
  process: subprocess.Popen
  log: object  # an open file: all that the process printed


def start(tool: str, module: str, args: Iterable[str], env: dict[str, str]) -> Worker:
  """Starts `python -m module tool args`, with `env` on top of this process's environment."""
  log = tempfile.TemporaryFile('w+')
  process = subprocess.Popen(
    [sys.executable, '-m', module, tool, *args],
    env=os.environ | env,
    cwd=ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=log,
    text=True,
  )
  return Worker(tool, process, log)


def ask(worker: Worker, **message) -> dict:
  """The worker's answer. RuntimeError with the end of its log if it died."""
  try:
    worker.process.stdin.write(json.dumps(message) + '\n')
    worker.process.stdin.flush()
    return json.loads(worker.process.stdout.readline())
  except (BrokenPipeError, json.JSONDecodeError) as error:
    worker.log.seek(0)
    raise RuntimeError(f'{worker.tool} died:\n' + worker.log.read()[-2000:]) from error


def stop(worker: Worker) -> None:
  """Closes the pipe, upon which the worker ends, and waits for it."""
  worker.process.stdin.close()
  worker.process.wait()


def serve(setup: Callable[[], Callable[..., dict]]) -> None:
  """The worker's side: answer = setup(), then one answer(**message) for each line of the pipe.

  Where setup() raises Skip, or does not find a module, the answer is {'skipped': reason}. What
  libraries print goes to the log.
  """
  pipe = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  try:
    answer = setup()
  except (Skip, ModuleNotFoundError) as error:
    reason = str(error) if isinstance(error, Skip) else f'{error.name} is not installed'
    answer = lambda **message: {'skipped': reason}
  for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line))), file=pipe, flush=True)


def turns(
  workers: list[Worker],
  repeats: int,
  message: Callable[[Worker], dict],
  answers: list[dict] | None = None,
) -> list[dict]:
  """Asks every worker in turn, `repeats` rounds. Returns answers {'tool', 'round', **answer}, put
  behind those given.

  Every other round goes in reverse, so that none always follows the same neighbour.
  """
  answers = [] if answers is None else answers
  began, before = time.monotonic(), len(answers)
  for i in range(repeats):
    for worker in workers if i % 2 == 0 else workers[::-1]:
      answers.append({'tool': worker.tool, 'round': i, **ask(worker, **message(worker))})
      done = (len(answers) - before) / (repeats * len(workers))
      left = (time.monotonic() - began) * (1 / done - 1)
      say(f'round {i + 1} of {repeats}, {worker.tool}; {left:.0f} s left')
  return answers


def compare(
  tools: Iterable[str],
  begin: Callable[[str], Worker],
  warm: Callable[[Worker], tuple[dict, dict]],
  repeats: int,
  together: bool,
) -> tuple[dict, list[dict], dict[str, str]]:
  """Starts the tools, warms them up, and has them take turns: ({tool: first answer}, answers of
  `turns`, {tool: why it was skipped}).

  warm(worker) -> (its first answer, the message that it gets at each turn). Not `together`: each
  tool has all its turns, and ends, before the next one starts, as where a GPU's memory holds one.
  """
  first, answers, skipped = {}, [], {}
  signal.signal(signal.SIGTERM, _interrupt)
  try:
    for group in [list(tools)] if together else [[tool] for tool in tools]:
      _turns_of(group, begin, warm, repeats, first, answers, skipped)
  except KeyboardInterrupt:  # what was measured is reported
    say('interrupted')
    measured = {answer['tool'] for answer in answers}
    skipped |= {tool: 'interrupted' for tool in tools if tool not in measured}
    first = {tool: answer for tool, answer in first.items() if tool in measured}
  return first, answers, skipped


def _interrupt(number, frame) -> None:
  """SIGTERM as KeyboardInterrupt; once, as `timeout` sends it twice: to its child and its group."""
  signal.signal(number, signal.SIG_IGN)
  raise KeyboardInterrupt


def _turns_of(group, begin, warm, repeats, first, answers, skipped) -> None:
  """One group's part of `compare`, put into `first`, `answers` and `skipped`."""
  workers, messages = [], {}
  for tool in group:
    say(f'{tool}: building and compiling')
    worker = begin(tool)
    answer, message = warm(worker)
    if 'skipped' in answer:
      skipped[tool] = answer['skipped']
      stop(worker)
      continue
    workers.append(worker)
    first[tool], messages[tool] = answer, message
  turns(workers, repeats, lambda worker: messages[worker.tool], answers)
  for worker in workers:
    stop(worker)


def resident_peak() -> int:
  """Bytes: the most that this process held in memory since it began (Linux).

  What getrusage says is kept over exec, so a small worker would show its parent's.
  """
  status = pathlib.Path('/proc/self/status').read_text()
  return int(re.search(r'^VmHWM:\s+(\d+) kB$', status, re.M)[1]) * 1024


def say(line: str) -> None:
  """Progress, to stderr; on a terminal each line replaces the last."""
  print(f'\r\x1b[K{line}' if sys.stderr.isatty() else line, end='', file=sys.stderr, flush=True)
  print('', end='' if sys.stderr.isatty() else '\n', file=sys.stderr)


def row(tool: str, work: str, metric: str, values: Iterable[float]) -> dict:
  """One row of the file: the median of the values with their spread."""
  values = np.asarray(list(values), float)
  return {
    'tool': tool,
    'work': work,
    'metric': metric,
    'median': float(np.median(values)),
    'min': float(values.min()),
    'max': float(values.max()),
    'n': len(values),
  }


def machine(**more) -> dict:
  """What the numbers depend on: processor, memory, versions, and what the benchmark adds."""
  versions = {}
  for name in PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      pass
  return {
    'cpu': _cpu_model(),
    'cores': os.cpu_count(),
    'memory_gib': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30, 1),
    'load_at_start': os.getloadavg()[0],
    'python': platform.python_version(),
    'versions': versions,
    'date': datetime.date.today().isoformat(),
    **more,
  }


def _cpu_model() -> str:
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    return next(line.split(':')[1].strip() for line in lines if line.startswith('model name'))
  except (OSError, StopIteration):
    return platform.processor()


def write(path: str, machine: dict, rows: list[dict], skipped: dict[str, str]) -> None:
  """Writes the file."""
  out = pathlib.Path(path)
  out.parent.mkdir(parents=True, exist_ok=True)
  out.write_text(json.dumps({'machine': machine, 'rows': rows, 'skipped': skipped}, indent=1))


def table(rows: list[dict], skipped: dict[str, str], base: str) -> str:
  """The rows as text; `ratio` is a tool's median over that of `base` for the same metric."""
  medians = {(r['work'], r['metric'], r['tool']): r['median'] for r in rows}
  lines = [
    f'{"work":20}{"metric":24}{"tool":14}{"median":>12}{"min":>12}{"max":>12}{"n":>4}  ratio'
  ]
  for r in sorted(rows, key=lambda r: (r['work'], r['metric'])):
    numbers = ''.join(f'{r[key]:12.4g}' for key in ('median', 'min', 'max'))
    against = medians.get((r['work'], r['metric'], base))
    ratio = f'{r["median"] / against:7.2f}' if against else ''
    lines.append(f'{r["work"]:20}{r["metric"]:24}{r["tool"]:14}{numbers}{r["n"]:4}{ratio}')
  lines += [f'skipped {tool}: {reason}' for tool, reason in skipped.items()]
  return '\n'.join(lines)
