"""The one table of shardings: complete, followed, and plain about what does not fit."""

import dataclasses
import functools
import math

import jax
import pytest

from scaling import sharding, train_step
from scaling.errors import BadInput
from scaling.model import transformer

CFG = transformer.ModelConfig(
  vocab_size=16,
  d_model=16,
  n_layers=2,
  n_heads=4,
  n_kv_heads=2,
  head_dim=8,
  d_ff=32,
  qk_norm=True,
  qkv_bias=True,
  tied_embeddings=False,
  lora_rank=2,
)
OPT = train_step.OptimizerConfig(0.9, 0.95, 0.1, 1.0)


def params_of(cfg):
  return jax.eval_shape(functools.partial(transformer.init, cfg), jax.random.key(0))


def test_every_parameter_has_a_rule_and_every_rule_a_parameter():
  names = set()
  for cfg in (CFG, dataclasses.replace(CFG, head='scalar')):
    params = params_of(cfg)
    names |= {*params, *params['blocks']} - {'blocks'}
  assert names == set(sharding.PARAMS)


def test_every_large_parameter_is_split_over_fsdp_and_tensor():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  params = params_of(CFG)
  for name, layout in (placed := sharding.shardings(mesh, params))['blocks'].items():
    shape = params['blocks'][name].shape
    ways = math.prod(shape) / math.prod(layout.shard_shape(shape))
    split = (
      1 if name.endswith('norm') else 2 if name.endswith(('_a', '_b')) or name[0] == 'b' else 4
    )
    assert ways == split, name
    assert layout.shard_shape(shape)[0] == CFG.n_layers
  assert placed['embed'].shard_shape((16, 16)) == (8, 8)
  assert placed['unembed'].shard_shape((16, 16)) == (8, 8)


def test_the_optimisers_moments_lie_where_their_parameters_lie():
  mesh = sharding.make_mesh(fsdp=4, tensor=2)
  layout = train_step.layout(CFG, OPT, mesh)
  adam = layout.opt_state[1]
  assert train_step.split(CFG, layout.params)[0] == adam.mu == adam.nu
  assert layout.step == adam.count == sharding.replicated(mesh)


def test_rows_are_split_over_data_and_fsdp():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  assert sharding.rows(mesh).shard_shape((8, 5)) == (2, 5)
  sharding.check_rows(mesh, 8, 'batch')
  with pytest.raises(BadInput, match=r'^batch is 6: it must be a multiple of 4, .*mesh$'):
    sharding.check_rows(mesh, 6, 'batch')


def test_a_mesh_larger_than_the_machine_is_refused():
  says = r'^mesh: data=4 x fsdp=2 x tensor=2 x sequence=1 needs 16 devices.* JAX_NUM_CPU_DEVICES=16'
  with pytest.raises(BadInput, match=says):
    sharding.make_mesh(data=4, fsdp=2, tensor=2)


def test_an_axis_that_does_not_divide_names_the_parameter_and_the_number():
  mesh = sharding.make_mesh(tensor=4)  # two key-value heads cannot be split four ways
  with pytest.raises(BadInput, match=r'^mesh.tensor=4 does not divide .*: choose .* divides 2$'):
    sharding.shardings(mesh, params_of(CFG))
