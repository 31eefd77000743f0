"""What a hosted model is told, and how its answer is read: as the verifier of each task reads it.

What follows the last '#' of a response is its answer, but of task 'math' what is in its last
\\boxed{}, of 'code' the program, and of tasks without answers (TEXTS) the whole response. The model
is told to end so.
"""

from scaling.rewards.verifiers import TEXTS, boxed

MARKED = """{problem}

You may reason first. Then end with a line that has the sign # and the final answer alone: no words,
no units and no formatting, and nothing after it. Its form is:
#ANSWER"""

BOXED = """{problem}

You may reason first. Then end with the final answer alone, in LaTeX, in this form:
\\boxed{ANSWER}"""

PROGRAM = """{problem}

You may reason first. Then end with the whole program in Python, in one block of this form:
```python
PROGRAM
```"""

ALONE = '{problem}'


def template(task: str) -> str:
  """What a problem of a task, by its name, is put into."""
  return {'math': BOXED, 'code': PROGRAM, **dict.fromkeys(TEXTS, ALONE)}.get(task, MARKED)


def prompt(task: str, problem: str) -> str:
  """The prompt for a problem's own words."""
  return template(task).replace('{problem}', problem.strip())


def tidy(task: str, response: str) -> str:
  """What the verifier is to read of a response.

  Where the answer is what follows the last '#': up to the line of that, bare of Markdown, so that
  '…**# 42**' becomes '…# 42'. Any other response as it is.
  """
  if task in ('code', *TEXTS) or (task == 'math' and boxed(response) is not None):
    return response
  before, mark, after = response.rpartition('#')
  lines = after.strip().splitlines()
  return f'{before}{mark}{lines[0].strip("*`_$ ")}' if mark and lines else response
