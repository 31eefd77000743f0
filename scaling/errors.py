"""The one exception for input that a person can mend."""


class BadInput(ValueError):
  """Bad input: its message is one line that names the file, line or key, and the fix.

  `run.py` prints it without a traceback and exits with code 2.
  """
