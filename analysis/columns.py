"""A table's columns as checked arrays: read from a file, derived by expressions, rows left out."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import expressions
from analysis.errors import BadInput
from analysis.laws import Law


class Data(NamedTuple):
  """What a fit reads of a table. Arrays are float64 of the rows that are left."""

  arrays: dict  # law's input or output, 'se', 'trials' -> [n]
  clusters: np.ndarray | None  # [n]: which cluster a row is of
  held: np.ndarray  # bool [n]: not fitted, scored
  dropped: tuple  # (row, why)
  sha256: str  # of the arrays


def read_table(path: str) -> pd.DataFrame:
  """A .csv, .parquet or .jsonl file. BadInput, one line, where it cannot be read."""
  readers = {
    '.csv': pd.read_csv,
    '.parquet': pd.read_parquet,
    '.jsonl': lambda file: pd.read_json(file, lines=True),
  }
  kind = Path(path).suffix
  if kind not in readers:
    raise BadInput(f'{path}: a table is .csv, .parquet or .jsonl')
  try:
    frame = readers[kind](path)
  except FileNotFoundError as error:
    raise BadInput(f'{path}: there is no such file') from error
  except (ValueError, OSError) as error:
    raise BadInput(f'{path} is not a readable {kind}: {str(error).splitlines()[0]}') from error
  if frame.empty:
    raise BadInput(f'{path} has no rows')
  return frame


def read(
  law: Law,
  frame: pd.DataFrame,
  columns: dict,
  *,
  log: bool,
  se: str | None,
  trials: str | None,
  clusters: str | None,
  drop,
  holdout,
  missing: str,
) -> Data:
  """The arrays that a law is fitted to. BadInput as `fit.fit` says."""
  names = [*law.inputs, law.output]
  if not set(names) <= set(columns):
    raise BadInput(f'columns: {law.name} needs {", ".join(names)}; given {", ".join(columns)}')
  if missing not in ('error', 'drop'):
    raise BadInput(f"missing {missing!r}: either 'error' or 'drop'")
  frame = pd.DataFrame(frame).reset_index(drop=True)
  wanted = {name: columns[name] for name in names}
  wanted |= {key: text for key, text in (('se', se), ('trials', trials)) if text}
  series = {key: resolve(text, frame, columns) for key, text in wanted.items()}
  held = _mask('holdout', holdout, frame, columns)
  if isinstance(holdout, str) and not held.any():
    raise BadInput(f'holdout {holdout!r} holds for no row, so nothing would be tested: change it')
  groups = resolve(clusters, frame, columns) if clusters else None
  out = np.zeros(len(frame), bool)
  dropped = []

  def leave(rows, why):
    dropped.extend((int(row), why) for row in np.flatnonzero(rows & ~out))
    out[rows] = True

  for rule in [drop] if isinstance(drop, str) else drop or ():
    leave(_rule(rule, frame, columns), rule)
  if missing == 'drop':
    for key, text in wanted.items():
      leave(pd.isna(series[key]).to_numpy(), f'{text} is missing')
    if groups is not None:
      leave(pd.isna(groups).to_numpy(), f'{clusters} is missing')
  keep = ~out
  if groups is not None and (unnamed := keep & pd.isna(groups).to_numpy()).any():
    raise BadInput(
      f"clusters: column {clusters!r} is empty in row {int(np.argmax(unnamed))}; name every row's, "
      "or take missing='drop'"
    )
  positive = {
    name: name == 'se' or (name in law.inputs and name not in law.from_zero) for name in wanted
  }
  positive[law.output] = log
  arrays = {
    key: _numbers(
      series[key][keep], text, positive[key], key in law.from_zero and key not in law.signed
    )
    for key, text in wanted.items()
  }
  if groups is not None:
    groups = groups[keep].to_numpy()
  digest = hashlib.sha256()
  for key in sorted(arrays):
    digest.update(key.encode() + b'\0' + np.ascontiguousarray(arrays[key]).tobytes())
  return Data(arrays, groups, held[keep], tuple(dropped), digest.hexdigest())


def resolve(text: str, frame: pd.DataFrame, columns: dict, within: tuple = ()) -> pd.Series:
  """A column by name, or the value of an expression of columns and of other keys of `columns`."""
  if text in frame:
    return frame[text]

  def column(name):
    if name in frame:
      return frame[name]
    if name in within:
      raise BadInput(f'columns: {" -> ".join([*within, name])}: defined by itself')
    if columns.get(name, name) != name:
      return resolve(columns[name], frame, columns, (*within, name))
    raise BadInput(f'column {name!r} is not there; there are {", ".join(map(str, frame))}')

  if str(text).isidentifier():
    return column(text)
  if not expressions.names(text):
    raise BadInput(f'column {text!r} is not there; there are {", ".join(map(str, frame))}')
  value = expressions.evaluate(text, column)
  return pd.Series(np.broadcast_to(value, len(frame)), index=frame.index)


def numbers(frame: pd.DataFrame, text: str, columns: dict, positive: bool) -> np.ndarray:
  """A column or expression as finite float64. BadInput names the first row that is not."""
  return _numbers(resolve(text, frame, columns), text, positive, False)


def _rule(rule, frame, columns) -> np.ndarray:
  """The rows that 'top:5:loss', 'bottom:5:loss', or an expression, picks."""
  if isinstance(rule, str) and rule.split(':')[0] in ('top', 'bottom'):
    end, count, *text = rule.split(':', 2)
    if not (count.isdigit() and text and 0 < int(count) < len(frame)):
      raise BadInput(
        f'drop {rule!r}: write {end}:COUNT:COLUMN, with a count of 1 to {len(frame) - 1}'
      )
    value = pd.to_numeric(resolve(text[0], frame, columns), errors='coerce')
    value = value.to_numpy(np.float64, na_value=np.nan)
    order = np.argsort(-value if end == 'top' else value, kind='stable')  # missing ones are last
    return np.isin(np.arange(len(frame)), order[: int(count)])
  return _mask('drop', rule, frame, columns)


def _mask(what, rule, frame, columns) -> np.ndarray:
  """Boolean for each row, from booleans or from an expression."""
  if rule is None:
    return np.zeros(len(frame), bool)
  mask = resolve(rule, frame, columns).to_numpy() if isinstance(rule, str) else np.asarray(rule)
  if mask.shape != (len(frame),) or mask.dtype != bool:
    if isinstance(rule, str):
      raise BadInput(f'{what} {rule!r}: write a comparison, as "params > 1e9"')
    raise BadInput(f'{what}: give {len(frame)} booleans, one a row; shape is {mask.shape}')
  return mask


def _numbers(series, text, positive, from_zero) -> np.ndarray:
  values = pd.to_numeric(series, errors='coerce').to_numpy(np.float64, na_value=np.nan)
  bad = ~np.isfinite(values)
  if positive:
    bad |= values <= 0
  if from_zero:
    bad |= values < 0
  if bad.any():
    i = int(np.argmax(bad))
    cell, row = series.iloc[i], series.index[i]
    why = 'must be 0 or more' if from_zero else 'must be positive for a log'
    why = why if np.isfinite(values[i]) else 'is not a finite number'
    shown = repr(cell) if isinstance(cell, str) else str(cell)
    raise BadInput(f'column {text!r}, row {row}: {shown} {why}')
  return values
