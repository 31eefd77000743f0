"""The exceptions for input that a person can mend."""


class BadInput(ValueError):
  """Bad input: its message is one line that names the file, line or key, and the fix.

  `run.py` prints it without a traceback and exits with code 2.
  """


class Refused(BadInput):
  """What stages refused of what others had left them, a line each; all that does not depend on them
  has run."""


def require(ok: bool, message: str) -> None:
  """BadInput with this message where it is not so."""
  if not ok:
    raise BadInput(message)
