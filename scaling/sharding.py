"""The mesh and the one table that says how every array is laid over it.

Axes: `data` replicates parameters and splits rows; `fsdp` splits rows and parameters; `tensor`
splits heads, feed-forward width and vocabulary; `sequence` splits the tokens of a row, whose keys
and values are gathered to be attended to. Nothing else in the project names a mesh axis.
"""

import functools
import math

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling.errors import BadInput

AXES = ('data', 'fsdp', 'tensor', 'sequence')

ROWS = ('data', 'fsdp')  # what splits the rows of a batch
BATCH = P(ROWS, 'sequence')  # every batch of packed rows [B, T]

PARAMS = {  # by name; a stacked block parameter has the layer axis in front, never split
  'embed': P('tensor', 'fsdp'),
  'unembed': P('fsdp', 'tensor'),
  'head': P('fsdp'),
  'final_norm': P(None),
  'attention_norm': P(None, None),
  'mlp_norm': P(None, None),
  'q_norm': P(None, None),
  'k_norm': P(None, None),
  'wq': P(None, 'fsdp', 'tensor', None),
  'wk': P(None, 'fsdp', 'tensor', None),
  'wv': P(None, 'fsdp', 'tensor', None),
  'wo': P(None, 'tensor', None, 'fsdp'),
  'bq': P(None, 'tensor', None),
  'bk': P(None, 'tensor', None),
  'bv': P(None, 'tensor', None),
  'wq_a': P(None, 'fsdp', None),
  'wk_a': P(None, 'fsdp', None),
  'wv_a': P(None, 'fsdp', None),
  'wo_a': P(None, 'tensor', None),
  'w_gate_a': P(None, 'fsdp', None),
  'w_up_a': P(None, 'fsdp', None),
  'w_down_a': P(None, 'tensor', None),
  'wq_b': P(None, None, 'tensor'),
  'wk_b': P(None, None, 'tensor'),
  'wv_b': P(None, None, 'tensor'),
  'wo_b': P(None, None, 'fsdp'),
  'w_gate_b': P(None, None, 'tensor'),
  'w_up_b': P(None, None, 'tensor'),
  'w_down_b': P(None, None, 'fsdp'),
  'w_gate': P(None, 'fsdp', 'tensor'),
  'w_up': P(None, 'fsdp', 'tensor'),
  'w_down': P(None, 'tensor', 'fsdp'),
}


ACTIVATIONS = {  # by name; an axis that does not divide a dimension leaves it whole
  'stream': P(ROWS, 'sequence', None),
  'queries': P(ROWS, 'sequence', 'tensor', None),
  'keys': P(ROWS, None, 'tensor', None),
  'feed_forward': P(ROWS, 'sequence', 'tensor'),
  'logits': P(ROWS, 'sequence', 'tensor'),
}


def make_mesh(
  data: int = 1, fsdp: int = 1, tensor: int = 1, sequence: int = 1, devices=None
) -> Mesh:
  """A mesh over the first of the devices (all of JAX's, if None), as many as the axes' product.

  On TPUs neighbours along an axis are neighbours on the torus, as far as its shape allows. BadInput
  if there are not so many devices.
  """
  shape = (data, fsdp, tensor, sequence)
  devices = jax.devices() if devices is None else devices
  need = math.prod(shape)
  if need > len(devices):
    words = ' x '.join(f'{axis}={size}' for axis, size in zip(AXES, shape))
    cpu = f'JAX_NUM_CPU_DEVICES={need} makes as many of a CPU; '
    raise BadInput(
      f'mesh: {words} needs {need} devices, there are {len(devices)}: on a pod give --multihost; '
      f'{cpu if devices[0].platform == "cpu" else ""}--compile_for says what a TPU slice would need'
    )
  if devices[0].platform == 'tpu' and need == len(devices):
    placed = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
  else:
    placed = np.array(devices[:need]).reshape(shape)
  return Mesh(placed, AXES, axis_types=(jax.sharding.AxisType.Auto,) * len(AXES))


def rows(mesh: Mesh) -> NamedSharding:
  """The sharding of anything whose first axis is rows, and whose others are whole."""
  return NamedSharding(mesh, P(ROWS))


def batch(mesh: Mesh) -> NamedSharding:
  """The sharding of packed rows [B, T]."""
  return NamedSharding(mesh, BATCH)


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of scalars and keys."""
  return NamedSharding(mesh, P())


def spec(mesh: Mesh, shape: tuple[int, ...], name: str) -> P:
  """ACTIVATIONS[name] for an array of this shape."""
  ways = lambda axis: math.prod(mesh.shape[a] for a in ((axis,) if isinstance(axis, str) else axis))
  return P(
    *(
      axis if axis is not None and size % ways(axis) == 0 else None
      for size, axis in zip(shape, ACTIVATIONS[name], strict=True)
    )
  )


def constrain(mesh: Mesh | None, x: jax.Array, name: str) -> jax.Array:
  """x, laid over the mesh as ACTIVATIONS[name] has it."""
  if mesh is None or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec(mesh, x.shape, name)))


@functools.lru_cache
def rows_here(mesh: Mesh, count: int) -> np.ndarray:
  """Which of a batch's `count` rows the devices of this process hold: indices, in order."""
  parts = rows(mesh).addressable_devices_indices_map((count,)).values()
  return np.unique(np.concatenate([np.arange(count)[part] for part in parts]))


def feed(where: NamedSharding, count: int, local):
  """Arrays of `count` rows over the mesh, out of a tree of host arrays that have those rows alone
  which this process holds (`rows_here`)."""
  here = rows_here(where.mesh, count)

  def array(x):
    def part(index):
      first, last, _ = index[0].indices(count)
      offset = int(np.searchsorted(here, first))
      return x[(slice(offset, offset + last - first), *index[1:])]

    return jax.make_array_from_callback((count, *x.shape[1:]), where, part)

  return jax.tree.map(array, local)


def spread(where: NamedSharding, whole):
  """Arrays over the mesh, out of a tree of host arrays that are the same in every process."""
  return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, where, x.__getitem__), whole)


def gather(mesh: Mesh, params: dict) -> dict:
  """The parameters, laid over the mesh as PARAMS has it but whole along `fsdp`.

  For many passes with the same parameters: they are gathered once, not in each.
  """
  if mesh.shape['fsdp'] == 1:
    return params

  def place(path, x):
    axes = (None if axis == 'fsdp' else axis for axis in PARAMS[path[-1].key])
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(*axes)))

  return jax.tree_util.tree_map_with_path(place, params)


def splits_rows_alone(mesh: Mesh, layouts) -> bool:
  """Whether each of several devices has rows of its own and all of every parameter."""
  ways = math.prod(mesh.shape[axis] for axis in ROWS)
  return mesh.size == ways > 1 and all(x.is_fully_replicated for x in jax.tree.leaves(layouts))


def copies(mesh: Mesh | None, matrix: jax.Array) -> jax.Array:
  """A matrix [D, V] as [S, D, V]: one for each of the S shards of rows, split by `tensor` alone.

  Where S is 1 it stays as it is.
  """
  ways = 1 if mesh is None else math.prod(mesh.shape[axis] for axis in ROWS)
  if ways == 1:
    return matrix
  tensor = 'tensor' if matrix.shape[1] % mesh.shape['tensor'] == 0 else None
  whole = jax.numpy.broadcast_to(matrix, (ways, *matrix.shape))
  return jax.lax.with_sharding_constraint(whole, NamedSharding(mesh, P(ROWS, None, tensor)))


def check_rows(mesh: Mesh, count: int, key: str) -> None:
  """BadInput where `count` rows, set by the config's `key`, do not split evenly over the mesh."""
  ways = mesh.shape['data'] * mesh.shape['fsdp']
  if count % ways:
    raise BadInput(
      f'{key} is {count}: it must be a multiple of {ways}, the data x fsdp size of the mesh'
    )


def check_tokens(mesh: Mesh, count: int, key: str) -> None:
  """BadInput where rows of `count` tokens do not split evenly over the mesh's sequence axis."""
  if count % mesh.shape['sequence']:
    raise BadInput(
      f'{key} is {count}: it must be a multiple of mesh.sequence={mesh.shape["sequence"]}'
    )


def shardings(mesh: Mesh, tree):
  """A NamedSharding for each leaf of a tree of parameters, or of state that mirrors parameters.

  The rule is found by the leaf's own name (Adam's moments carry their parameter's); scalars and
  counters are replicated. BadInput where an axis of the mesh does not divide a dimension.
  """

  def rule(path, leaf):
    names = [p.key for p in path if isinstance(p, jax.tree_util.DictKey)]
    if not names or leaf.ndim == 0:
      return replicated(mesh)
    spec = PARAMS[names[-1]]
    for size, axis in zip(leaf.shape, spec, strict=True):
      if axis is not None and size % mesh.shape[axis]:
        remedy = f'choose a {axis} size that divides {size}'
        if names[-1] in ('embed', 'unembed') and axis == 'tensor':
          remedy += f', or set config.model.vocab_multiple={mesh.shape[axis]}'
        what = f'{names[-1]} {tuple(leaf.shape)}'
        raise BadInput(f'mesh.{axis}={mesh.shape[axis]} does not divide {what}: {remedy}')
    return NamedSharding(mesh, spec)

  return jax.tree_util.tree_map_with_path(rule, tree)
