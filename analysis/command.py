"""What the command lines `python -m analysis.NAME` have in common."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from analysis.errors import BadInput


def parser(name: str, doc: str) -> argparse.ArgumentParser:
  """The parser of `python -m analysis.NAME`, whose --help begins with the module's docstring."""
  return argparse.ArgumentParser(
    prog=f'python -m analysis.{name}',
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )


def run(its: argparse.ArgumentParser, argv: list[str] | None, do: Callable) -> int:
  """do(arguments) of a command line; 0, or 2, with one line on stderr, for bad input."""
  try:
    do(its.parse_args(argv))
  except (BadInput, OSError) as error:
    print(f'{its.prog.removeprefix("python -m ")}: {error}', file=sys.stderr)
    return 2
  return 0


def save(figure: Figure, option: str, path, dpi: int = 150) -> None:
  """Writes a figure and makes its folder. BadInput, naming the option, for no kind of picture."""
  Path(path).parent.mkdir(parents=True, exist_ok=True)
  try:
    figure.savefig(path, dpi=dpi)
  except ValueError as error:
    raise BadInput(f'{option}={path}: {str(error).splitlines()[0]}') from error


def of_study(its: argparse.ArgumentParser, read, words, writes: dict, argv=None) -> int:
  """The exit code of a command that reads a study, prints its words and writes what is asked for.

  read(workdir, study or None) gives what there is to tell, words of it its lines, and
  writes[OPTION](of it, path) writes the file of --OPTION, which the parser has.
  """
  its.add_argument('workdir', type=Path, help='where the study ran: its --workdir')

  def do(given):
    found = read(given.workdir, given.study)
    print('\n'.join(words(found)))
    for option, write in writes.items():
      path = getattr(given, option)
      if path is not None:
        write(found, path)
        print(f'wrote {path}')

  return run(its, argv, do)
