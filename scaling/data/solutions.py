"""Short prompts and worked solutions of reasoning-gym's tasks, written from an entry's metadata.

A worked solution is a list of steps, each of them true by itself; the answer comes after them.
None in place of the steps marks a problem that its own generator got wrong: an equation that every
x solves, a quotient that was rounded. Nothing here reads a model's response.
"""

import ast
from collections.abc import Callable, Sequence


def short_prompt(task: str, entry: dict) -> str | None:
  """The bare problem, no filler: '12+34-56=', '12,18 gcd='; None where a task has no such form."""
  return SHORT[task](entry['metadata']) if task in SHORT else None


def worked_steps(task: str, entry: dict, style: str) -> list[str] | None:
  """The steps up to the answer, [] where nothing needs to be shown."""
  metadata = entry['metadata']
  if task == 'simple_equations' and style == 'short':
    metadata = _in_x(metadata)
  return STEPS[task](metadata) if task in STEPS else []


# -- sums, products, expressions


def _tight(expression: str) -> str:
  return expression.replace(' ', '')


def _chain_sum(metadata: dict) -> list[str]:
  """a + b + c + d -> ['(a+b)+c=v', 'v+d=w']: each step takes one term more."""
  terms = metadata['expression'].split(' ')
  total, steps = int(terms[0]), []
  for i in range(1, len(terms), 2):
    operator, term = terms[i], int(terms[i + 1])
    before, total = total, total + term if operator == '+' else total - term
    if i > 1:
      steps.append(f'{before}{operator}{term}={total}')
  return steps


def _products(metadata: dict) -> list[str]:
  """a * bc -> ['a*c=u', 'a*b0=v', 'u+v=w']: long multiplication, a factor at a time."""
  factors = [int(factor) for factor in metadata['expression'].split(' * ')]
  total, steps = factors[0], []
  for factor in factors[1:]:
    sign = -1 if factor < 0 else 1
    digits = str(abs(factor))[::-1]
    parts = [sign * int(digit) * 10**place for place, digit in enumerate(digits) if digit != '0']
    if len(parts) < 2:
      if len(factors) > 2:
        steps.append(f'{total}*{factor}={total * factor}')
      total *= factor
      continue
    steps += [f'{total}*{part}={total * part}' for part in parts]
    running = total * parts[0]
    for part in parts[1:]:
      steps.append(f'{running}+{total * part}={running + total * part}')
      running += total * part
    total = running
  return steps


def _basic_arithmetic(metadata: dict) -> list[str] | None:
  """The whole expression again after each operation, the leftmost innermost first.

  The expression is reasoning-gym's own; it is parsed, and reduced here. None where a division
  leaves a remainder (the generator rounds it down without saying so) or divides by zero.
  """
  try:
    return reduced(metadata['expression'].strip())[0]
  except ArithmeticError:
    return None


def reduced(expression: str) -> tuple[list[str], int]:
  """(the expression after each operation but the last, its value). Raises ArithmeticError for a
  quotient that is not a whole number."""
  tree, steps = _negations(ast.parse(expression, mode='eval').body), []
  while isinstance(tree, ast.BinOp):
    tree = _reduce(tree)
    steps.append(_render(tree))
  return steps[:-1], int(_render(tree))


_PRECEDENCE = {ast.Add: 1, ast.Sub: 1, ast.Mult: 2, ast.Div: 2}
_SYMBOL = {ast.Add: '+', ast.Sub: '-', ast.Mult: '*', ast.Div: '/'}


def _negations(node: ast.expr) -> ast.expr:
  """-3 becomes a constant, and -(...) a product with -1."""
  if isinstance(node, ast.BinOp):
    return ast.BinOp(_negations(node.left), node.op, _negations(node.right))
  if isinstance(node, ast.UnaryOp):
    inner = _negations(node.operand)
    if isinstance(inner, ast.Constant):
      return ast.Constant(-inner.value)
    return ast.BinOp(ast.Constant(-1), ast.Mult(), inner)
  return node


def _reduce(node: ast.BinOp) -> ast.expr:
  """One operation less. Raises ArithmeticError for a quotient that is not a whole number."""
  if isinstance(node.left, ast.BinOp):
    return ast.BinOp(_reduce(node.left), node.op, node.right)
  if isinstance(node.right, ast.BinOp):
    return ast.BinOp(node.left, node.op, _reduce(node.right))
  a, b = node.left.value, node.right.value
  if isinstance(node.op, ast.Div):
    quotient, remainder = divmod(a, b)
    if remainder:
      raise ArithmeticError
    return ast.Constant(quotient)
  value = {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b}[type(node.op)]
  return ast.Constant(value)


def _render(node: ast.expr) -> str:
  if isinstance(node, ast.Constant):
    return str(node.value)
  own = _PRECEDENCE[type(node.op)]
  inner = lambda child, looser: (
    f'({_render(child)})'
    if isinstance(child, ast.BinOp) and _PRECEDENCE[type(child.op)] < own + looser
    else _render(child)
  )
  return f'{inner(node.left, 0)}{_SYMBOL[type(node.op)]}{inner(node.right, 1)}'


# -- divisors and multiples


def _euclid(a: int, b: int) -> tuple[int, list[str]]:
  """(gcd, steps): 18, 12 -> ['18-1*12=6', '12-2*6=0']."""
  steps = []
  while b:
    quotient, remainder = divmod(a, b)
    steps.append(f'{a}-{quotient}*{b}={remainder}')
    a, b = b, remainder
  return a, steps


def _gcd(metadata: dict) -> list[str]:
  """Euclid's algorithm, the gcd so far with the next number."""
  common, *others = metadata['numbers']
  steps = []
  for number in others:
    common, more = _euclid(max(common, number), min(common, number))
    steps += more
  return steps


def _lcm(metadata: dict) -> list[str]:
  """lcm(a, b) = a / gcd(a, b) * b, the multiple so far with the next number."""
  multiple, *others = metadata['numbers']
  steps = []
  for number in others:
    common, more = _euclid(max(multiple, number), min(multiple, number))
    product = multiple // common * number
    steps += [*more, f'{multiple}/{common}*{number}={product}']
    multiple = product
  return steps


# -- equations in one unknown


def _linear(equation: str, variable: str) -> tuple[int, int, int]:
  """(a, b, c) of a*x + b = c, whatever the order of the terms on the left."""
  left, right = equation.split('=')
  slope = constant = 0
  for term in left.replace('- ', '-').replace('+ ', '+').split():
    if term.endswith(variable):
      factor = term[: -len(variable)].rstrip('*')
      slope += int(factor + '1') if factor in ('', '+', '-') else int(factor)
    else:
      constant += int(term)
  return slope, constant, int(right)


def _in_x(metadata: dict) -> dict:
  """The same equation with x for its unknown."""
  return {'equation': metadata['equation'].replace(metadata['variable'], 'x'), 'variable': 'x'}


def _simple_equations(metadata: dict) -> list[str] | None:
  """3*x + 5 = 20 -> ['3*x=20-5=15', 'x=15/3=5']; None where every x, or none, solves it."""
  slope, constant, right = _linear(metadata['equation'], metadata['variable'])
  if not slope:
    return None
  x, moved, steps = metadata['variable'], right - constant, []
  if constant:
    term = {1: x, -1: f'-{x}'}.get(slope, f'{slope}*{x}')
    steps.append(f'{term}={right}{-constant:+d}={moved}')
  if slope != 1:
    steps.append(f'{x}={moved}/{slope}={moved // slope}')
  return steps


# -- letters and lists


def _letter_counting(metadata: dict) -> list[str]:
  """The words that have the letter, each with the count so far: ['These 2', 'eyes 4']."""
  count, steps = 0, []
  for word in metadata['span']:
    here = word.lower().count(metadata['target_letter'])
    count += here
    if here:
      steps.append(f'{word} {count}')
  return steps


def plain(values: Sequence[str]) -> str:
  return ','.join(str(value) for value in values)


def _number_sorting(metadata: dict) -> list[str]:
  """Insertion sort: the sorted list of the first 2, 3, ... numbers, short of the whole."""
  numbers, steps = metadata['original_numbers'], []
  for i in range(2, len(numbers)):
    head = sorted(numbers[:i], key=float, reverse=metadata['direction'] == 'descending')
    steps.append(plain(head))
  return steps


SHORT: dict[str, Callable[[dict], str]] = {
  'chain_sum': lambda m: _tight(m['expression']) + '=',
  'basic_arithmetic': lambda m: _tight(m['expression']) + '=',
  'products': lambda m: _tight(m['expression']) + '=',
  'gcd': lambda m: plain(m['numbers']) + ' gcd=',
  'lcm': lambda m: plain(m['numbers']) + ' lcm=',
  'simple_equations': lambda m: _tight(_in_x(m)['equation']) + ' x=',
  'letter_counting': lambda m: f'{" ".join(m["span"])} {m["target_letter"]}=',
  'number_sorting': lambda m: f'{plain(m["original_numbers"])} {m["direction"][: -len("ending")]}=',
}

STEPS: dict[str, Callable[[dict], list[str] | None]] = {
  'chain_sum': _chain_sum,
  'basic_arithmetic': _basic_arithmetic,
  'products': _products,
  'gcd': _gcd,
  'lcm': _lcm,
  'simple_equations': _simple_equations,
  'letter_counting': _letter_counting,
  'number_sorting': _number_sorting,
}
