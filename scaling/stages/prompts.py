"""Stage `prompts`: new problems, beyond those of a pool, for a policy to learn from.

    problems of a pool -> candidates -> new ones -> valid ones -> of the difficulty asked for

Candidates (`recipe['source']`), so many of each given problem:

    evolve    its expression is changed in the task's own grammar (`data.new_prompts`), by no model
    reverse   the policy is shown its solution and writes a prompt that it may be the answer of
              (back-translation, 2308.06259; config.data.reversed taught it to)
    instruct  the policy is shown some of them and asked for one more (Self-Instruct, 2212.10560):
              for models that follow words

A candidate that is a problem of any pool, or comes again, is left out: the pools stay disjoint. The
policy then answers each n times. Which answer is right (`recipe['valid']`):

    verifier  the one that the task's grammar gives; a text that is not of the grammar is not valid
    majority  the one that most samples give, where they are at least `agreement` of all; so a wrong
              one may be taken for right, and the task needs no grammar

Kept are those whose part of right samples lies in [pass_low, pass_high]. problems.parquet has them,
`COLUMNS`; stages that name this one in recipe['prompts'] read them as their pool
(`stages.problems`). done.json has 'prompts': `ABOUT`.
"""

import collections
import json
from typing import NamedTuple

import pandas as pd

from scaling import compute, files, processes
from scaling.data import attempts, batches, new_prompts
from scaling.data.problem_files import identity
from scaling.errors import BadInput
from scaling.rewards import verifiers
from scaling.stages import sample as sampling
from scaling.stages import stage as stages

SOURCES = ('evolve', 'reverse', 'instruct')
SHOTS = 3  # problems that 'instruct' shows
VALID = ('verifier', 'majority')
COLUMNS = {  # of problems.parquet, after those of batches.Problem
  'source': 'of SOURCES',
  'parent': 'id of the stage whose policy wrote or judged it',
  'given': 'id of the problem that it was made of',
  'pass_rate': 'the part of the samples with a verdict that give its answer',
  'agreement': 'the part that give the answer which most give',
  'flops': 'model FLOPs of writing it and of the samples that judged it',
}
ABOUT = {  # of done.json
  'candidates': 'made, or written',
  'cut': 'texts that did not end',
  'known': 'that are problems of a pool, or came again',
  'invalid': 'that are none of the task, or whose samples do not agree enough, or get no verdict',
  'long': 'whose prompt leaves no room for a response in a row; or is empty',
  'easy': 'that pass more often than pass_high',
  'hard': 'that pass less often than pass_low',
  'kept': 'the rest',
  'pass_rate': 'the mean of theirs',
  'distinct_2': 'distinct-2 of the tokens of their prompts, at most as many as there are given',
  'distinct_2_given': '… of so many given ones',
  'distance': 'mean distance of two of them (new_prompts.distance)',
  'distance_given': '… of two given ones',
}
PART = 512  # prompts that are asked at a time


class Candidate(NamedTuple):
  """A text that may become a problem."""

  given: batches.Problem
  text: str
  problem: batches.Problem | None  # by the task's grammar
  flops: float


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Makes, checks and keeps problems. Cut off, it is done anew."""
  recipe = stage.recipe
  folder, data = stages.load_data(setting.workdir, recipe)
  given = batches.problems(folder, recipe['pool'])[: recipe['problems']]
  seconds, ask = stages.stopwatch({'seconds': 0.0}), asker(setting, stage, data, given)
  if recipe['source'] == 'evolve':
    found, cut = evolved(recipe, data, given)
  else:
    found, cut = written(ask, recipe, data, given)
  about = dict.fromkeys(ABOUT, 0) | {'candidates': len(found) + cut, 'cut': cut}
  found, about['known'] = unknown(folder, found)
  whole, room = len(found), data.spec['row_tokens'] - recipe['response_tokens']
  found = [c for c in found if c.text and len(data.vocab.prompt(c.text)) <= room]
  about['long'] = whole - len(found)
  if recipe['valid'] == 'verifier':
    whole, found = len(found), [c for c in found if c.problem is not None]
    about['invalid'] = whole - len(found)
  rows = judged(ask, stage, data, found)
  about['invalid'] += len(found) - len(rows)
  easy = [row for row in rows if row['pass_rate'] > recipe['pass_high']]
  hard = [row for row in rows if row['pass_rate'] < recipe['pass_low']]
  rows = [row for row in rows if recipe['pass_low'] <= row['pass_rate'] <= recipe['pass_high']]
  about |= {'easy': len(easy), 'hard': len(hard), 'kept': len(rows)}
  if not rows:
    words = ', '.join(f'{about[name]} {name}' for name in ('known', 'invalid', 'easy', 'hard'))
    raise BadInput(
      f'{stage.label}: of {about["candidates"]} candidates none is kept ({words}, {about["long"]} '
      'too long): raise config.synthetic.draws, or widen pass_low and pass_high'
    )
  about |= measures(data, rows, given)
  table = pd.DataFrame(rows).assign(entry=lambda t: t['entry'].map(json.dumps))
  files.write_table(stages.folder(setting.workdir, stage.id) / 'problems.parquet', table)
  cell, path = stages.path_of(setting, stage)
  meta = {'ledger': ask.spent(), 'seconds': seconds(), 'prompts': about}
  stages.finish(setting, stage, cell, path, meta)


class Asker(NamedTuple):
  """The policy of a stage, asked."""

  ask: object  # (texts, n, limit, salt, words) -> for each text ([(response or None, flops)])
  spent: object  # () -> the ledger so far


def asker(setting: stages.Setting, stage: stages.Stage, data, given) -> Asker:
  """An Asker: None is a response that was cut off. Noise is of seed, prompt, salt and index."""
  recipe, vocab, cfg = stage.recipe, data.vocab, stages.model(stage.recipe)
  ledger = [compute.empty()]
  longest = max(recipe['response_tokens'], sampling.longest_prompt(data, given) + 1)
  generator = stages.generator(
    setting, stage.parent, recipe, 'prompts', recipe['temperature'], longest
  )

  def ask(texts: list[str], n: int, limit: int, salt: str, words: str) -> list:
    found = []
    for at in range(0, len(texts), PART):
      if processes.preempted():
        raise processes.Preempted
      asked = [vocab.prompt(text) for text in texts[at : at + PART]]
      room = [min(limit, data.spec['row_tokens'] - len(ids)) for ids in asked]
      try:
        drawn = generator.draw(asked, n=n, limit=room, salt=salt)
      except ArithmeticError as error:
        raise stages.NonFinite(f'{words}: {error}', ledger[0]) from error
      for ids, ones in zip(asked, drawn, strict=True):
        queries = [compute.query(cfg, len(ids), len(one.tokens), 1) for one in ones]
        costs = [decode + prefill / n for prefill, decode in queries]
        said = [vocab.decode(one.tokens) if one.stopped else None for one in ones]
        found.append(list(zip(said, costs, strict=True)))
      lengths = [[len(one.tokens) for one in ones] for ones in drawn]
      model = compute.generate(cfg, [len(ids) for ids in asked], lengths, 0, 0, 0)['model']
      executed = generator.spent()['executed']
      ledger[0] = compute.add(ledger[0], {'model': model, 'executed': executed})
      setting.progress((at + len(asked)) / len(texts), f'{words}, {at + len(asked)} prompts')
    return found

  return Asker(ask, lambda: ledger[0])


def evolved(recipe: dict, data, given) -> tuple[list[Candidate], int]:
  """(candidates that are changed expressions, 0)."""
  found, style = [], data.spec['style']
  for problem in given:
    for i in range(recipe['draws']):
      seed = f'{recipe["seed"]} {problem.id} {i}'
      new = new_prompts.evolved(problem, style, seed)
      if new is not None:
        found.append(Candidate(problem, new.prompt, new, 0.0))
  return found, 0


def written(ask: Asker, recipe: dict, data, given) -> tuple[list[Candidate], int]:
  """(candidates that the policy wrote of given problems, texts cut off)."""
  style, longest = data.spec['style'], sampling.longest_prompt(data, given) + 1
  if recipe['source'] == 'reverse':
    shown = [attempts.backward(style, problem.solution) for problem in given]
  else:
    some = [[given[(i + j) % len(given)].prompt for j in range(SHOTS)] for i in range(len(given))]
    shown = [new_prompts.instruct(texts) for texts in some]
  room = data.spec['row_tokens'] - longest
  lost = data.vocab.missing(''.join(shown[:1]))
  if lost is not None:
    raise BadInput(
      f'prompts: {recipe["source"]!r} asks with {lost!r}, which config.data.vocab='
      f'{data.vocab.name} has not: use bytes or a tokenizer'
    )
  fits = [i for i, text in enumerate(shown) if len(data.vocab.prompt(text)) <= room]
  if not fits:
    raise BadInput(
      f'prompts: nothing that {recipe["source"]!r} shows fits in config.data.row_tokens='
      f'{data.spec["row_tokens"]} with what is to be written: raise it'
    )
  asked = [shown[i] for i in fits]
  drawn = ask.ask(asked, recipe['draws'], longest, recipe['source'], 'writing prompts')
  found, cut = [], 0
  for i, ones in zip(fits, drawn, strict=True):
    for text, flops in ones:
      cut += text is None
      if text is not None:
        like = given[i].prompt
        if recipe['source'] == 'instruct':  # whose words may end in any space
          text = text.strip() + like[len(like.rstrip()) :]
        by_grammar = recipe['valid'] == 'verifier'
        problem = new_prompts.read(text, given[i], style) if by_grammar else None
        found.append(Candidate(given[i], text, problem, flops))
  return found, cut


def unknown(folder, found: list[Candidate]) -> tuple[list[Candidate], int]:
  """(those that are no problem of a pool and no earlier candidate, how many the others are)."""
  known = {p.prompt for pool in batches.POOLS for p in batches.problems(folder, pool)}
  new = []
  for candidate in found:
    if candidate.text not in known:
      known.add(candidate.text)
      new.append(candidate)
  return new, len(found) - len(new)


def judged(ask: Asker, stage: stages.Stage, data, found: list[Candidate]) -> list[dict]:
  """Rows of problems.parquet of the candidates that are valid."""
  recipe, valid = stage.recipe, []
  if not found:
    return []
  texts = [candidate.text for candidate in found]
  drawn = ask.ask(texts, recipe['n'], recipe['response_tokens'], 'answers', 'answering')
  for candidate, ones in zip(found, drawn, strict=True):
    task, whole = candidate.given.task, [text for text, _ in ones if text is not None]
    shell = batches.Problem(identity(task, candidate.text), task, candidate.text, '', '', {})
    votes = collections.Counter(verifiers.answer_of(shell, text) for text in whole)
    votes.pop(None, None)
    answer, most = votes.most_common(1)[0] if votes else (None, 0)
    agreement, problem = most / len(ones), candidate.problem
    if problem is None and agreement >= recipe['agreement'] and answer is not None:
      entry = candidate.given.entry | {'question': candidate.text, 'answer': answer, 'metadata': {}}
      problem = shell._replace(solution=f'#{answer}', answer=answer, entry=entry)
    if problem is not None:
      flops = candidate.flops + sum(flops for _, flops in ones)
      about = dict(source=recipe['source'], parent=stage.parent, given=candidate.given.id)
      valid.append((problem, whole, len(ones), about | dict(agreement=agreement, flops=flops)))
  verdicts = verifiers.verify_all([one[0] for one in valid], [one[1] for one in valid])
  rows = []
  for (problem, _, n, about), judged in zip(valid, verdicts, strict=True):
    there = n - sum(verdict.status != 'ok' for verdict in judged)  # one that was cut off is wrong
    if there:
      rate = sum(verdict.correct for verdict in judged) / there
      rows.append(problem._asdict() | about | {'pass_rate': rate})
  return rows


def measures(data, rows: list[dict], given) -> dict:
  """What ABOUT says of the problems that are kept, and of as many given ones."""
  said = {'pass_rate': sum(row['pass_rate'] for row in rows) / len(rows)}
  few = min(len(rows), len(given))
  prompts = {'': [row['prompt'] for row in rows], '_given': [p.prompt for p in given]}
  for which, texts in prompts.items():
    ids = [data.vocab.encode(text) for text in texts[:few]]
    said[f'distinct_2{which}'] = new_prompts.distinct(ids, 2)
    said[f'distance{which}'] = new_prompts.distance(ids)
  return said
