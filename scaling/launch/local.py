"""The local launcher: one stage after another, with a bar for the whole study.

A launcher runs stages, parents before children. A stage reads its parent's
folder and writes its own, so another launcher may run those whose parents are done side by side.
"""

import sys
import time

import tqdm

from scaling import compute, files, processes, sample_step, train_step
from scaling.errors import BadInput, Refused
from scaling.stages import (
  dpo,
  hosted,
  preference,
  prompts,
  rl,
  rollouts,
  sample,
  score,
  search,
  supervised,
  synthesize,
)
from scaling.stages import stage as stages

RUN = {
  'pretrain': supervised.run,
  'sft': supervised.run,
  'rl': rl.run,
  'dpo': dpo.run,
  'sample': sample.run,
  'prompts': prompts.run,
  'synthesize': synthesize.run,
  'rollouts': rollouts.run,
  'preference': preference.run,
  'score': score.run,
  'search': search.run,
  'hosted': hosted.run,
}


BELIEVED = 0.1  # part of a plan's seconds that count as seen, so that a slow start is not the pace


def launch(setting: stages.Setting, todo: list[stages.Stage], seconds: dict[str, float]) -> None:
  """Runs stages that are not done, in order. seconds: what each is planned to take, for the bar.

  A stage with a loss that is not finite is recorded as such and its descendants are left out; the
  others go on. So they do where a stage refuses what it was given, which leaves it undone: then, at
  the end, Refused with a line for each. A run of several processes ends there at once, since it
  may be one of them alone that refuses.
  """
  refused = {}  # stage -> why; '' for what depends on another that is in here
  planned, began = sum(seconds[s.id] for s in todo), time.monotonic()
  bar = tqdm.tqdm(
    total=planned,
    bar_format='{percentage:3.0f}% |{bar:24}| {desc}',
    file=sys.stdout,
    disable=None if processes.first() else True,  # None: silent where this is not a terminal
  )

  def left(of: float) -> str:
    """Time for so much of the plan, at the pace so far, and first at the pace that was planned."""
    believed = BELIEVED * planned
    pace = (time.monotonic() - began + believed) / (bar.n + believed)
    minutes, rest = divmod(round(of * pace), 60)
    return f'{minutes}:{rest:02d}'

  def say(line: str) -> None:
    if processes.first() and bar.disable:
      print(line, flush=True)
    elif processes.first():
      bar.write(line, file=sys.stdout)

  drawn = [0.0]  # when the bar was drawn last
  ahead = f'{left(planned)} to go by the plan' if todo else 'all are done'
  say(f'stages to run: {len(todo)}; {ahead}')

  for number, stage in enumerate(todo, 1):
    start, weight = bar.n, seconds[stage.id]

    def progress(part: float, words: str, stage=stage, start=start, weight=weight) -> None:
      if bar.disable or time.monotonic() - drawn[0] < 0.2:
        return
      drawn[0] = time.monotonic()
      bar.n = start + part * weight
      ahead = f'{left(planned - bar.n)} to go; {left((1 - part) * weight)} for {stage.label}'
      bar.set_description_str(f'{ahead} ({words})')

    if processes.preempted():
      raise processes.Preempted
    if (stages.folder(setting.workdir, stage.id) / 'stage.json').exists():
      say(f'{stage.label} was cut off, and goes on from what it had saved')
    if not bar.disable:  # it compiles before there is any progress
      bar.set_description_str(f'{left(planned - bar.n)} to go; {stage.label} (starting)')
    if refused.keys() & set(stages.inputs(stage)):
      refused[stage.id], words = '', 'left out: a stage that it goes on from was refused'
    else:
      try:
        words = _run(setting._replace(progress=progress), stage)
      except BadInput as error:
        if processes.count() > 1:
          raise
        refused[stage.id], words = str(error), f'refused: {error}'
    processes.barrier('stage')  # what process 0 wrote is there for all
    bar.n = start + weight
    ahead = f'; {left(planned - bar.n)} to go' if bar.disable else ''  # the bar says it
    say(f'[{number}/{len(todo)}] {stage.label}: {words}{ahead}')
  bar.set_description_str('')
  bar.close()
  if todo:
    say(f'programs compiled: {_programs()}')
  if refused:
    raise Refused('\n'.join(dict.fromkeys(filter(None, refused.values()))))


def _programs() -> str:
  """How many shapes of each step this process has made."""
  made = {
    'train step': train_step.make_train_step,
    'sampler': sample_step.make_sampler,
    'scoring pass': train_step.make_score,
  }
  counts = {name: make.cache_info().misses for name, make in made.items()}
  return ', '.join(f'{count} of the {name}' for name, count in counts.items() if count) or 'none'


def _run(setting: stages.Setting, stage: stages.Stage) -> str:
  """Runs one stage and says how it ended."""
  folder, began = stages.folder(setting.workdir, stage.id), time.monotonic()
  folder.mkdir(parents=True, exist_ok=True)
  files.write_json(folder / 'stage.json', stage._asdict())
  read = [stages.done(setting.workdir, i) for i in stages.inputs(stage)]
  if any(result['outcome'] != 'ok' for result in read):
    outcome, spent = 'parent failed', compute.empty()
    words = 'left out: a stage that it goes on from did not end well'
  else:
    try:
      RUN[stage.kind](setting, stage)
      return f'{time.monotonic() - began:.1f} s'
    except stages.NonFinite as error:
      outcome, spent = 'non-finite', error.ledger
      words = f'stopped: not finite at {error}; what was saved before is kept'
  result = {'outcome': outcome, 'message': words, 'ledger': spent}
  files.write_json(folder / 'done.json', result | {'seconds': time.monotonic() - began})
  return words
