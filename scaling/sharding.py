"""The mesh and the one table that says how every array is laid over it.

Axes: `data` replicates parameters and splits rows; `fsdp` splits rows and parameters; `tensor`
splits heads, feed-forward width and vocabulary. Nothing else in the project names a mesh axis.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling.errors import BadInput

AXES = ('data', 'fsdp', 'tensor')

ROWS = P(('data', 'fsdp'))  # every batch: split by rows

PARAMS = {  # by name; a stacked block parameter has the layer axis in front, never split
  'embed': P('tensor', 'fsdp'),
  'unembed': P('fsdp', 'tensor'),
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
  'w_gate': P(None, 'fsdp', 'tensor'),
  'w_up': P(None, 'fsdp', 'tensor'),
  'w_down': P(None, 'tensor', 'fsdp'),
}


def make_mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> Mesh:
  """A mesh over the first data x fsdp x tensor devices. BadInput if there are not so many."""
  need, have = data * fsdp * tensor, jax.device_count()
  if need > have:
    raise BadInput(
      f'mesh: data={data} x fsdp={fsdp} x tensor={tensor} needs {need} devices, there are {have}'
    )
  devices = np.array(jax.devices()[:need]).reshape(data, fsdp, tensor)
  return Mesh(devices, AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3)


def rows(mesh: Mesh) -> NamedSharding:
  """The sharding of anything whose first axis is rows."""
  return NamedSharding(mesh, ROWS)


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of scalars and keys."""
  return NamedSharding(mesh, P())


def check_rows(mesh: Mesh, count: int, key: str) -> None:
  """BadInput where `count` rows, set by the config's `key`, do not split evenly over the mesh."""
  ways = mesh.shape['data'] * mesh.shape['fsdp']
  if count % ways:
    raise BadInput(
      f'{key} is {count}: it must be a multiple of {ways}, the data x fsdp size of the mesh'
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
        raise BadInput(
          f'mesh.{axis}={mesh.shape[axis]} does not divide {names[-1]} {tuple(leaf.shape)}: '
          f'choose a {axis} size that divides {size}'
        )
    return NamedSharding(mesh, spec)

  return jax.tree_util.tree_map_with_path(rule, tree)
