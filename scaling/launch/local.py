"""The local launcher: one stage after another, in this process, with a bar for the whole study.

A launcher runs every stage that is not done, parents before children. A stage reads its parent's
folder and writes its own, so another launcher may run those whose parents are done side by side.
"""

import sys
import time

import tqdm

from scaling import compute, files
from scaling.stages import rl, sample, supervised
from scaling.stages import stage as stages

RUN = {'pretrain': supervised.run, 'sft': supervised.run, 'rl': rl.run, 'sample': sample.run}


def launch(setting: stages.Setting, tree: list[stages.Stage], ledgers: dict[str, dict]) -> None:
  """Runs the stages in order. ledgers: what each is planned to cost, for the bar and the ETA.

  A stage with a loss that is not finite is recorded as such and its descendants are left out; the
  others go on.
  """
  weight = {id: 1e8 + compute.total(ledger, 'executed') for id, ledger in ledgers.items()}
  todo = [stage for stage in tree if stages.done(setting.workdir, stage.id) is None]
  bar = tqdm.tqdm(
    total=sum(weight[s.id] for s in todo),
    bar_format='{percentage:3.0f}% |{bar:30}| {elapsed} gone, {remaining} to go  {postfix}',
    file=sys.stdout,
    disable=None,  # silent where the output is not a terminal
  )
  began = time.monotonic()
  for number, stage in enumerate(todo, 1):
    outcome = _run(setting, stage, bar, weight[stage.id])
    gone = time.monotonic() - began
    left = gone * (bar.total / max(bar.n, 1) - 1) if bar.n else 0
    line = f'[{number}/{len(todo)}] {stage.label}: {outcome}'
    if bar.disable:
      print(f'{line}  ({gone:.0f} s gone, about {left:.0f} s to go)', flush=True)
    else:
      bar.write(line, file=sys.stdout)
  bar.close()


def _run(setting: stages.Setting, stage: stages.Stage, bar, weight: float) -> str:
  """Runs one stage and says how it ended."""
  folder = stages.folder(setting.workdir, stage.id)
  folder.mkdir(parents=True, exist_ok=True)
  files.write_json(folder / 'stage.json', stage._asdict())
  start, began = bar.n, time.monotonic()

  def progress(part: float, words: str) -> None:
    bar.n = start + part * weight
    bar.set_postfix_str(f'{stage.label} ({words})', refresh=False)
    bar.update(0)

  failed = stage.parent and stages.done(setting.workdir, stage.parent)['outcome'] != 'ok'
  if failed:
    outcome, words = 'parent failed', 'left out, for its parent did not end well'
  else:
    try:
      RUN[stage.kind](setting._replace(progress=progress), stage)
      outcome, words = 'ok', f'{time.monotonic() - began:.1f} s'
    except stages.NonFinite as error:
      outcome, words = 'non-finite', f'stopped, not finite at {error}; last good checkpoint kept'
  if outcome != 'ok':
    ledger = {'ledger': compute.empty(), 'seconds': time.monotonic() - began}
    files.write_json(folder / 'done.json', {'outcome': outcome, 'message': words, **ledger})
  bar.n = start + weight
  bar.refresh()
  return words
