"""The one exception for input that a person can mend."""


class BadInput(ValueError):
  """Bad input: its message is one line that names the file, line or key, and the fix; of a study
  that several stages refused, a line each.

  `run.py` prints it without a traceback and exits with code 2.
  """


def require(ok: bool, message: str) -> None:
  """BadInput with this message where it is not so."""
  if not ok:
    raise BadInput(message)
