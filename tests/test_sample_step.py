"""The sampler: what it draws from, the log-probs it reports, and what its keys promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from scaling import sample_step, sharding, train_step
from scaling.errors import BadInput
from scaling.model import hf, transformer
from scaling.truncation import Truncation

CFG = transformer.ModelConfig(
  vocab_size=16, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=32
)
STOP = 1
TEMPERATURE = 0.7
WHOLE = Truncation()
P, N, S, T = 8, 4, 6, 10
SHAPE = sample_step.SampleShape(prompts=P, samples=N, rows=N, prompt_tokens=S, response_tokens=T)
LENGTHS = np.array([6, 4, 5, 3, 6, 2, 1, 5], np.int32)


@functools.lru_cache
def params():
  """Noise in NumPy; the logits spread by about 1."""
  noise = lambda path, leaf: np.float32(
    np.random.default_rng(0).normal(0, 0.3, leaf.shape) + path[-1].key.endswith('norm')
  )
  shapes = jax.eval_shape(functools.partial(transformer.init, CFG), jax.random.key(0))
  return jax.tree_util.tree_map_with_path(noise, shapes)


def prompts(width=S):
  tokens = np.random.default_rng(1).integers(2, CFG.vocab_size, (P, S), dtype=np.int32)
  tokens[np.arange(S) >= LENGTHS[:, None]] = 0
  return np.pad(tokens, ((0, 0), (0, width - S)))


def hashes(count=P):
  return np.random.default_rng(2).integers(0, 2**32, (count, 2), dtype=np.uint32)


def sample(
  shape=SHAPE, mesh=None, seed=0, update=0, first=0, order=None, ends=None, limits=None, how=(),
  truncation=WHOLE, forcing=False, **changed
):  # fmt: skip
  """One block, as NumPy; `order` rearranges the prompts within it."""
  mesh = mesh or sharding.make_mesh()
  how = transformer.Mechanics(**dict(how))
  draw = sample_step.make_sampler(CFG, shape, mesh, how, truncation, forcing)
  block = {'prompts': prompts(shape.prompt_tokens), 'lengths': LENGTHS, 'hashes': hashes()}
  order = np.arange(P) if order is None else order
  rows = [x[order] for x in (block | changed).values()]
  if ends is None:  # at STOP alone
    ends = np.stack([np.arange(CFG.vocab_size) == STOP, np.ones(CFG.vocab_size)]).astype(np.int32)
  limits = sample_step.no_limits(shape)._replace(**(limits or {}))
  key, update, first = jax.random.key(seed), np.int32(update), np.int32(first)
  return jax.tree.map(
    np.asarray, draw(params(), *rows, key, update, first, TEMPERATURE, ends, limits)
  )


def sequences(drawn):
  """Each prompt with its response behind it and padding last: tokens [P n, S + T]."""
  rows = np.zeros((P, drawn.tokens.shape[1], S + T), np.int32)
  for p, length in enumerate(LENGTHS):
    rows[p, :, :length] = prompts()[p, :length]
    rows[p, :, length : length + T] = drawn.tokens[p]
  return rows.reshape(-1, S + T)


def of_responses(x):
  """[P n, S + T, ...] by column of the sequence -> [P, n, T, ...] by response token."""
  x = np.asarray(x).reshape(P, -1, *x.shape[1:])
  return np.stack([x[p, :, length : length + T] for p, length in enumerate(LENGTHS)])


forward = jax.jit(functools.partial(transformer.apply, CFG))


def teacher_forced(drawn):
  """Logits [P, n, T, V] of each response token given the prompt and those before it."""
  rows = sequences(drawn)
  positions = np.broadcast_to(np.arange(S + T, dtype=np.int32), rows.shape)
  logits = np.asarray(forward(params(), rows, positions)[0])
  return of_responses(np.roll(logits, 1, axis=1))  # column t predicts the token of t + 1


@jax.jit
def gumbel(seed, update, first):
  """The noise [P, n, T, V] that the contract of the keys prescribes, written out anew."""
  fold = jax.random.fold_in

  def one(hash_2, index, t):
    key = fold(fold(fold(fold(seed, update), hash_2[0]), hash_2[1]), index)
    return jax.random.gumbel(fold(key, t), (CFG.vocab_size,))

  over = jax.vmap(jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None)), (0, None, None))
  return over(hashes(), first + np.arange(N), np.arange(T))


def perturbed_logits(drawn, seed=0, update=0, first=0):
  noise = gumbel(jax.random.key(seed), np.int32(update), np.int32(first))
  return teacher_forced(drawn) / TEMPERATURE + np.asarray(noise)


def live(drawn):
  return np.arange(T) < drawn.lengths[..., None]


def assert_same_but_for_ties(one, other, perturbed, tolerance=1e-4):
  """A first divergence is allowed only where the two best perturbed logits nearly tie."""
  for where in np.ndindex(*one.lengths.shape):
    differ = np.flatnonzero(one.tokens[where] != other.tokens[where])
    if differ.size:
      best = np.sort(perturbed[where][differ[0]])[-2:]
      chosen = perturbed[where][differ[0]][[x.tokens[where][differ[0]] for x in (one, other)]]
      assert best[1] - chosen.min() < tolerance, (where, differ[0])


def test_log_probs_are_the_teacher_forced_ones():
  drawn = sample()
  logits = teacher_forced(drawn)

  def chosen(logits):
    every = special.log_softmax(logits, axis=-1)
    return np.take_along_axis(every, drawn.tokens[..., None], -1)[..., 0]

  for name, expected in [
    ('logprobs', chosen(logits)),
    ('sampler_logprobs', chosen(logits / TEMPERATURE)),
  ]:
    assert np.abs(getattr(drawn, name) - expected)[live(drawn)].max() < 1e-4, name
  assert np.abs(drawn.logprobs - drawn.sampler_logprobs)[live(drawn)].max() > 0.1


def test_the_learners_scoring_pass_agrees_with_the_sampler():
  drawn = sample()
  rows = sequences(drawn)
  place = np.broadcast_to(np.arange(S + T, dtype=np.int32), rows.shape)
  ends = np.repeat(LENGTHS, N) + drawn.lengths.reshape(-1)
  real = (place < ends[:, None]).astype(np.int32)
  batch = {'tokens': rows, 'positions': place, 'segment_ids': real}
  score = train_step.make_score(CFG, sharding.make_mesh())
  for temperature, reported in [(1.0, drawn.logprobs), (TEMPERATURE, drawn.sampler_logprobs)]:
    logp = of_responses(score(params(), batch, temperature))
    assert np.abs(logp - reported)[live(drawn)].max() < 1e-4


def test_each_token_is_the_best_perturbed_logit_under_the_samples_own_key():
  drawn = sample(first=8, seed=3, update=5)
  best = perturbed_logits(drawn, first=8, seed=3, update=5).argmax(-1)
  assert (best == drawn.tokens)[live(drawn)].all()


def test_a_response_ends_with_its_stop_token_and_padding_follows():
  drawn = sample()
  assert drawn.stopped.any() and not drawn.stopped.all()
  assert ((drawn.tokens == STOP).sum(-1) == drawn.stopped).all()
  last = np.take_along_axis(drawn.tokens, drawn.lengths[..., None] - 1, -1)[..., 0]
  assert ((last == STOP) == drawn.stopped).all()
  assert (drawn.lengths[~drawn.stopped] == T).all()
  for padded in (drawn.tokens, drawn.logprobs, drawn.sampler_logprobs):
    assert (padded[~live(drawn)] == 0).all()
  assert (drawn.logprobs[live(drawn)] < 0).all()


def assert_identical(one, other):
  """All but the steps, which are of a whole block."""
  for a, b in zip(one[:-1], other[:-1], strict=True):
    np.testing.assert_array_equal(a, b)


def rows(drawn, chosen):
  """The block with some of its prompts."""
  return sample_step.Samples(*(x[chosen] for x in drawn[:-1]), drawn.steps)


def columns(drawn, first, count=N):
  """The block with some of each prompt's samples."""
  return sample_step.Samples(*(x[:, first : first + count] for x in drawn[:-1]), drawn.steps)


def test_the_same_call_says_the_same():
  assert_identical(sample(), sample())


def test_a_larger_pool_begins_with_the_smaller():
  """Whichever blocks a pool is drawn in, sample i is sample i."""
  parts = [sample(first=i)[:-1] for i in (0, 4, 8)]
  pool = sample_step.Samples(*(np.concatenate(x, 1) for x in zip(*parts, strict=True)), None)
  for first in (1, 2, 6):
    assert_identical(sample(first=first), columns(pool, first))


def test_a_sample_does_not_depend_on_its_neighbours_or_its_place():
  drawn = sample()
  order = np.random.default_rng(3).permutation(P)
  assert_identical(sample(order=order), rows(drawn, order))
  others = {'prompts': prompts(), 'lengths': LENGTHS.copy(), 'hashes': hashes()}
  others['prompts'][4:] = 7
  others['lengths'][4:] = 2
  others['hashes'][4:] += 1
  changed = sample(**others)
  assert_identical(*(rows(x, slice(4)) for x in (changed, drawn)))
  assert (changed.tokens[4:] != drawn.tokens[4:]).any()


@pytest.mark.parametrize(
  'shape, mesh',
  [
    (SHAPE, dict(data=2, fsdp=2, tensor=2)),
    (SHAPE._replace(samples=3, rows=3, prompt_tokens=9), {}),
  ],
  ids=str,
)
def test_across_shapes_and_devices_only_a_near_tie_may_diverge(shape, mesh):
  drawn = sample(shape, sharding.make_mesh(**mesh))
  expected = columns(sample(), 0, shape.samples)
  perturbed = perturbed_logits(sample())[:, : shape.samples]
  assert_same_but_for_ties(drawn, expected, perturbed)
  agree = (drawn.tokens == expected.tokens).all(-1)
  assert agree.mean() > 0.9  # ties are rare
  np.testing.assert_allclose(drawn.logprobs[agree], expected.logprobs[agree], atol=1e-4)


def test_a_divergence_that_is_no_tie_is_seen():
  drawn = sample()
  tokens = drawn.tokens.copy()
  tokens[2, 1, 0] = (tokens[2, 1, 0] + 1) % CFG.vocab_size
  with pytest.raises(AssertionError, match=r'\(2, 1\)'):
    assert_same_but_for_ties(drawn, drawn._replace(tokens=tokens), perturbed_logits(drawn))


def test_noise_is_fresh_for_each_sample_prompt_update_and_stream():
  drawn = sample()
  first = drawn.tokens[..., 0]
  varied = lambda group: len(set(map(tuple, group.reshape(N, -1)))) > 1
  assert sum(map(varied, first)) > P / 2  # the first token is not broadcast to its group
  assert sum(map(varied, drawn.tokens)) > P / 2
  same_hash = np.repeat(hashes()[:1], P, 0)
  for other in (sample(update=1), sample(seed=1), sample(hashes=same_hash[::-1])):
    assert (other.tokens != drawn.tokens).any(-1).mean() > 0.5
  keys = sample_step.sample_keys(jax.random.key(0), np.int32(3), hashes(), np.arange(16))
  keys = np.asarray(jax.random.key_data(keys)).reshape(P * 16, -1)
  assert len(np.unique(keys, axis=0)) == P * 16


def test_first_tokens_follow_the_softmax_at_the_temperature():
  shape = SHAPE._replace(samples=256, rows=256, response_tokens=1)
  draws = [sample(shape, first=256 * block).tokens[..., 0] for block in range(4)]
  counts = np.array(
    [np.bincount(row, minlength=CFG.vocab_size) for row in np.concatenate(draws, 1)]
  )
  logits = teacher_forced(sample())[:, 0, 0]

  def p_values(temperature):
    expected = special.softmax(np.float64(logits) / temperature, axis=-1) * 1024
    for row in range(P):
      small = expected[row] < 5  # pooled: too small for the approximation
      pool = lambda x, small=small: [*x[~small], *([x[small].sum()] if small.any() else [])]
      yield stats.chisquare(pool(counts[row]), pool(expected[row])).pvalue

  assert all(p > 1e-3 for p in p_values(TEMPERATURE))
  assert all(p < 1e-6 for p in p_values(1.0))  # and the test can tell


def test_prompts_that_do_not_split_over_the_mesh_are_refused():
  shape = SHAPE._replace(prompts=6)
  with pytest.raises(BadInput, match=r'prompts of a sampling block is 6: .* multiple of 8'):
    sample_step.make_sampler(CFG, shape, sharding.make_mesh(data=4, fsdp=2))


REFILLED = SHAPE._replace(rows=2)


@pytest.mark.parametrize('mesh', [{}, dict(data=2, fsdp=2, tensor=2), dict(data=8)], ids=str)
def test_rows_that_are_refilled_say_what_rows_of_their_own_say(mesh):
  drawn, expected = sample(REFILLED, sharding.make_mesh(**mesh)), sample()
  assert_same_but_for_ties(drawn, expected, perturbed_logits(expected))
  agree = (drawn.tokens == expected.tokens).all(-1)
  assert agree.mean() > 0.9
  np.testing.assert_allclose(drawn.logprobs[agree], expected.logprobs[agree], atol=1e-4)
  np.testing.assert_array_equal(drawn.stopped[agree], expected.stopped[agree])
  np.testing.assert_array_equal(drawn.lengths[agree], expected.lengths[agree])
  assert (drawn.steps == sample_step.passes(REFILLED, drawn.lengths)).all()


def test_a_row_does_not_wait_for_the_others():
  most = np.tile(np.array([T, 1, 1, 2], np.int32), (P, 1))
  never = np.zeros((2, CFG.vocab_size), np.int32)
  drawn = sample(REFILLED, ends=never, limits={'response': most})
  np.testing.assert_array_equal(drawn.lengths, most)
  assert drawn.steps.sum() == T - 1


def test_a_refilled_pool_begins_with_the_smaller():
  one, two = sample(REFILLED), sample(REFILLED, first=N)
  again = sample(REFILLED)
  assert_identical(one, again)
  assert (two.tokens != one.tokens).any()
  assert_same_but_for_ties(
    columns(sample(REFILLED, first=2), 0, 2), columns(one, 2, 2), perturbed_logits(one)[:, 2:]
  )


@pytest.mark.parametrize(
  'options', [{'top_k': 3}, {'top_p': 0.7}, {'min_p': 0.2}, {'top_k': 6, 'top_p': 0.8}], ids=str
)
def test_truncated_draws_and_their_log_probs(options):
  drawn = sample(truncation=Truncation(**options))
  logits = np.float64(teacher_forced(drawn))
  p = special.softmax(logits / TEMPERATURE, axis=-1)
  order = np.argsort(-p, axis=-1)
  ordered = np.take_along_axis(p, order, -1)
  keep = np.ones_like(p, bool)
  if 'top_k' in options:
    keep &= np.arange(CFG.vocab_size) < options['top_k']
  if 'top_p' in options:
    q = np.where(keep, ordered, 0)
    q /= q.sum(-1, keepdims=True)
    keep &= np.cumsum(q, -1) - q < options['top_p']
  if 'min_p' in options:
    keep &= ordered >= options['min_p'] * ordered[..., :1]
  kept = np.zeros_like(keep)
  np.put_along_axis(kept, order, keep, -1)
  chosen = lambda x: np.take_along_axis(x, drawn.tokens[..., None], -1)[..., 0]
  assert chosen(kept)[live(drawn)].all()
  with np.errstate(divide='ignore'):
    expected = chosen(np.log(np.where(kept, p, 0) / np.where(kept, p, 0).sum(-1, keepdims=True)))
  assert np.abs(drawn.sampler_logprobs - expected)[live(drawn)].max() < 1e-4
  raw = chosen(special.log_softmax(logits, axis=-1))
  assert np.abs(drawn.logprobs - raw)[live(drawn)].max() < 1e-4


@pytest.mark.parametrize(
  'options, words',
  [
    ({'top_p': 0.0}, 'config.sample.top_p is 0.0'),
    ({'top_p': 1.5}, 'at most 1'),
    ({'top_k': -1}, 'config.sample.top_k is -1'),
    ({'min_p': 2.0}, 'config.sample.min_p is 2.0'),
  ],
)
def test_a_truncation_that_cannot_be_is_refused(options, words):
  with pytest.raises(BadInput, match=words):
    sample(truncation=Truncation(**options))


def test_a_shape_that_cannot_be_is_refused():
  with pytest.raises(BadInput, match='block_rows is 5: at most 4'):
    sample(SHAPE._replace(rows=5))
  with pytest.raises(BadInput, match='prompt_chunk is 4: 0, or a divisor of 6'):
    sample(SHAPE._replace(prompt_chunk=4))
  with pytest.raises(BadInput, match='samples of a block is 0'):
    sample(SHAPE._replace(samples=0, rows=0))


@pytest.mark.parametrize('shape', [SHAPE, REFILLED], ids=['own rows', 'refilled'])
def test_limits_of_each_prompt_and_of_each_sample_cut_responses(shape):
  whole = sample(shape)
  for most in (
    np.arange(1, P + 1, dtype=np.int32),
    np.arange(1, P * N + 1, dtype=np.int32) % T + 1,
  ):
    most = most if len(most) == P else most.reshape(P, N)
    drawn = sample(shape, limits={'response': most})
    bound = np.broadcast_to(most.reshape(P, -1), (P, N))
    same = (drawn.tokens == np.where(np.arange(T) < bound[..., None], whole.tokens, 0)).all(-1)
    assert same.mean() > 0.9
    np.testing.assert_array_equal(drawn.lengths[same], np.minimum(whole.lengths, bound)[same])
    np.testing.assert_array_equal(
      drawn.stopped[same], (whole.stopped & (whole.lengths <= bound))[same]
    )


def test_a_stop_string_ends_a_response_where_its_text_does():
  """Two tokens that some response has in a row stand for 'a' and 'b', and the string is 'ab'."""
  free = sample()
  a, b = free.tokens[0, 1, :2]
  assert len({a, b, STOP}) == 3
  ends = np.zeros((4, CFG.vocab_size), np.int32)
  ends[:, a], ends[1, b], ends[:, STOP], ends[3] = 1, 3, 3, 3
  drawn = sample(ends=ends)
  for where in np.ndindex(P, N):
    tokens = free.tokens[where]
    found = [t + 2 for t in range(T - 1) if (tokens[t], tokens[t + 1]) == (a, b)]
    length = min([free.lengths[where], *found])
    assert drawn.lengths[where] == length
    np.testing.assert_array_equal(drawn.tokens[where][:length], tokens[:length])
  assert (drawn.lengths < free.lengths).any()


@pytest.mark.parametrize('shape', [SHAPE, REFILLED], ids=['own rows', 'refilled'])
def test_thinking_is_forced_to_last_and_to_end(shape):
  mark, least, most = 9, 3, 6
  full = lambda x: np.full(P, x, np.int32)
  limits = {'least': full(least), 'most': full(most), 'mark': np.int32(mark)}
  drawn = sample(shape, limits=limits, forcing=True)
  said = (drawn.tokens == mark) & live(drawn)
  first = np.where(said.any(-1), said.argmax(-1), T)
  assert (first >= least).all() and (drawn.lengths > least).all()
  assert ((first <= most) | (drawn.stopped & (drawn.lengths <= most))).all()
  logits = teacher_forced(drawn)
  chosen = np.take_along_axis(special.log_softmax(logits, -1), drawn.tokens[..., None], -1)[..., 0]
  assert np.abs(drawn.logprobs - chosen)[live(drawn)].max() < 1e-4  # the policy's, if forced
  forced = first == most
  assert forced.any() and (drawn.sampler_logprobs[..., most][forced] == 0).all()
  assert (drawn.sampler_logprobs[..., most - 1][live(drawn)[..., most - 1]] < 0).all()
  banned = np.where(np.isin(np.arange(CFG.vocab_size), [mark, STOP]), -np.inf, logits / TEMPERATURE)
  early = np.take_along_axis(special.log_softmax(banned, -1), drawn.tokens[..., None], -1)[..., 0]
  assert np.abs(drawn.sampler_logprobs - early)[..., :least].max() < 1e-4


def test_a_prompt_in_chunks_gives_the_same_responses():
  drawn, expected = sample(SHAPE._replace(prompt_chunk=2)), sample()
  assert_same_but_for_ties(drawn, expected, perturbed_logits(expected))
  agree = (drawn.tokens == expected.tokens).all(-1)
  assert agree.mean() > 0.9
  np.testing.assert_allclose(drawn.logprobs[agree], expected.logprobs[agree], atol=1e-4)


@pytest.mark.parametrize('shape', [SHAPE, REFILLED], ids=['own rows', 'refilled'])
def test_a_cache_that_grows_gives_the_same_responses(shape, monkeypatch):
  expected = sample(shape)
  monkeypatch.setattr(sample_step, 'windows', lambda shape: (3, 5, T))
  monkeypatch.setattr(sample_step, 'make_sampler', sample_step.make_sampler.__wrapped__)
  drawn = sample(shape)
  assert_same_but_for_ties(drawn, expected, perturbed_logits(sample()))
  assert (drawn.tokens == expected.tokens).all(-1).mean() > 0.9
  np.testing.assert_array_equal(drawn.steps, sample_step.passes(shape, drawn.lengths))
  assert list(drawn.steps[:2]) == [3, 2]


@pytest.mark.peers
def test_transformers_gives_the_same_log_probs_and_first_tokens(tmp_path):
  """Its `generate` draws by other noise: first tokens are compared by counts."""
  torch, transformers = pytest.importorskip('torch'), pytest.importorskip('transformers')
  hf.save(tmp_path / 'ours', CFG, jax.tree.map(jnp.asarray, params()))
  model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'ours').eval()
  drawn = sample()
  with torch.no_grad():
    logits = model(torch.tensor(sequences(drawn)).long()).logits.numpy()
  logits = of_responses(np.roll(logits, 1, axis=1))
  every = special.log_softmax(logits / TEMPERATURE, axis=-1)
  theirs = np.take_along_axis(every, drawn.tokens[..., None], -1)[..., 0]
  assert np.abs(theirs - drawn.sampler_logprobs)[live(drawn)].max() < 1e-4

  prompt = torch.tensor(prompts()[:1]).long()  # the first one fills its columns
  torch.manual_seed(0)
  first = model.generate(
    prompt, attention_mask=torch.ones_like(prompt), do_sample=True, temperature=TEMPERATURE,
    top_k=0, top_p=1.0, max_new_tokens=1, num_return_sequences=1024, pad_token_id=0,
  )[:, -1].numpy()  # fmt: skip
  mine = sample(SHAPE._replace(samples=1024, rows=1024, response_tokens=1)).tokens[0, :, 0]
  counts = np.array([np.bincount(x, minlength=CFG.vocab_size) for x in (first, mine)])
  assert stats.chi2_contingency(counts[:, counts.sum(0) >= 10]).pvalue > 1e-3
