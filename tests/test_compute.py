"""The ledger against hand counts, against a loop over tokens, and against the dots XLA is given."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import compute, losses, sample_step, sharding, train_step
from scaling.model import attention, presets, transformer

BASE = dict(vocab_size=13, d_model=16, n_layers=3, n_heads=4, n_kv_heads=4, head_dim=8, d_ff=24)
CONFIGS = {
  'plain': transformer.ModelConfig(**BASE),
  'grouped': transformer.ModelConfig(**BASE | dict(n_kv_heads=2)),
  'untied, biases, QK-norm': transformer.ModelConfig(
    **BASE, tied_embeddings=False, qkv_bias=True, qk_norm=True
  ),
}
SCALARS = {
  'scalar': transformer.ModelConfig(**BASE, head='scalar', vocab_multiple=4),
  'scalar, untied': transformer.ModelConfig(**BASE, head='scalar', tied_embeddings=False),
  'scalar, adapters': transformer.ModelConfig(**BASE, head='scalar', lora_rank=2),
}
configs = pytest.mark.parametrize('cfg', CONFIGS.values(), ids=CONFIGS.keys())
scalars = pytest.mark.parametrize('cfg', SCALARS.values(), ids=SCALARS.keys())


def dot_flops(lowered, loops: int = 0) -> int:
  """2 x result elements x contracted elements over every dot_general of a program; the body of each
  of its `loops` counts once."""
  text = lowered.as_text()
  assert text.count('stablehlo.while') == loops
  functions = dict(re.findall(r'func\.func \w+ @(\w+)\((.*?\n)  }\n', text, re.DOTALL))
  dims = lambda s: [int(d) for d in s.split('x')]

  @functools.cache
  def run(name):
    dots = re.findall(
      r'stablehlo\.dot_general.*?contracting_dims = \[([\d, ]*)\] x .*?'
      r': \(tensor<([\dx]+)x\w+>, .*?\) -> tensor<([\dx]+)x\w+>',
      functions[name],
    )
    assert len(dots) == functions[name].count('stablehlo.dot_general')
    own = sum(
      2 * math.prod(dims(result)) * math.prod(dims(left)[int(d)] for d in contracted.split(','))
      for contracted, left, result in dots
    )
    return own + sum(map(run, re.findall(r'\bcall @(\w+)', functions[name])))

  return run('main')


def unrolled(cfg, **how):
  """Mechanics with all layers unrolled, so that no loop hides a dot."""
  return transformer.Mechanics(unroll=cfg.n_layers, **how)


def abstract_params(cfg):
  return jax.eval_shape(functools.partial(transformer.init, cfg), jax.random.key(0))


def batch_of(rows, row_tokens):
  ints = jax.ShapeDtypeStruct((rows, row_tokens), jnp.int32)
  weights = jax.ShapeDtypeStruct((rows, row_tokens), jnp.float32)
  return {'tokens': ints, 'positions': ints, 'segment_ids': ints, 'weights': weights}


@configs
def test_parameters_are_those_of_the_model(cfg):
  params = abstract_params(cfg)
  size = lambda tree: sum(math.prod(x.shape) for x in jax.tree.leaves(tree))
  embedding = size([params[k] for k in ('embed', 'unembed') if k in params])
  counted = compute.parameters(cfg)
  assert counted == (embedding, size(params) - embedding)
  assert counted.total == size(params)


def test_a_scalar_head_counts_one_number_in_place_of_the_vocabulary():
  tokens, scalar = CONFIGS['plain'], transformer.ModelConfig(**BASE, head='scalar')
  params = abstract_params(scalar)
  size = lambda tree: sum(math.prod(x.shape) for x in jax.tree.leaves(tree))
  assert compute.parameters(scalar) == (size(params['embed']), size(params) - size(params['embed']))
  more = compute.forward_flops(tokens, 9, 20, 5) - compute.forward_flops(scalar, 9, 20, 5)
  assert more == 2 * 5 * 16 * (13 - 1)
  ledger = compute.score(scalar, 9, 20, 2, 8, 'reward_model')
  assert ledger['model']['reward_model'] == compute.forward_flops(scalar, 9, 20, 9)
  assert compute.total(ledger) == ledger['model']['reward_model']


@scalars
def test_a_scalar_head_executes_what_xla_is_given(cfg):
  B, T = 4, 10
  opt, mesh = train_step.OptimizerConfig(0.9, 0.95, 0.1, 1.0), sharding.make_mesh()
  state = jax.eval_shape(train_step.make_init(cfg, opt, mesh), jax.random.key(0))
  batch = batch_of(B, T)
  batch['labels'] = batch['weights']
  for chunk in (0, 5):
    make = train_step.make_train_step.__wrapped__
    step = make(cfg, losses.pointwise, None, opt, mesh, unrolled(cfg, loss_chunk=chunk))
    seen = dot_flops(step.lower(state, batch, 1e-3, 1.0))
    assert compute.total(compute.train(cfg, 0, 0, B, T, 'none', chunk), 'executed') == seen


def lowered_train_step(cfg, B, T, **how):
  opt = train_step.OptimizerConfig(0.9, 0.95, 0.1, 1.0)
  mesh = sharding.make_mesh()
  state = jax.eval_shape(train_step.make_init(cfg, opt, mesh), jax.random.key(0))
  make = train_step.make_train_step.__wrapped__  # a step of its own, not the cached one
  step = make(cfg, losses.cross_entropy, None, opt, mesh, unrolled(cfg, **how))
  return step.lower(state, batch_of(B, T), 1e-3, 1.0)


@pytest.mark.parametrize('T', [10, 128])  # of 128 tokens the queries go in parts
@configs
def test_train_step_executes_what_xla_is_given(cfg, T):
  B = 4
  seen = dot_flops(lowered_train_step(cfg, B, T))
  assert compute.total(compute.train(cfg, 0, 0, B, T), 'executed') == seen


@pytest.mark.parametrize('remat', ['dots', 'block'])
@configs
def test_rematerialisation_executes_what_xla_is_given(cfg, remat):
  B, T = 4, 10
  seen = dot_flops(lowered_train_step(cfg, B, T, remat=remat))
  ledger = compute.train(cfg, 0, 0, B, T, remat)
  assert compute.total(ledger, 'executed') == seen
  assert compute.train(cfg, 9, 20, B, T, remat)['model'] == compute.train(cfg, 9, 20, B, T)['model']


def test_a_chunked_loss_executes_its_logits_once_more():
  """The loop's body is in the program once: multiply what it adds by the number of chunks."""
  cfg, B, T, chunk = CONFIGS['grouped'], 4, 10, 5
  seen = dot_flops(lowered_train_step(cfg, B, T, loss_chunk=chunk), loops=2)
  logits = 2 * B * chunk * cfg.d_model * cfg.padded_vocab
  every_chunk = seen + (T // chunk - 1) * 4 * logits  # forward, forward again, two gradients
  assert compute.total(compute.train(cfg, 0, 0, B, T, 'none', chunk), 'executed') == every_chunk


@pytest.mark.parametrize('T', [10, 128])
@configs
def test_score_executes_what_xla_is_given(cfg, T):
  B = 4
  score = train_step.make_score.__wrapped__(cfg, sharding.make_mesh(), unrolled(cfg))
  lowered = score.lower(abstract_params(cfg), batch_of(B, T), 1.0)
  executed = compute.score(cfg, 0, 0, B, T)['executed']
  assert executed['reference'] == compute.total({'executed': executed}, 'executed')
  assert executed['reference'] == dot_flops(lowered)


@pytest.mark.parametrize('S', [7, 128])
@configs
def test_a_pass_over_groups_executes_what_xla_is_given(cfg, S):
  P, G, R = 3, 2, 5
  ints = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  batch = {'prompts': ints(P, S), 'prompt_segments': ints(P, S), 'tokens': ints(P, G, R)}
  score = train_step.make_score.__wrapped__(cfg, sharding.make_mesh(), unrolled(cfg))
  lowered = score.lower(abstract_params(cfg), batch, 1.0)
  passed = compute.groups_passed(np.full(P, S), np.full((P, G), R), S, R, True)
  executed = compute.score_pass(cfg, *passed)['executed']
  assert executed['reference'] == dot_flops(lowered)


@pytest.mark.parametrize('S', [7, 128])
@configs
def test_sampler_executes_what_xla_is_given(cfg, S, monkeypatch):
  monkeypatch.setattr(attention, 'multiplies', lambda mesh: False)  # what is no dot is not seen
  P, n, T = 3, 2, 5
  prompts, lengths = jnp.ones((P, S), jnp.int32), jnp.full(P, S)
  params = abstract_params(cfg)
  prefill = jax.jit(
    functools.partial(sample_step.prefill, cfg, how=unrolled(cfg)), static_argnums=3
  )
  shape = sample_step.SampleShape(P, n, n, S, T)
  seen_prefill = dot_flops(prefill.lower(params, prompts, lengths, shape))
  state = jax.eval_shape(lambda p: sample_step.prefill(cfg, p, prompts, lengths, shape), params)
  decode = jax.jit(functools.partial(sample_step.decode, cfg, how=unrolled(cfg)))
  steps = 3
  executed = compute.generate(cfg, lengths, np.full((P, n), 4), S, T, steps)['executed']
  assert executed['prefill'] == seen_prefill
  assert executed['decode'] == steps * dot_flops(decode.lower(params, state, lengths))


def test_forward_agrees_with_xlas_own_estimate():
  """XLA's estimate counts elementwise work and softmax too: above ours, by a fifth at this size."""
  cfg = transformer.ModelConfig(
    vocab_size=64, d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, d_ff=192
  )
  B, T = 2, 32
  forward = jax.jit(functools.partial(transformer.apply, cfg, how=unrolled(cfg)))
  ints = jax.ShapeDtypeStruct((B, T), jnp.int32)
  estimate = forward.lower(abstract_params(cfg), ints, ints, ints).compile().cost_analysis()
  ours = compute.forward_flops(cfg, B * T, B * T * T, B * T)
  assert ours <= estimate['flops'] <= 1.2 * ours


def test_counts_of_large_models_do_not_overflow():
  """1e13 tokens of 8e9 parameters are 1.6e23 FLOPs: more than an int64 holds."""
  cfg = presets.model_config('llama-3.1-8b', 259)
  flops = compute.forward_flops(cfg, np.int64(10**13), np.int64(10**16), np.int64(10**13))
  dense = 2e13 * (cfg.n_layers * (2 * 4096 * 128 * 40 + 3 * 4096 * 14336) + 4096 * 128_256)
  assert flops == pytest.approx(dense + 4 * 32 * 4096 * 1e16)


def test_forward_flops_by_hand():
  cfg = CONFIGS['grouped']  # L 3, D 16, N 4, K 2, H 8, F 24, V 13
  matmuls = 3 * (16 * 32 + 16 * 16 + 16 * 16 + 32 * 16 + 3 * 16 * 24)
  assert compute.forward_flops(cfg, 1, 0, 0) == 2 * matmuls
  assert compute.forward_flops(cfg, 0, 1, 0) == 3 * 2 * 2 * 32  # scores, and weights times values
  assert compute.forward_flops(cfg, 0, 0, 1) == 2 * 16 * 13
  assert compute.causal([1, 3]) == (4, 1 + 1 + 2 + 3)


def test_training_costs_three_forwards_of_the_real_tokens():
  cfg = CONFIGS['plain']
  ledger = compute.train(cfg, *compute.causal([5, 3]), rows=1, row_tokens=10)
  forward = compute.forward_flops(cfg, 8, 15 + 6, 8)
  assert ledger['model']['forward'] == forward
  assert ledger['model']['backward'] == 2 * forward
  assert compute.total(ledger) == 3 * forward
  assert compute.total(ledger, 'executed') == 3 * compute.forward_flops(cfg, 10, 100, 10)
  scored = compute.score(cfg, *compute.causal([5, 3]), rows=1, row_tokens=10)
  assert compute.total(scored) == scored['model']['reference'] == forward


def test_generation_counts_every_pass_of_every_sample():
  cfg = CONFIGS['grouped']
  prompts, responses = [4, 6], [[1, 3], [5, 2]]
  prefill = decode = 0
  for prompt, drawn in zip(prompts, responses):
    for place in range(prompt):
      prefill += compute.forward_flops(cfg, 1, place + 1, place == prompt - 1)
    for length in drawn:
      for t in range(length - 1):  # token t is fed, and attends to itself and all before it
        decode += compute.forward_flops(cfg, 1, prompt + t + 1, 1)
  ledger = compute.generate(cfg, prompts, responses, prompt_tokens=8, slots=5, steps=4)
  assert ledger['model']['prefill'] == prefill
  assert ledger['model']['decode'] == decode
  assert ledger['executed']['prefill'] > prefill
  assert ledger['executed']['decode'] > decode
  assert compute.total(ledger) == prefill + decode


def test_a_query_costs_what_generating_its_samples_costs():
  cfg = CONFIGS['plain']
  ledger = compute.generate(cfg, [6], [[4] * 5], prompt_tokens=6, slots=4, steps=3)
  assert compute.query(cfg, 6, 4, 5) == (ledger['model']['prefill'], ledger['model']['decode'])
  assert compute.query(cfg, 6, 1, 5)[1] == 0  # the first token comes of the prefill


def test_ledgers_add_up_kind_by_kind():
  cfg = CONFIGS['plain']
  trained = compute.train(cfg, 8, 21, 1, 10)
  scored = compute.score(cfg, 8, 21, 1, 10)
  both = compute.add(trained, scored, compute.empty())
  assert set(both['model']) == set(both['executed']) == set(compute.KINDS)
  assert both['model'] == trained['model'] | {'reference': scored['model']['reference']}
  assert compute.total(both, 'executed') == (
    compute.total(trained, 'executed') + compute.total(scored, 'executed')
  )
  assert compute.add() == compute.empty()
  assert compute.add(trained, trained) == compute.train(cfg, 16, 42, 2, 10)
