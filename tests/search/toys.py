"""A generator in plain Python, whose distribution is known, for searches to be tested on."""

import hashlib
import random

from scaling import compute
from scaling.data.batches import Problem
from scaling.data.vocab import VOCABS
from scaling.model import presets
from scaling.search import outcome
from scaling.search.generate import Drawn, Generator

VOCAB = VOCABS['arithmetic']
CFG = presets.model_config('25k', VOCAB.size)
DIGITS = 3  # of an answer, each a step
BASE = 4  # values of a digit, all as likely


def problems(count: int) -> list[Problem]:
  """Guess a number: no step of it says anything about the others."""
  rng = random.Random(0)
  answers = [''.join(str(rng.randrange(1, 1 + BASE)) for _ in range(DIGITS)) for _ in range(count)]
  return [Problem(f'p{i}', 'jsonl', f'{i}=', '', answer, {}) for i, answer in enumerate(answers)]


def step(rng: random.Random, said: str) -> str:
  """'2;' '4;' '1#', then what was said: '241' and the stop token."""
  digits = [c for c in said if c.isdigit()]
  if '#' in said:
    return ''.join(digits)
  return str(rng.randrange(1, 1 + BASE)) + ('#' if len(digits) == DIGITS - 1 else ';')


def generator(calls: list | None = None) -> Generator:
  """Draws steps (where `ends` are given) or whole responses; calls: gets every prefix and n."""

  def draw(prefixes, n=1, limit=None, ends=(), salt='', thinking=None):
    each = lambda value: value if isinstance(value, list) else [value] * len(prefixes)
    found, seen = [], {}
    for prefix, wanted, most, word in zip(prefixes, each(n), each(limit), each(salt), strict=True):
      if calls is not None:
        calls.append((VOCAB.decode(prefix), wanted))
      found.append([])
      for _ in range(wanted):
        index = seen[word, tuple(prefix)] = seen.get((word, tuple(prefix)), -1) + 1
        name = f'{word} {prefix} {index}'.encode()
        rng = random.Random(hashlib.sha256(name).digest())
        said = VOCAB.decode(prefix).partition('=')[2]
        text = ''
        while True:
          new = step(rng, said + text)
          last, text = '#' in said + text, text + new
          if last or ends:
            break
        tokens = VOCAB.encode(text) + [VOCAB.stop] * last
        cut = most is not None and len(tokens) > most
        tokens = tokens[:most] if cut else tokens
        found[-1].append(Drawn(tokens, [0.0] * len(tokens), not cut))
    return found

  return Generator(draw, None, compute.empty, lambda: 0)


def oracle(of: list[Problem]) -> outcome.Scorer:
  """Knows the answers: the probability that so many of the first digits lead to them, 0 or 1.

  A token costs 1.
  """
  answers = {problem.prompt: problem.answer for problem in of}

  def score(wholes, ends):
    found = []
    for whole, places in zip(wholes, ends, strict=True):
      text = VOCAB.decode(whole)
      prompt, mark, _ = text.partition('=')
      answer, steps = answers[prompt + mark], []
      for place in places:
        digits = [c for c in VOCAB.decode(whole[: place + 1]).partition('=')[2] if c.isdigit()]
        assert text[place : place + 1] in ('', ';', '#') or place == len(whole) - 1
        steps.append(float(answer.startswith(''.join(digits[:DIGITS]))))
      found.append(steps)
    return found

  return outcome.Scorer(score, lambda length, cached, marks: float(length - cached))


def tools(of: list[Problem], calls=None, **more) -> outcome.Tools:
  """What a search is given, with the oracle."""
  given = dict(response_tokens=12, row_tokens=64, scorer=oracle(of)) | more
  return outcome.Tools(CFG, VOCAB, 'short', generator(calls), **given)
