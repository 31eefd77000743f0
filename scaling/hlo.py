"""Reads the optimised HLO that XLA prints: what one device sends, reads and writes in a program.

XLA's own cost analysis counts the body of a loop once; here a body counts as often as the loop
runs: its known trip count, or else the greatest whole constant in its condition, which bounds it
(a scan compares its counter with the length; the sampler's loop, with the most tokens drawn).
A leaf: it imports nothing of the project.
"""

import math
import re
from typing import NamedTuple

KINDS = ('all-gather', 'reduce-scatter', 'all-reduce', 'all-to-all', 'collective-permute')

BITS = {'pred': 8, 'token': 0, 'opaque': 0}  # of the types whose name does not end in their bits


class Buffer(NamedTuple):
  """An array: its bytes (without padding of tiles), and whether it lies in the main memory."""

  bytes: float
  main: bool


class Instruction(NamedTuple):
  name: str
  opcode: str
  buffers: list[Buffer]  # of the result; several for a tuple
  operands: list[str]
  text: str  # the whole line
  root: bool


class Computation(NamedTuple):
  name: str
  instructions: dict[str, Instruction]

  @property
  def root(self) -> Instruction:
    return next(i for i in self.instructions.values() if i.root)


class Collective(NamedTuple):
  """All collectives of a kind: how often a device takes part, and the bytes that it sends."""

  count: float
  sent: float


class Profile(NamedTuple):
  """What one device does in one run of a program."""

  collectives: dict[str, Collective]  # by kind, those that occur
  traffic: float  # bytes read from and written to the main memory


def _bits(dtype: str) -> int:
  found = re.match(r'[a-z]+(\d+)', dtype)
  return BITS[dtype] if dtype in BITS else int(found.group(1)) if found else 0


def _buffers(shape: str) -> list[Buffer]:
  """Of 'f32[8,128]{1,0:T(8,128)S(1)}', or of a tuple of such; S(1) and up is not main memory."""
  found = re.findall(r'([a-z]+\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?', shape)
  return [
    Buffer(
      math.prod(int(d.lstrip('<=')) for d in dims.split(',') if d) * _bits(dtype) / 8,
      not re.search(r'S\([1-9]', layout),
    )
    for dtype, dims, layout in found
  ]


def _closing(text: str, start: int) -> int:
  """Where the parenthesis that opens at `start` closes."""
  depth = 0
  for at in range(start, len(text)):
    depth += {'(': 1, ')': -1}.get(text[at], 0)
    if depth == 0:
      return at
  raise ValueError(f'unbalanced parentheses: {text[:80]}')


def _instruction(line: str) -> Instruction:
  """Of '[ROOT] %name = shape opcode(operands), attributes'."""
  name, _, rest = line.strip().partition(' = ')
  end = _closing(rest, 0) + 1 if rest.startswith('(') else rest.index(' ')
  opened = rest.index('(', end)
  operands = re.findall(r'%([\w.-]+)', rest[opened : _closing(rest, opened)])
  return Instruction(
    name=name.removeprefix('ROOT ').lstrip('%'),
    opcode=rest[end:opened].strip(),
    buffers=_buffers(rest[:end]),
    operands=operands,
    text=rest,
    root=name.startswith('ROOT '),
  )


def parse(text: str) -> tuple[str, dict[str, Computation]]:
  """(name of the entry, computations by name) of a module's text."""
  entry, computations, current = '', {}, {}
  for line in re.sub(r'/\*.*?\*/', '', text).splitlines():
    header = re.match(r'(ENTRY )?%?([\w.-]+) \(.*\{$', line)
    if header:
      current = {}
      computations[header.group(2)] = Computation(header.group(2), current)
      entry = header.group(2) if header.group(1) else entry
    elif line.startswith('  ') and ' = ' in line:
      instruction = _instruction(line)
      current[instruction.name] = instruction
  return entry, computations


def _called(instruction: Instruction, key: str) -> list[str]:
  """Names of the computations of an attribute: key=%name, or key={%name, %name}."""
  found = re.search(rf'\b{key}=(\{{[^}}]*\}}|%?[\w.-]+)', instruction.text)
  return re.findall(r'[\w.-]+', found.group(1)) if found else []


def _through(computation: Computation, instruction: Instruction) -> Instruction:
  """What an instruction names, behind bitcasts and copies."""
  while instruction.opcode in ('bitcast', 'copy'):
    instruction = computation.instructions[instruction.operands[0]]
  return instruction


def _constant(instruction: Instruction) -> int | None:
  """The value of a whole constant."""
  found = re.match(r'[su]\d+\[\]\S* constant\((\d+)\)', instruction.text)
  return int(found.group(1)) if found else None


def _step(condition: Computation, body: Computation) -> int:
  """What is added to a loop's counter each time: 1, or 2 where XLA has unrolled it by two."""
  test = condition.root
  counter = condition.instructions[test.operands[0]] if test.opcode == 'compare' else test
  index = re.search(r'index=(\d+)', counter.text)
  if counter.opcode == 'get-tuple-element' and index and body.root.opcode == 'tuple':
    name = body.root.operands[int(index.group(1))]
    moved = _through(body, body.instructions[name])
    if moved.opcode == 'add':
      values = [_constant(body.instructions[name]) for name in moved.operands]
      return max([v for v in values if v] or [1])
  return 1


def trips(loop: Instruction, computations: dict[str, Computation]) -> int:
  """How often a while loop runs, or at most runs."""
  known = re.search(r'known_trip_count[^\d]*(\d+)', loop.text)
  if known:
    return int(known.group(1))
  condition, body = (computations[_called(loop, key)[0]] for key in ('condition', 'body'))
  limits, todo = [1], [condition]
  while todo:
    for instruction in todo.pop().instructions.values():
      todo += [computations[name] for name in _called(instruction, 'calls')]
      limits.append(_constant(instruction) or 1)
  return -(-max(limits) // _step(condition, body))


def _run(entry: str, computations: dict) -> list[tuple[Computation, float]]:
  """The computations that run as such (not those of fusions and reductions), and how often."""
  runs = []

  def visit(name: str, times: float) -> None:
    runs.append((computations[name], times))
    for instruction in computations[name].instructions.values():
      if instruction.opcode == 'while':
        again = times * trips(instruction, computations)
        for key in ('condition', 'body'):
          visit(_called(instruction, key)[0], again)
      elif instruction.opcode == 'conditional':
        keys = ('branch_computations', 'true_computation', 'false_computation')
        for branch in (name for key in keys for name in _called(instruction, key)):
          visit(branch, times)
      elif instruction.opcode in ('call', 'async-start', 'custom-call'):
        for key in ('to_apply', 'calls', 'called_computations'):
          for name in _called(instruction, key):
            visit(name, times)

  visit(entry, 1.0)
  return runs


def _group(text: str, devices: int) -> int:
  """Devices that take part in one collective, by its replica_groups, in any of their forms."""
  found = re.search(r'replica_groups=mesh\[(.*?)\] \{(.*?)\}', text)
  if found:  # mesh['a'=4,'b'=2] {'a'}, and 'a':(1)2 for a part of an axis
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", found.group(1)))
    axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found.group(2))
    return math.prod(int(part or sizes[axis]) for axis, part in axes)
  found = re.search(r'replica_groups=\[\d+,(\d+)\]', text)  # [groups,size]<=[…]
  if found:
    return int(found.group(1))
  found = re.search(r'replica_groups=\{\{([\d,]+)\}', text)
  return len(found.group(1).split(',')) if found else devices


def _sent(kind: str, operand: float, n: int) -> float:
  """Bytes that each of n devices sends, of an operand of so many bytes, by the best ring."""
  return {
    'all-gather': operand * (n - 1),
    'reduce-scatter': operand * (n - 1) / n,
    'all-reduce': 2 * operand * (n - 1) / n,
    'all-to-all': operand * (n - 1) / n,
    'collective-permute': operand,
  }[kind]


def _kind(instruction: Instruction) -> str | None:
  """The kind of a collective, or None: an asynchronous one counts where it starts."""
  kind = instruction.opcode.removesuffix('-start')
  return kind if kind in KINDS else None


def _collectives(computation: Computation, computations: dict, devices: int):
  """(kind, bytes sent, bytes of main memory read and written) of each collective in one run.

  On TPU a collective may be a fusion: an all-reduce of which each device keeps its slice, in a
  computation 'all-reduce-scatter', is a reduce-scatter; and an asynchronous one is several fusions
  (start, done, and what is computed meanwhile), each holding the collective, with one channel.
  """
  seen = set()
  for outer in computation.instructions.values():
    where, inside = computation, [outer]
    if outer.opcode == 'fusion':
      where = computations[_called(outer, 'calls')[0]]
      inside = where.instructions.values()
    for instruction in inside:
      kind = _kind(instruction)
      channel = re.search(r'channel_id=(\d+)', instruction.text)
      if kind is None or (outer.opcode == 'fusion' and channel and channel.group(1) in seen):
        continue
      seen.add(channel and channel.group(1))
      if where.name.startswith('all-reduce-scatter'):
        kind = 'reduce-scatter'
      operands = [b for o in instruction.operands for b in where.instructions[o].buffers]
      results = instruction.buffers
      if instruction.opcode.endswith('-start') and len(results) > 1:  # (operands, results, …)
        results = results[len(operands) : 2 * len(operands)]
      sent = _sent(kind, sum(b.bytes for b in operands), _group(instruction.text, devices))
      yield kind, sent, _main(operands) + _main(results)


FREE = {  # move nothing: they name, or they wait for what another instruction moves
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while', 'conditional'),
  *(
    'call',
    'after-all',
    'partition-id',
    'replica-id',
    'opt-barrier',
    'async-start',
    'async-update',
  ),
}


def _main(buffers: list[Buffer]) -> float:
  return sum(b.bytes for b in buffers if b.main)


def _read(fused: Computation, parameter: str, whole: float, computations: dict) -> float:
  """Bytes that a fusion reads of an operand: of slices and updates in place, but those."""
  names, parts = {parameter}, 0.0
  for user in fused.instructions.values():  # what is used comes before its users
    at = [n for n, operand in enumerate(user.operands) if operand in names]
    if not at or user.opcode == 'tuple' or _kind(user):
      continue
    if user.opcode == 'bitcast':
      names.add(user.name)
    elif user.opcode in ('dynamic-slice', 'slice', 'gather') and at == [0]:
      parts += sum(b.bytes for b in user.buffers)
    elif user.opcode == 'fusion':
      inner = computations[_called(user, 'calls')[0]]
      parts += sum(_read(inner, _parameters(inner)[n], whole, computations) for n in at)
    elif user.opcode != 'dynamic-update-slice' or at != [0]:
      return whole
  return min(parts, whole)


def _parameters(fused: Computation) -> dict[int, str]:
  """Names of a computation's parameters by number."""
  numbers = {
    name: re.search(r' parameter\((\d+)\)', i.text) for name, i in fused.instructions.items()
  }
  return {int(number.group(1)): name for name, number in numbers.items() if number}


def _written(computation: Computation, result: Instruction, whole: float, computations) -> float:
  """Bytes written of a result: of an update in place, the update alone."""
  result = _through(computation, result)
  if result.opcode == 'fusion' and len(result.buffers) == 1:
    inner = computations[_called(result, 'calls')[0]]
    return _written(inner, inner.root, whole, computations)
  if result.opcode == 'dynamic-update-slice':
    return min(whole, sum(b.bytes for b in computation.instructions[result.operands[1]].buffers))
  handed_on = result.opcode == 'parameter' or 'AsyncCollective' in result.text
  return 0.0 if handed_on or _kind(result) else whole


def _traffic(instruction: Instruction, computation: Computation, computations: dict) -> float:
  """Bytes of main memory that an instruction reads and writes, collectives left out."""
  opcode, buffers = instruction.opcode, instruction.buffers
  operands = [computation.instructions[name].buffers for name in instruction.operands]
  if opcode in FREE or opcode.endswith('-done') or _kind(instruction):
    return 0.0
  if opcode == 'custom-call' and _called(instruction, 'called_computations'):
    return 0.0  # what it calls is counted by itself
  if opcode == 'fusion':
    fused = computations[_called(instruction, 'calls')[0]]
    parameters = _parameters(fused)
    read = sum(
      _read(fused, parameters[n], _main(operand), computations)
      for n, operand in enumerate(operands)
    )
    results = [fused.root]
    if fused.root.opcode == 'tuple':
      results = [fused.instructions[name] for name in fused.root.operands]
    if len(results) != len(buffers):
      results = [fused.root] * len(buffers)
    return read + sum(
      _written(fused, result, _main([b]), computations) for result, b in zip(results, buffers)
    )
  if opcode in ('dynamic-slice', 'slice', 'gather'):
    return min(_main(operands[0]), sum(b.bytes for b in buffers)) + _main(buffers)
  if opcode == 'dynamic-update-slice':
    return _main(operands[1]) + min(sum(b.bytes for b in operands[1]), _main(buffers))
  if opcode == 'copy-start':  # (destination, source, context)
    return _main(operands[0]) + _main(buffers[:1])
  if opcode == 'slice-start':  # ((source), destination, context)
    return buffers[1].bytes * (operands[0][0].main + buffers[1].main)
  return sum(map(_main, operands)) + _main(buffers)


def profile(text: str) -> Profile:
  """The Profile of a module's text, `compiled.as_text()`."""
  entry, computations = parse(text)
  devices = re.search(r'num_partitions=(\d+)', text)
  devices = int(devices.group(1)) if devices else 1
  collectives, traffic = {}, 0.0
  for computation, times in _run(entry, computations):
    for kind, sent, moved in _collectives(computation, computations, devices):
      before = collectives.get(kind, Collective(0.0, 0.0))
      collectives[kind] = Collective(before.count + times, before.sent + times * sent)
      traffic += times * moved
    for instruction in computation.instructions.values():
      traffic += times * _traffic(instruction, computation, computations)
  return Profile(collectives, traffic)
