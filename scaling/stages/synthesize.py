"""Stage `synthesize`: examples to fine-tune on, made of a policy's own samples.

    bank of samples -> filter -> one of each reasoning path -> at most so many a problem -> rows

What is kept (`recipe['keep']`) of each problem's samples, those that were cut off never:

    correct      those that the verifier says are right
    all          every one: unfiltered, whatever is wrong among them
    majority     those with the answer that most of the problem's samples give (2210.11610)
    best         the one of the greatest mean log-prob a token, of those with an answer
    scorer       the one that a reward model values most, of those with an answer
    revised      second attempts that are right: the example's prompt shows the policy's own first
                 attempt, and the loss is on the second
    gold         no sample: the problem's own solution. What a perfect filter could give

`rationalise` (STaR, 2203.14465): problems of which nothing was kept are sampled again, so many
times, with their answer shown (`attempts.critique`); a right response is learned behind the plain
prompt. `recipe['earlier']` names the stage of the round before, whose examples stay.

examples.parquet (`COLUMNS`) says of every example where it comes from; rows/ is a pool that stage
`sft` reads (`data.packing`). done.json has 'synthetic': `ABOUT`.
"""

import os
import shutil
from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling import bank, compute, files, processes
from scaling.data import attempts, batches, packing, paths
from scaling.errors import BadInput
from scaling.rewards import verifiers
from scaling.stages import preference
from scaling.stages import stage as stages

KEEP = ('correct', 'all', 'majority', 'best', 'scorer', 'revised', 'gold')
READ = [*preference.READ, 'answer', 'response', 'logprobs', 'stopped', 'prefill_flops',
        'decode_flops']  # fmt: skip

COLUMNS = {  # of examples.parquet
  'problem': 'its id',
  'prompt': 'text to be answered',
  'response': 'text to be learned',
  'tokens': 'ids: prompt, response, stop token',
  'prompt_tokens': 'how many of them are the prompt',
  'form': 'plain, rationalised, revised or gold',
  'sample': 'its index among the samples of the problem in the bank, or of those drawn here',
  'correct': 'the verdict on it; by a filter that reads no verdicts it may be false',
  'answer': 'its canonical answer, or null',
  'path': 'its reasoning path: data/paths.py',
  'logprob': 'mean log-prob a token under the policy that drew it; NaN where none did',
  'flops': 'model FLOPs of drawing it: its decoding, and its share of its prompt',
  'parent': 'id of the stage whose policy drew it',
  'bank': 'id of the stage that drew it, or null',
  'round': 'in which it was made',
}
ABOUT = {  # of done.json
  'examples': 'kept, those of earlier rounds that stay among them',
  'new': 'those of this round',
  'problems': 'that have an example',
  'asked': 'problems sampled',
  'paths': 'distinct reasoning paths (problem and path)',
  'drawn': 'samples read',
  'passed': 'the part of them that passed the filter, before one of each path was taken',
  'false': 'the part of the examples of this round that is wrong by the verifier',
  'rationalised': 'examples got with the answer shown',
  'long': 'examples left out since prompt and response are longer than a row',
  'flops': 'model FLOPs of all samples that this round read',
  'rows': 'packed rows',
  'tokens': 'real tokens in them',
}


PART = 512  # prompts that are asked again at a time


# -- what is kept of a bank


def keep(table: pd.DataFrame, how: str, scores: np.ndarray | None = None) -> np.ndarray:
  """bool [N]: the samples of a bank's rows that pass a filter of KEEP (not revised, not gold).

  table: problem, answer, correct, stopped and, for best, logprobs; scores: [N], of scorer. Equal
  votes go to the answer that was given first, equal scores to the first sample.
  """
  whole = table['stopped'].to_numpy(bool)
  if how in ('correct', 'all'):
    return whole & (table['correct'].to_numpy(bool) if how == 'correct' else True)
  answered = whole & table['answer'].notna().to_numpy()
  found, problems = np.zeros(len(table), bool), table['problem'].to_numpy(object)
  if how == 'best':
    scores = mean_logprobs(table)
  for rows in pd.Series(np.flatnonzero(answered)).groupby(problems[answered], sort=False):
    rows = rows[1].to_numpy()
    if how == 'majority':
      answers = table['answer'].to_numpy(object)[rows]
      votes = pd.Series(answers).value_counts(sort=False)  # in the order in which they come
      found[rows[answers == votes.index[int(votes.to_numpy().argmax())]]] = True
    else:
      found[rows[int(np.argmax(scores[rows]))]] = True
  return found


def mean_logprobs(table: pd.DataFrame) -> np.ndarray:
  """float64 [N]: the mean log-prob a token of each response."""
  return np.array([float(np.mean(x, dtype=np.float64)) for x in table['logprobs']])


def chosen(examples: pd.DataFrame, distinct: str, most: int) -> pd.DataFrame:
  """At most `most` examples of each problem (0: all), by `distinct` one of each path: the first."""
  if distinct != 'none':
    examples = examples.drop_duplicates(['problem', 'path'])
  if most:
    examples = examples[examples.groupby('problem', sort=False).cumcount() < most]
  return examples.reset_index(drop=True)


# -- examples


def example(vocab, problem: str, prompt: str, response: str, tokens=None, **about) -> dict:
  """A row of COLUMNS. tokens: of the response as it was drawn, else its text is encoded.

  One that a stop string ended is learned as its text and the stop token. about: form, sample,
  correct, answer, logprob, flops, parent, bank, round; and `distinct`, which decides its path.
  """
  begun = list(vocab.prompt(prompt))
  said = [] if tokens is None else [int(token) for token in tokens]
  if not said or said[-1] != vocab.stop:
    said = [*vocab.encode(response), vocab.stop]
  whole = np.array([*begun, *said], np.int32)
  made = dict(problem=problem, prompt=prompt, response=response, tokens=whole)
  path = paths.key(response, about['answer'], about.pop('distinct'))
  return made | dict(prompt_tokens=len(begun), path=path) | about


def from_samples(table: pd.DataFrame, vocab, **about) -> list[dict]:
  """A bank's rows (READ) as examples. about: distinct, parent, bank, round."""
  n = table.groupby('problem', sort=False)['problem'].transform('size')
  return [
    example(
      vocab, row.problem, row.prompt, row.response, row.tokens, form='plain', sample=row.sample,
      correct=bool(row.correct), answer=row.answer, logprob=logprob,
      flops=row.decode_flops + row.prefill_flops / count, **about,
    )
    for row, count, logprob in zip(table.itertuples(), n, mean_logprobs(table), strict=True)
  ]  # fmt: skip


def from_solutions(problems, vocab, **about) -> list[dict]:
  """The problems' own solutions as examples. about: distinct, parent, bank, round."""
  return [
    example(
      vocab, p.id, p.prompt, p.solution, form='gold', sample=0, correct=True, answer=p.answer,
      logprob=np.nan, flops=0.0, **about,
    )
    for p in problems
  ]  # fmt: skip


class Turn(NamedTuple):
  """A problem asked again."""

  problem: batches.Problem
  shown: str  # the prompt that the policy reads
  learned: str  # … and the one that the example has
  sample: int


def draw(setting: stages.Setting, stage: stages.Stage, data, turns: list[Turn], n: int, **about):
  """(n responses to each turn as examples, ledger). about: form, distinct, parent, bank, round.

  Those cut off are left out. Noise is a function of seed, prompt and `sample`.
  """
  recipe, vocab = stage.recipe, data.vocab
  for turn in turns[:1]:
    lost = vocab.missing(turn.shown)
    if lost is not None:
      raise BadInput(
        f'synthesize: a second attempt is asked for with {lost!r}, which config.data.vocab='
        f'{vocab.name} has not: use bytes or a tokenizer'
      )
  cfg = stages.model(recipe)
  generator = stages.generator(
    setting, stage.parent, recipe, 'turns', recipe['temperature'], recipe['response_tokens']
  )
  found, ledger = [], compute.empty()
  for at in range(0, len(turns), PART):
    if processes.preempted():
      raise processes.Preempted
    part = turns[at : at + PART]
    asked = [vocab.prompt(turn.shown) for turn in part]
    try:
      drawn = generator.draw(asked, n=n, salt=[str(turn.sample) for turn in part])
    except ArithmeticError as error:
      raise stages.NonFinite(f'second attempts: {error}', ledger) from error
    lengths = np.array([[len(one.tokens) for one in ones] for ones in drawn])
    model = compute.generate(cfg, [len(ids) for ids in asked], lengths, 0, 0, 0)['model']
    ledger = compute.add(ledger, {'model': model, 'executed': generator.spent()['executed']})
    said = [[vocab.decode(one.tokens) if one.stopped else '' for one in ones] for ones in drawn]
    verdicts = verifiers.verify_all([turn.problem for turn in part], said)
    for turn, ids, ones, texts, judged in zip(part, asked, drawn, said, verdicts, strict=True):
      for i, (one, text, verdict) in enumerate(zip(ones, texts, judged, strict=True)):
        prefill, decode = compute.query(cfg, len(ids), len(one.tokens), 1)
        if one.stopped:
          found.append(example(
            vocab, turn.problem.id, turn.learned, text, one.tokens, sample=turn.sample + i,
            correct=verdict.correct, answer=verdict.answer, flops=decode + prefill / n,
            logprob=float(np.mean(one.logprobs)), **about,
          ))  # fmt: skip
    setting.progress((at + len(part)) / len(turns), f'{at + len(part)} of {len(turns)}')
  return found, ledger


# -- the stage


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Makes the examples, packs them, and says what they are. Cut off, it is done anew."""
  recipe, folder = stage.recipe, stages.folder(setting.workdir, stage.id)
  _, data = stages.load_data(setting.workdir, recipe)
  problems = stages.problems(setting.workdir, recipe)
  seconds = stages.stopwatch({'seconds': 0.0})
  made, about, ledger = make(setting, stage, data, problems)
  if recipe['earlier'] is not None:
    before = stages.folder(setting.workdir, recipe['earlier']) / 'examples.parquet'
    made = chosen(pd.concat([pd.read_parquet(before), made]), recipe['distinct'], 0)
  width = data.spec['row_tokens']
  fits = made['tokens'].map(len) <= width
  made, about['long'] = made[fits].reset_index(drop=True), int((~fits).sum())
  if made.empty:
    raise BadInput(
      f'{stage.label}: of {about["drawn"]} samples of {len(problems)} problems none is kept '
      f'(keep={recipe["keep"]!r}, {about["long"]} longer than a row): raise config.synthetic.n or '
      'problems, or take an easier task'
    )
  if processes.first():
    every = data.spec['loss_on'] == 'all' and recipe['keep'] != 'revised'
    counts = write_rows(folder / 'rows', made, width, data.vocab.size, every)
    files.write_json(folder / 'rows.json', counts)
  files.write_table(folder / 'examples.parquet', made[list(COLUMNS)])
  counts = processes.once(lambda: files.read_json(folder / 'rows.json'))
  about |= {
    'examples': len(made),
    'problems': int(made['problem'].nunique()),
    'asked': len(problems),
    'paths': len(made.drop_duplicates(['problem', 'path'])),
    'rows': counts['rows'],
    'tokens': counts['tokens'],
  }
  cell, path = stages.path_of(setting, stage)
  meta = {'ledger': ledger, 'seconds': seconds(), 'synthetic': about}
  stages.finish(setting, stage, cell, path, meta)


def charged(setting: stages.Setting, stage: stages.Stage, keys=('synthetic',)) -> dict[str, dict]:
  """{'pretrain', 'sft': ledgers} of what went into a stage's examples and not into its parent.

  That is every stage that they depend on, once: samples, whoever drew them, and what trained the
  policy, a teacher, a reward model. Pretraining is that of a model which is not the stage's own.
  keys: of the recipe, which name the stages that are meant; those of RL and DPO are others.
  """
  workdir, found = setting.workdir, {kind: compute.empty() for kind in ('pretrain', 'sft')}
  asked = [stage.recipe[key] for key in keys if stage.recipe[key] is not None]
  if not asked:
    return found
  its = set().union(*(needed(workdir, one) for one in asked)) - needed(workdir, stage.parent)
  for stage_id in sorted(its):
    made = stages.Stage(**files.read_json(stages.folder(workdir, stage_id) / 'stage.json'))
    done = stages.done(workdir, stage_id)
    if made.kind == 'pretrain':
      found['pretrain'] = compute.add(found['pretrain'], done['path']['pretrain'])
      continue
    ledger = bank.cost(workdir, stage_id) if made.kind == 'sample' else done['ledger']
    found['sft'] = compute.add(found['sft'], ledger)
  return found


def needed(workdir, stage_id: str) -> set[str]:
  """Ids of a stage and of all that it depends on."""
  found, left = set(), [stage_id]
  while left:
    one = left.pop()
    if one not in found:
      found.add(one)
      path = stages.folder(workdir, one) / 'stage.json'
      left += stages.inputs(stages.Stage(**files.read_json(path)))
  return found


def make(setting: stages.Setting, stage: stages.Stage, data, problems) -> tuple:
  """(the examples of this round, what ABOUT says of them alone, the ledger of the stage itself)."""
  recipe, vocab, ledger = stage.recipe, data.vocab, compute.empty()
  where = dict(distinct=recipe['distinct'], parent=stage.parent, round=recipe['round'])
  table, flops = None, 0.0
  if recipe['keep'] == 'gold':
    rows, drawn = from_solutions(problems, vocab, bank=None, **where), 0
    passed = 1.0
  else:
    table = preference.read_bank(setting.workdir, recipe, vocab, columns=READ)
    drawn = len(table)
    flops = compute.total(bank.cost(setting.workdir, recipe['bank']))
    if recipe['keep'] == 'revised':
      rows, spent = _revised(setting, stage, data, problems, table, where)
    else:
      scores, spent = None, ledger
      if recipe['keep'] == 'scorer':
        scores, spent = _scores(setting, recipe, table, vocab)
      kept = keep(table, recipe['keep'], scores)
      rows = from_samples(table[kept], vocab, bank=recipe['bank'], **where)
    passed, ledger = len(rows) / drawn, compute.add(ledger, spent)
  made = chosen(_table(rows), recipe['distinct'], recipe['most'])
  told = pd.DataFrame()
  if recipe['rationalise']:
    told, spent = _rationalised(setting, stage, data, problems, table, made, where)
    ledger = compute.add(ledger, spent)
    made = pd.concat([made, told], ignore_index=True) if len(told) else made
  about = {
    'new': len(made),
    'drawn': drawn,
    'passed': passed,
    'false': float(1 - made['correct'].mean()) if len(made) else 0.0,
    'rationalised': len(told),
    'flops': flops + compute.total(ledger),
  }
  return made, about, ledger


def _table(rows: list[dict]) -> pd.DataFrame:
  return pd.DataFrame(rows, columns=list(COLUMNS))


def _scores(setting, recipe: dict, table: pd.DataFrame, vocab) -> tuple[np.ndarray, dict]:
  """(the values of a reward model of a bank's rows, ledger)."""
  try:
    return preference.probabilities(setting, recipe['scorer'], table, vocab)
  except ArithmeticError as error:
    raise stages.NonFinite(f'scores: {error}', compute.empty()) from error


def _revised(setting, stage, data, problems, table: pd.DataFrame, where: dict) -> tuple:
  """(second attempts that are right, ledger): every whole sample is shown once."""
  style, room = data.spec['style'], data.spec['row_tokens'] - stage.recipe['response_tokens']
  by_id, turns = {problem.id: problem for problem in problems}, []
  for row in table[table['stopped']].itertuples():
    problem = by_id[row.problem]
    shown = attempts.revise(style, problem.prompt, row.response)
    if len(data.vocab.prompt(shown)) <= room:
      turns.append(Turn(problem, shown, shown, row.sample))
  if not turns:
    raise BadInput(
      f'{stage.label}: no first attempt can be shown and revised in config.data.row_tokens='
      f'{data.spec["row_tokens"]}: raise it'
    )
  found, ledger = draw(setting, stage, data, turns, 1, form='revised', bank=stage.id, **where)
  return [row for row in found if row['correct']], ledger


def _rationalised(setting, stage, data, problems, table, made, where: dict) -> tuple:
  """(examples of the problems that have none, got with the answer shown, ledger): the first right
  response of each. Shown are a problem's first sample, that it is wrong, and the answer."""
  style, room = data.spec['style'], data.spec['row_tokens'] - stage.recipe['response_tokens']
  done, first = set(made['problem']), table.drop_duplicates('problem').set_index('problem')
  turns = []
  for problem in problems:
    if problem.id in done:
      continue
    said = first.loc[problem.id, 'response']
    shown = attempts.critique(style, problem, said, False, 'answer')
    if len(data.vocab.prompt(shown)) <= room:
      turns.append(Turn(problem, shown, problem.prompt, 0))
  if not turns:
    return _table([]), compute.empty()
  n = stage.recipe['rationalise']
  about = dict(form='rationalised', bank=stage.id, **where)
  found, ledger = draw(setting, stage, data, turns, n, **about)
  return chosen(_table([row for row in found if row['correct']]), 'none', 1), ledger


def write_rows(folder, made: pd.DataFrame, width: int, vocab_size: int, every: bool) -> dict:
  """Packs examples into a folder of rows, which is there whole or not at all; its counts.

  every: whether prompts are learned too, as config.sft.loss_on has it.
  """
  scratch = folder.with_name(f'.{folder.name}.{os.getpid()}{files.PARTIAL}')
  for old in (scratch, folder):
    shutil.rmtree(old, ignore_errors=True)
  rows = zip(made['tokens'], made['prompt_tokens'], strict=True)
  counts = packing.write(scratch, rows, width, every, vocab_size)
  scratch.rename(folder)
  return counts
