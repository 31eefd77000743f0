"""The tree that beam search, DVTS and REBASE grow: step by step, where the scorer says.

A tree has a number of places. The root's first steps take all of them. A response that has ended
keeps its place for good, whatever its score; the places that are left are shared out among the
steps that have not, by the strategy's rule, and each of those is continued so many times. It ends
with as many responses as there were places, fewer where none is left to continue.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from analysis.strategies import AGGREGATES
from scaling.data.batches import Problem
from scaling.errors import BadInput
from scaling.search import cost as costs
from scaling.search import outcome
from scaling.search.outcome import Outcome, Tools


class Node(NamedTuple):
  """A response so far."""

  tokens: list[int]
  ends: list[int]  # of its steps: indices into prompt and response
  score: float
  ended: bool  # by the stop token, or cut
  stopped: bool  # by the stop token


class Tree(NamedTuple):
  """A tree between two rounds."""

  problem: int  # its index
  places: int  # less those of the responses that have ended
  growing: list[tuple[Node, int]]  # what is continued next, and how often
  ended: list[Node]


# (scores of the steps that have not ended, places) -> how often each is continued
Allot = Callable[[list[float], int], list[int]]


def search(
  name: str,
  problems: Sequence[Problem],
  tools: Tools,
  trees: Sequence[int],
  allot: Allot,
  aggregate: str,
  choose: str,
) -> list[Outcome]:
  """Grows trees of these many places for each problem and chooses among all of its responses."""
  outcome.check_scorer(name, tools)
  outcome.check_choice(name, choose)
  if aggregate not in AGGREGATES:
    raise BadInput(f'{name}: aggregate is {aggregate!r}: it must be one of {", ".join(AGGREGATES)}')
  prompts = [tools.vocab.prompt(problem.prompt) for problem in problems]
  outcome.check_room(name, tools, max(map(len, prompts)))
  spent = [
    costs.add(
      costs.prefill(tools.cfg, len(prompt)),
      costs.Cost(scorer_flops=tools.scorer.flops(len(prompt), 0, 0)),
    )
    for prompt in prompts
  ]
  root = Node([], [], 0.0, False, False)
  growing = [
    Tree(p, places, [(root, places)], []) for p in range(len(problems)) for places in trees
  ]
  done: list[Tree] = []
  while growing:
    grown = _round(tools, prompts, growing, AGGREGATES[aggregate], spent)
    growing = []
    for tree, children in grown:
      ended = [node for node in children if node.ended]
      alive = [node for node in children if not node.ended]
      tree = tree._replace(places=tree.places - len(ended), ended=tree.ended + ended)
      if alive and tree.places > 0:
        counts = allot([node.score for node in alive], tree.places)
        shared = [(node, n) for node, n in zip(alive, counts, strict=True) if n]
        growing.append(tree._replace(growing=shared))
      else:
        done.append(tree)
  leaves = [[] for _ in problems]
  for tree in done:
    leaves[tree.problem] += tree.ended
  found = []
  responses = outcome.responses(tools, problems, leaves)
  for problem, cost, nodes, ones in zip(problems, spent, leaves, responses, strict=True):
    value = outcome.chosen(ones, [node.score for node in nodes], choose)
    found.append(Outcome(problem.id, value, costs.add(cost, costs.Cost(samples=len(nodes)))))
  return found


def _round(tools: Tools, prompts, trees: list[Tree], aggregate, spent: list):
  """[(tree, its new nodes)]: one step more everywhere, drawn at one go and scored at one go."""
  jobs = [(tree, node, n) for tree in trees for node, n in tree.growing]
  prefixes = [prompts[tree.problem] + node.tokens for tree, node, _ in jobs]
  drawn = tools.generator.draw(
    prefixes,
    n=[n for _, _, n in jobs],
    limit=[tools.response_tokens - len(node.tokens) for _, node, _ in jobs],
    ends=outcome.ends_of_steps(tools.style),
    salt=f'{tools.run}',
  )
  new = []  # (index of the job, prompt and response, ends, ended, stopped)
  for j, (prefix, steps) in enumerate(zip(prefixes, drawn, strict=True)):
    tree, node, _ = jobs[j]
    p = tree.problem
    lengths = [len(step.tokens) for step in steps]
    spent[p] = costs.add(
      spent[p], costs.decode(tools.cfg, len(prefix), lengths, resumed=bool(node.tokens))
    )
    for step in steps:
      whole = prefix + step.tokens
      stopped = step.stopped and step.tokens[-1] == tools.vocab.stop
      ends = [*node.ends, len(whole) - 1]
      full = len(whole) - len(prompts[p]) >= tools.response_tokens
      new.append((j, whole, ends, stopped or not step.stopped or full, stopped))
      flops = tools.scorer.flops(len(whole), len(prefix), 1)
      spent[p] = costs.add(spent[p], costs.Cost(scorer_flops=flops))
  scores = tools.scorer.score([whole for _, whole, *_ in new], [ends for _, _, ends, *_ in new])
  children = [[] for _ in jobs]
  for (j, whole, ends, ended, stopped), steps in zip(new, scores, strict=True):
    tokens = whole[len(prompts[jobs[j][0].problem]) :]
    children[j].append(Node(tokens, ends, float(aggregate(steps)), ended, stopped))
  of_tree = {id(tree): [] for tree in trees}
  for (tree, _, _), nodes in zip(jobs, children, strict=True):
    of_tree[id(tree)] += nodes
  return [(tree, of_tree[id(tree)]) for tree in trees]
