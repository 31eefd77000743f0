"""Self-verification: the model that draws k attempts also judges each of them.

An attempt's weight is the probability of the verdict 'right', of the two verdicts that it was
taught (config.data.attempts), after a prompt that shows the attempt (data/attempts.py).
"""

from scaling.data import attempts
from scaling.rewards import model_judge
from scaling.search import cost as costs
from scaling.search import outcome
from scaling.search.outcome import Outcome


def search(problems, tools, k: int, *, choose='best'):
  """The answer of k attempts, by their own weights: choose 'best' or 'weighted'.

  BadInput where a prompt with an attempt does not fit in a row.
  """
  outcome.check_budget('self_verification', k)
  outcome.check_choice('self_verification', choose, ('best', 'weighted'))
  vocab, cfg, marks = tools.vocab, tools.cfg, attempts.marks(tools.style)
  plain = [vocab.prompt(problem.prompt) for problem in problems]
  verdicts = [vocab.encode(text) for text in (marks.right, marks.wrong)]
  asked = [vocab.prompt(attempts.verify(tools.style, p.prompt, '')) for p in problems]
  longest = max(map(len, verdicts))
  outcome.check_room('self_verification', tools, max(map(len, asked)) + longest)
  drawn = tools.generator.draw(plain, n=k, salt=f'{tools.run}')
  spent, asked_of, questions = [], [], {}
  for problem, prompt, samples in zip(problems, plain, drawn, strict=True):
    cost = costs.add(
      costs.prefill(cfg, len(prompt)),
      costs.decode(cfg, len(prompt), [len(one.tokens) for one in samples]),
      costs.Cost(samples=k),
    )
    asked_of.append([])
    for one in samples:
      question = model_judge.question(tools, problem.prompt, vocab.decode(one.tokens))
      kept = costs.common(list(question), prompt + one.tokens[:-1])
      cost = costs.add(cost, costs.prefill(cfg, len(question), kept))
      questions[question] = None
      asked_of[-1].append(question)
    spent.append(cost)
  chances = model_judge.chances(tools, list(questions), marks.right, marks.wrong)
  questions = dict(zip(questions, chances, strict=True))
  found, responses = [], outcome.responses(tools, problems, drawn)
  for problem, cost, ones, its in zip(problems, spent, responses, asked_of, strict=True):
    value = outcome.chosen(ones, [questions[question] for question in its], choose)
    found.append(Outcome(problem.id, value, cost))
  return found
