"""What a hosted model is told, and how its answer is read.

The verifier reads what follows the last '#' of a response, so the model is told to end with that.
"""

TEMPLATE = """{problem}

You may reason first. Then end with a line that has the sign # and the final answer alone: no words,
no units and no formatting, and nothing after it. Its form is:
#ANSWER"""


def prompt(problem: str) -> str:
  """The prompt for a problem's own words."""
  return TEMPLATE.replace('{problem}', problem.strip())


def tidy(response: str) -> str:
  """The response up to the line of its last '#', bare of Markdown: '…**# 42**' becomes '…# 42'.

  What the model wrote is kept as it is; this is what the verifier reads.
  """
  before, mark, after = response.rpartition('#')
  lines = after.strip().splitlines()
  return f'{before}{mark}{lines[0].strip("*`_$ ")}' if mark and lines else response
