"""Continuations from a real model: reproducible, however they are asked for."""

import jax
import numpy as np
import pytest

from scaling import compute, sharding
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.search import budget_forcing, generate, outcome
from scaling.truncation import Truncation
from tests.search.toys import CFG, VOCAB, problems

TEXTS = ('12+3=', '1+2+3=', '7=', '100+200+300+400=')  # 16 columns, all
MARK = VOCAB.encode('#')[0]


@pytest.fixture(scope='module')
def make():
  params = transformer.init(CFG, jax.random.key(1))

  def make(devices=1, **more):
    mesh = sharding.make_mesh(data=devices)
    given = dict(temperature=1.0, response_tokens=12, row_tokens=40, block_rows=8) | more
    how = transformer.Mechanics(attention='plain')
    return generate.make_generator(CFG, params, VOCAB, mesh, how, jax.random.key(0), **given)

  return make


@pytest.fixture(scope='module')
def generator(make):
  return make()


@pytest.fixture(scope='module')
def prefixes():
  return [VOCAB.encode(text) for text in TEXTS]


@pytest.fixture(scope='module')
def together(generator, prefixes):
  return generator.draw(prefixes, n=4, salt='a')


def test_what_a_prefix_says_does_not_hang_on_what_else_is_asked(generator, prefixes, together):
  assert [generator.draw([prefix], n=4, salt='a')[0] for prefix in prefixes] == together
  turned = generator.draw(prefixes[::-1] + [VOCAB.encode('5+5=')], n=4, salt='a')
  assert turned[:-1][::-1] == together
  assert generator.draw(prefixes, n=4, salt='b') != together


def test_it_is_drawn_from_the_tokens_that_a_truncation_leaves(make, prefixes, together):
  likeliest = make(truncation=Truncation(top_k=1)).draw(prefixes, n=4, salt='a')
  for ones, free in zip(likeliest, together, strict=True):
    assert len({tuple(one.tokens) for one in ones}) == 1 < len({tuple(x.tokens) for x in free})


def test_nor_on_the_program_that_draws_it(generator, make, prefixes, together):
  """Other numbers of samples, and another mesh, are other programs: the same tokens."""
  tokens = lambda found: [[one.tokens for one in ones] for ones in found]
  counts = [3, 1, 2, 4]
  some = generator.draw(prefixes, n=counts, salt='a')
  assert tokens(some) == [ones[:n] for ones, n in zip(tokens(together), counts)]
  more = generator.draw(prefixes, n=6, salt='a')
  assert [ones[:4] for ones in tokens(more)] == tokens(together)
  assert tokens(make(devices=2).draw(prefixes, n=4, salt='a')) == tokens(together)


def test_a_prefix_met_twice_goes_on(generator, prefixes, together):
  first, other, second = generator.draw([prefixes[0], prefixes[1], prefixes[0]], n=2, salt='a')
  tokens = lambda ones: [one.tokens for one in ones]
  assert tokens(first + second) == tokens(together[0]) and tokens(other) == tokens(together[1][:2])


def test_limits_and_stops_are_kept(generator, prefixes):
  limits = [1, 2, 3, 12]
  found = generator.draw(prefixes, n=8, limit=limits, ends=(';', '#'))
  ends = set(VOCAB.encode(';#')) | {VOCAB.stop}
  stopped = 0
  for most, ones in zip(limits, found):
    for one in ones:
      assert 1 <= len(one.tokens) <= most
      assert not ends & set(one.tokens[:-1])
      assert one.stopped == (one.tokens[-1] in ends)
      assert one.stopped or len(one.tokens) == most
      stopped += one.stopped
  assert 0 < stopped < 32


def test_log_probs_are_those_of_a_pass_over_the_text(generator, prefixes, together):
  rows = [(prefix, one) for prefix, ones in zip(prefixes, together) for one in ones]
  weights = generator.weigh([prefix for prefix, _ in rows], [one.tokens for _, one in rows])
  assert np.allclose(weights, [sum(one.logprobs) for _, one in rows], atol=1e-4)


def test_a_response_drawn_in_pieces_is_a_response(generator, prefixes):
  """The log-probs of its pieces, each drawn after the ones before, are those of the whole."""
  pieces, log_probs = [[] for _ in prefixes], np.zeros(len(prefixes))
  for _ in range(3):
    so_far = [prefix + piece for prefix, piece in zip(prefixes, pieces, strict=True)]
    for i, ones in enumerate(generator.draw(so_far, n=4, limit=3, salt='c')):
      pieces[i] = pieces[i] + ones[1].tokens
      log_probs[i] += sum(ones[1].logprobs)
  assert np.allclose(generator.weigh(prefixes, pieces), log_probs, atol=1e-4)


@pytest.mark.parametrize('force', budget_forcing.FORCED)
def test_thinking_stays_within_its_bounds(generator, force):
  asked = []

  def draw(*args, **more):
    found = generator.draw(*args, **more)
    asked.append(found)
    return found

  of = problems(3)
  tools = outcome.Tools(CFG, VOCAB, 'short', generator._replace(draw=draw), 12, 40)
  k = 4
  found = budget_forcing.search(of, tools, k, force=force, samples=32)
  thoughts = []
  for ones, result in zip(asked[0], found, strict=True):
    for one in ones:
      # the place of the mark; a response that ends without thinks to its end
      ends = [i for i, token in enumerate(one.tokens) if token in (MARK, VOCAB.stop)]
      thoughts.append(ends[0] if ends else len(one.tokens))
      if force != 'least' and len(one.tokens) > k:
        assert MARK in one.tokens[: k + 1]
    assert result.cost.samples == 32
    assert result.cost.decode_tokens == sum(len(one.tokens) for one in ones)
    p = len(VOCAB.prompt(of[0].prompt))
    lengths = [len(one.tokens) for one in ones]
    whole = compute.generate(CFG, [p], [lengths], 1, 1, 1)['model']  # the ledger's own count
    assert result.cost.prefill_flops == whole['prefill']
    assert result.cost.decode_flops == pytest.approx(whole['decode'], rel=1e-12)
  if force == 'exact':
    assert set(thoughts) == {k}
  elif force == 'most':
    assert max(thoughts) == k and min(thoughts) < k
  else:
    assert min(thoughts) >= k and max(thoughts) > k


def test_executed_flops_are_told_once_and_programs_are_few(make, prefixes):
  fresh = make()
  for prefix in prefixes * 2:
    fresh.draw([prefix], n=2)
    fresh.draw([prefix], n=2, limit=3)
  assert fresh.programs() == 1
  fresh.draw([VOCAB.encode('100+200+300+400+5=')], n=2)
  assert fresh.programs() == 2  # another width
  ledger = fresh.spent()
  assert ledger['executed']['prefill'] > 0 and ledger['executed']['decode'] > 0
  assert compute.total(ledger, 'model') == 0
  assert compute.total(fresh.spent(), 'executed') == 0


def test_bad_input(generator, prefixes):
  with pytest.raises(BadInput, match=r'29 tokens with 12 to follow, .*row_tokens is 40'):
    generator.draw([VOCAB.encode('1' * 29)])
  with pytest.raises(BadInput, match='a prefix to continue is empty'):
    generator.draw([[]])
  with pytest.raises(BadInput, match='0 samples of a prefix'):
    generator.draw(prefixes, n=0)
  tools = outcome.Tools(CFG, VOCAB, 'short', generator, 12, 40)
  with pytest.raises(BadInput, match=r'k = 11 tokens of thinking, .*response_tokens is 12'):
    budget_forcing.search(problems(1), tools, 11)
  with pytest.raises(BadInput, match=r"mark is '##', 2 tokens of the vocabulary 'arithmetic'"):
    budget_forcing.search(problems(1), tools, 4, mark='##')
