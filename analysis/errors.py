"""The one exception for input that a person can mend."""


class BadInput(ValueError):
  """Bad input: its message is one line that names the file, column or row, and the fix."""
