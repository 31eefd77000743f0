"""Sequential revision (2408.03314, section 6): the model sees its last attempt and solves again.

k attempts in `chains` chains, each of k / chains turns. The model must have been taught to revise:
config.data.attempts.
"""

import functools

from scaling.data import attempts
from scaling.errors import BadInput
from scaling.rewards import reward_model
from scaling.search import cost as costs
from scaling.search import outcome
from scaling.search.outcome import Outcome

CHOICES = ('last', *outcome.CHOICES)
BY_SCORE = ('best', 'weighted')


def search(problems, tools, k: int, *, chains: int = 1, choose='majority'):
  """The answer of k attempts. choose: 'last' (the last turn's, one vote a chain), 'majority' over
  all attempts, or by the scorer: 'best', 'weighted' (an attempt's score is its last step's).

  BadInput where chains does not divide k, or an attempt and its revision do not fit in a row.
  """
  outcome.check_budget('revision', k)
  outcome.check_choice('revision', choose, CHOICES)
  if chains < 1 or k % chains:
    raise BadInput(f'revision: chains is {chains}: it must be at least 1 and divide k = {k}')
  scored = choose in BY_SCORE
  if scored:
    outcome.check_scorer('revision', tools)
  vocab, cfg = tools.vocab, tools.cfg
  plain = [vocab.prompt(problem.prompt) for problem in problems]
  outcome.check_room('revision', tools, max(map(len, plain)))
  if k > chains:
    asked = [vocab.prompt(attempts.revise(tools.style, p.prompt, '')) for p in problems]
    outcome.check_room('revision', tools, max(map(len, asked)) + tools.response_tokens)
  spent = [costs.prefill(cfg, len(prompt)) for prompt in plain]
  turns = [[] for _ in problems]  # of each, all that was drawn, turn by turn
  cached = [[prompt] * chains for prompt in plain]  # what each chain's cache holds
  for turn in range(k // chains):
    jobs = [(p, c) for p in range(len(problems)) for c in range(chains)]
    prefixes = [plain[p] for p, _ in jobs]
    if turn:
      prefixes = []
      for p, c in jobs:
        last = vocab.decode(turns[p][-chains + c].tokens)
        write = functools.partial(attempts.revise, tools.style, problems[p].prompt)
        prefix = outcome.showing(tools, write, last, tools.response_tokens)
        kept = costs.common(prefix, cached[p][c])
        spent[p] = costs.add(spent[p], costs.prefill(cfg, len(prefix), kept))
        prefixes.append(prefix)
    drawn = tools.generator.draw(prefixes, n=[1] * len(jobs), salt=f'{tools.run} turn {turn}')
    for (p, c), prefix, (one,) in zip(jobs, prefixes, drawn, strict=True):
      spent[p] = costs.add(
        spent[p], costs.decode(cfg, len(prefix), [len(one.tokens)]), costs.Cost(samples=1)
      )
      cached[p][c] = prefix + one.tokens[:-1]
      turns[p].append(one)
  weights = [[1.0] * k for _ in problems]
  if scored:
    weights = _scores(tools, plain, turns, spent)
  found, responses = [], outcome.responses(tools, problems, turns)
  for problem, ones, weight, cost in zip(problems, responses, weights, spent, strict=True):
    if choose == 'last':
      value = outcome.chosen(ones[-chains:], [1.0] * chains, 'majority')
    else:
      value = outcome.chosen(ones, weight, choose)
    found.append(Outcome(problem.id, value, cost))
  return found


def _scores(tools, plain, turns, spent) -> list[list[float]]:
  """The score of every attempt, as if it had been the first: prompt and attempt alone."""
  rows = [(p, response) for p, responses in enumerate(turns) for response in responses]
  wholes = [plain[p] + response.tokens for p, response in rows]
  ending = reward_model.step_tokens(tools.vocab, outcome.ends_of_steps(tools.style))
  ends = [
    [len(plain[p]) + end for end in reward_model.step_ends(response.tokens, ending)]
    for p, response in rows
  ]
  found = [[] for _ in turns]
  for (p, _), whole, steps in zip(rows, wholes, tools.scorer.score(wholes, ends), strict=True):
    cached = len(plain[p]) if found[p] else 0  # the prompt is scored once
    flops = tools.scorer.flops(len(whole), cached, len(steps))
    spent[p] = costs.add(spent[p], costs.Cost(scorer_flops=flops))
    found[p].append(float(steps[-1]))
  return found
