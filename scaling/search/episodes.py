"""Episodes with an environment (`scaling.environments`): solved within k turns?

The environment stops an episode at the first right answer, so a chance policy gets better with k as
well: what it is to be compared with is pass@k of k responses that do not know of each other.
"""

from scaling.environments import environment as environments
from scaling.environments.checker import ENVIRONMENTS
from scaling.environments.environment import Turn
from scaling.errors import BadInput
from scaling.search import cost as costs
from scaling.search import outcome
from scaling.search.outcome import Outcome


def search(problems, tools, k: int, *, environment='hints'):
  """The reward of one episode of each problem, of at most k turns.

  environment: of environments/checker.py. BadInput for another, or where k turns do not fit in a
  row.
  """
  outcome.check_budget('episodes', k)
  if environment not in ENVIRONMENTS:
    known = ', '.join(ENVIRONMENTS)
    raise BadInput(f'episodes: environment is {environment!r}: it must be one of {known}')
  vocab, cfg, most = tools.vocab, tools.cfg, tools.response_tokens
  world = ENVIRONMENTS[environment](tools.style)
  prompts = [vocab.prompt(problem.prompt) for problem in problems]
  environments.check_room(world, vocab, max(map(len, prompts)), k, most, tools.row_tokens)
  spent = [costs.Cost() for _ in problems]

  def draw(turn, places, so_far):
    prefixes = [[*prompts[p], *one.tokens] for (p, _), one in zip(places, so_far, strict=True)]
    salt, each = f'{tools.run} turn {turn}', [1] * len(places)
    drawn = tools.generator.draw(prefixes, n=each, salt=salt)
    said = []
    for (p, _), prefix, so, (one,) in zip(places, prefixes, so_far, drawn, strict=True):
      kept = len(prefix) - environments.unread(so) if turn else 0
      spent[p] = costs.add(
        spent[p],
        costs.prefill(cfg, len(prefix), kept),
        costs.decode(cfg, len(prefix), [len(one.tokens)]),
        costs.Cost(samples=1),
      )
      said.append(Turn(one.tokens, one.logprobs, one.stopped))
    return said

  played = environments.play(world, vocab, problems, 1, k, draw)
  return [
    Outcome(problem.id, one.reward, cost)
    for problem, (one,), cost in zip(problems, played, spent, strict=True)
  ]
