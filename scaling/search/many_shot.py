"""Many-shot prompts (2404.11018): k solved examples of the SFT pool before the question.

Each is written as it was trained on, prompt, solution and stop token, end to end. All problems of a
run see the same ones; those of a smaller k come first among those of a larger. The whole prompt is
counted for every query, though a server would keep the part that all queries share.
"""

import hashlib

from scaling.errors import BadInput
from scaling.search import outcome
from scaling.search.budget_forcing import voted


def shots(tools, k: int) -> list[int]:
  """The tokens of k examples of a run. BadInput where there are fewer."""
  if k > len(tools.examples):
    raise BadInput(f'many_shot: k = {k} examples, and the SFT pool has {len(tools.examples)}')
  order = lambda problem: hashlib.sha256(f'{tools.run} {problem.id}'.encode()).digest()
  vocab, tokens = tools.vocab, []
  for problem in sorted(tools.examples, key=order)[:k]:
    tokens += [*vocab.prompt(problem.prompt), *vocab.encode(problem.solution), vocab.stop]
  return tokens


def search(problems, tools, k: int, *, samples: int = 1):
  """The majority's answer of `samples` responses after k examples. BadInput where k examples, the
  question and a response do not fit in a row."""
  outcome.check_budget('many_shot', k)
  outcome.check_budget('many_shot: samples', samples)
  before = shots(tools, k)
  prompts = [before + tools.vocab.prompt(problem.prompt) for problem in problems]
  outcome.check_room('many_shot', tools, max(map(len, prompts)))
  drawn = tools.generator.draw(prompts, n=samples, salt=f'{tools.run}')
  return voted(problems, tools, prompts, drawn)
