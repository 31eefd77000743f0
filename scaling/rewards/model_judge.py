"""A local model as the judge of responses, its own or another model's.

    verdicts   the probability of the verdict 'right' after a prompt that shows the response, of the
               two verdicts that the model was taught (config.data.attempts, data/attempts.py)
    words      a score that it writes, asked as `rewards.judge` asks
    pairs      the mean probability that it names the response the better of two, over the other
               responses to the prompt, both orders averaged (RLAIF, 2309.00267)

A response that the judge gives no readable score has NaN, never a number. All give with their
values what reading and writing cost, as a ledger of kind reward_model.

Axes: N responses.
"""

import collections
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from scaling import compute
from scaling.data import attempts
from scaling.errors import BadInput
from scaling.rewards import judge
from scaling.search import outcome
from scaling.search.outcome import Tools

BEFORE = '\nBetter:'  # what a judge of two says before it names one


def _check(tools: Tools, texts: Sequence[str], name: str) -> None:
  """BadInput where the judge's vocabulary cannot write what it is asked."""
  for text in texts:
    lost = tools.vocab.missing(text)
    if lost is not None:
      raise BadInput(
        f'{name}: its question has {lost!r}, and config.data.vocab={tools.vocab.name} has not: use '
        "bytes or a tokenizer, or config.dpo.judge_by='verdict'"
      )


def _as_reward_model(tools: Tools, model: float) -> dict:
  """The ledger of so many model FLOPs, and of what the generator has executed."""
  executed = compute.total(tools.generator.spent(), 'executed')
  zeros = compute.empty()
  return {
    'model': zeros['model'] | {'reward_model': float(model)},
    'executed': zeros['executed'] | {'reward_model': executed},
  }


def _prefill(tools: Tools, length: int, logits: int = 1) -> float:
  tokens, context = compute.causal([length])
  return compute.forward_flops(tools.cfg, tokens, context, logits)


def chances(
  tools: Tools, questions: Sequence[Sequence[int]], right: str, wrong: str
) -> list[float]:
  """p(right) / (p(right) + p(wrong)) after each question, a list of ids."""
  verdicts = [tools.vocab.encode(text) for text in (right, wrong)]
  rows = [(list(question), verdict) for question in questions for verdict in verdicts]
  logps = tools.generator.weigh([q for q, _ in rows], [v for _, v in rows])
  pairs = zip(logps[::2], logps[1::2], strict=True)
  return [1 / (1 + math.exp(min(no - yes, 700))) for yes, no in pairs]


def question(tools: Tools, prompt: str, response: str) -> tuple[int, ...]:
  """The ids of the prompt that shows a response and asks for a verdict."""
  marks = attempts.marks(tools.style)
  longest = max(len(tools.vocab.encode(text)) for text in (marks.right, marks.wrong))
  write = functools.partial(attempts.verify, tools.style, prompt)
  return tuple(outcome.showing(tools, write, response, longest))


def verdicts(tools: Tools, prompts: Sequence[str], responses: Sequence[str]):
  """(probability of being right float64 [N], ledger), by the verdict's own tokens."""
  marks = attempts.marks(tools.style)
  asked = [question(tools, *pair) for pair in zip(prompts, responses, strict=True)]
  once = list(dict.fromkeys(asked))  # equal responses are read once
  found = dict(zip(once, chances(tools, once, marks.right, marks.wrong), strict=True))
  flops = sum(_prefill(tools, len(one)) for one in once)
  return np.array([found[one] for one in asked]), _as_reward_model(tools, flops)


def words(tools: Tools, prompts: Sequence[str], responses: Sequence[str]):
  """(scores float64 [N] in [0, 1], NaN where none could be read; ledger), in its own words.

  tools.response_tokens bounds what it writes. BadInput where its vocabulary cannot write the
  question, or a question and an answer are longer than a row.
  """
  asked = [judge.score_prompt(*pair) for pair in zip(prompts, responses, strict=True)]
  _check(tools, asked, 'a judge in words')
  ids = [tools.vocab.prompt(text) for text in asked]
  drawn = [one for (one,) in tools.generator.draw(ids, salt='judge')]
  read = [judge.read_score(tools.vocab.decode(one.tokens)) for one in drawn]
  pairs = list(zip(ids, drawn, strict=True))
  flops = sum(sum(compute.query(tools.cfg, len(q), len(one.tokens), 1)) for q, one in pairs)
  scores = [math.nan if score is None else score for score in read]
  return np.array(scores, np.float64), _as_reward_model(tools, flops)


def preferred(
  tools: Tools, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
) -> tuple[np.ndarray, dict]:
  """(probability float64 [N] that the first of two responses is named the better, ledger).

  It is asked twice, with the two in either order, and the mean taken: a judge that only looks at
  the place says 1/2.
  """
  turns = [(p, a, b) for p, a, b in zip(prompts, first, second, strict=True)]
  turns += [(p, b, a) for p, a, b in turns]
  asked = [judge.pair_prompt(*turn) + BEFORE for turn in turns]
  _check(tools, asked, 'a judge of pairs')
  ids = [tools.vocab.prompt(text) for text in asked]
  says = np.array(chances(tools, ids, ' A', ' B'))
  ledger = _as_reward_model(tools, sum(_prefill(tools, len(one)) for one in ids))
  count = len(turns) // 2
  return (says[:count] + 1 - says[count:]) / 2, ledger


def pairs(tools: Tools, prompts: Sequence[str], responses: Sequence[str]):
  """(mean of `preferred` over the other distinct responses to its prompt, 1/2 without any, float64
  [N]; ledger). Equal responses are asked about once, so n distinct ones take n (n - 1) questions.
  """
  distinct = {}
  for prompt, response in zip(prompts, responses, strict=True):
    distinct.setdefault(prompt, {})[response] = None
  turns = [
    (prompt, *two) for prompt, known in distinct.items() for two in itertools.combinations(known, 2)
  ]
  chances_of, ledger = collections.defaultdict(list), compute.empty()
  if turns:
    found, ledger = preferred(tools, *zip(*turns, strict=True))
    for (prompt, first, second), chance in zip(turns, found, strict=True):
      chances_of[prompt, first].append(chance)
      chances_of[prompt, second].append(1 - chance)
  each = zip(prompts, responses, strict=True)
  return np.array([np.mean(chances_of[one] or [0.5]) for one in each]), ledger


def grades(tools: Tools, judge_by: str, prompts: Sequence[str], responses: Sequence[str]):
  """`verdicts`, `words` or `pairs`, by config.dpo.judge_by: (values float64 [N], ledger)."""
  ways = {'verdict': verdicts, 'words': words, 'pairs': pairs}
  return ways[judge_by](tools, prompts, responses)
