"""What jobs of the sandbox run: each function reads text that nobody has looked at.

Nothing here is called outside a jail (`scaling.rewards.sandbox`) but what `prepare` names, on text
of our own.
"""

import functools
import os


@functools.cache
def scorer(task: str):
  """reasoning-gym's own `score_answer(text, entry)` of a task, built once."""
  import reasoning_gym

  return reasoning_gym.get_score_answer_fn(task)


def score(task: str, answer: str, entry: dict) -> bool:
  """Whether the task's scorer gives an answer its full score."""
  return scorer(task)(answer, entry) == 1.0


def _parsed(text: str) -> list:
  """An answer in LaTeX or plain text, as math-verify reads it: [expression, its text], or []."""
  import math_verify

  kinds = (math_verify.LatexExtractionConfig(), math_verify.ExprExtractionConfig())
  return math_verify.parse(f'\\boxed{{{text}}}', kinds, parsing_timeout=None)


def equal(gold: str, answer: str) -> bool:
  """Whether two answers are one value by math-verify, whichever of them is taken for the gold one.

  Its verdict depends on the order of its arguments (a relation may be read as its right side, a
  rounding follows the gold one): here both orders must say yes. Its own time limits use a signal;
  those of the sandbox take their place.
  """
  import math_verify

  one, other = _parsed(gold), _parsed(answer)
  same = functools.partial(math_verify.verify, timeout_seconds=None, raise_on_error=True)
  return bool(one and other and same(one, other) and same(other, one))


COMMON = (  # forms of answers: pairs that differ, so that all of a comparison is gone through
  (r'\frac{1}{7}', r'3+\frac{2}{5}'),
  (r'\frac{1}{7}', '0.142857'),
  ('3x+1', '3x+2'),
  ('x^2+1', 'x^2+2x+1'),
  (r'\sqrt{2}', r'2\sqrt{3}'),
  ('(1,2)', '[1,3)'),
  (r'\{1,2\}', '1,3'),
  (r'\frac{3\pi}{4}', r'\frac{\pi}{4}'),
  ('2+3i', '3+2i'),
  (r'\begin{pmatrix}1\\2\end{pmatrix}', r'\begin{pmatrix}1\\3\end{pmatrix}'),
  ('10^{5}', '100001'),
  ('x=1', 'x<2'),
  (r'10\%', r'\text{east}'),
)


def warm() -> None:
  """Compares the COMMON forms once, so that a worker's jobs begin with what math-verify's grammar
  and sympy keep of them: a cold comparison takes ten times as long."""
  for one, other in COMMON:
    equal(one, other)


def program(source: str, checks: list[str]) -> bool:
  """Whether a program runs to its end, and every check after it, in its own names, too."""
  names = {'__name__': '__main__'}
  try:
    for text in (source, *checks):
      exec(compile(text, 'program', 'exec'), names)
  except MemoryError:
    raise
  except BaseException:
    return False
  return True


def script(source: str) -> None:
  """Runs a program for its stdout; what it writes to stderr is lost."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
  exec(compile(source, 'program', 'exec'), {'__name__': '__main__'})
