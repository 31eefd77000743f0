"""Budget forcing (s1, 2501.19393): how many tokens a response thinks is set from outside.

The budget k counts tokens before the end-of-thinking token, '#' in the solutions that are taught
here. Before it is reached that token and the end are suppressed; at it that token is forced.
"""

from scaling.errors import BadInput
from scaling.search import cost as costs
from scaling.search import outcome
from scaling.search.generate import Thinking
from scaling.search.outcome import Outcome

FORCED = ('exact', 'most', 'least')


def search(problems, tools, k: int, *, force='exact', mark='#', samples: int = 1):
  """The majority's answer of `samples` responses that think for k tokens.

  force: 'exact'ly k, at 'most' k, or at 'least' k; mark: the end of thinking, one token. BadInput
  where the mark is not one token, or thinking leaves no token of the response for an answer.
  """
  outcome.check_budget('budget_forcing', k)
  outcome.check_budget('budget_forcing: samples', samples)
  outcome.check_choice('budget_forcing: force', force, FORCED)
  token = tools.vocab.encode(mark)
  if len(token) != 1:
    raise BadInput(
      f'budget_forcing: mark is {mark!r}, {len(token)} tokens of the vocabulary '
      f'{tools.vocab.name!r}: it must be one'
    )
  if k + 2 > tools.response_tokens:
    raise BadInput(
      f'budget_forcing: a budget of k = {k} tokens of thinking, and config.search.response_tokens '
      f'is {tools.response_tokens}: the mark and an answer need 2 more'
    )
  thinking = Thinking(
    least=0 if force == 'most' else k,
    most=tools.response_tokens if force == 'least' else k,
    mark=token[0],
  )
  prompts = [tools.vocab.prompt(problem.prompt) for problem in problems]
  outcome.check_room('budget_forcing', tools, max(map(len, prompts)))
  drawn = tools.generator.draw(prompts, n=samples, salt=f'{tools.run}', thinking=thinking)
  return voted(problems, tools, prompts, drawn)


def voted(problems, tools, prompts, drawn) -> list[Outcome]:
  """The majority's answer of each problem's responses to one prompt, and what they cost."""
  found = []
  responses = outcome.responses(tools, problems, drawn)
  for problem, prompt, ones in zip(problems, prompts, responses, strict=True):
    cost = costs.add(
      costs.prefill(tools.cfg, len(prompt)),
      costs.decode(tools.cfg, len(prompt), [len(one.tokens) for one in ones]),
      costs.Cost(samples=len(ones)),
    )
    value = outcome.chosen(ones, [1.0] * len(ones), 'majority')
    found.append(Outcome(problem.id, value, cost))
  return found
