"""Programs compiled for TPU topologies on a machine without a TPU, and the arithmetic on them."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import pod
from scaling import compute, hlo, sharding, study, topology
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.model.transformer import Mechanics
from scaling.stages import stage as stages
from tests import test_hlo, tiny

ROOT = Path(__file__).parents[1]


def _config(**mesh):
  c = tiny.get_config()
  c.mesh.update(mesh)
  c.model.vocab_multiple = 2
  return c


def test_roofline_by_hand():
  """1e12 FLOPs on 4 devices of 1e11: 2.5 s; 6e9 bytes at 2e9: 3 s; 5e8 sent at 1e9: 0.5 s. Of the
  3 s, 8e11 needed FLOPs would take 2."""
  ledger = compute.empty()
  ledger['executed']['forward'], ledger['model']['forward'] = 1e12, 8e11
  sent = {'all-gather': hlo.Collective(2, 3e8), 'all-reduce': hlo.Collective(1, 2e8)}
  peak = topology.Chip(flops=1e11, hbm=1e9, bandwidth=2e9, links=1e9)
  found = topology.roofline(ledger, hlo.Profile(sent, 6e9), peak, 4)
  np.testing.assert_allclose(found[:3], (2.5, 3.0, 0.5))
  assert found.seconds == found.memory
  np.testing.assert_allclose(found.mfu, 2 / 3)


@pytest.mark.parametrize(
  'message, words',
  [
    (
      'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 120.5G of 95.74G hbm.',
      'needs 120.5GiB of 95.74GiB',
    ),
    (
      'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries '
      '(15.83G) exceeds available HBM (15.75G). HLO module: jit_step.',
      'temporaries alone need 15.83GiB of 15.75GiB',
    ),
    ('RESOURCE_EXHAUSTED: something new', 'needs more than there is'),
    ('INTERNAL: a bug', None),
  ],
)
def test_a_refusal_for_memory_in_words(message, words):
  assert topology._refusal(RuntimeError(message)) == words


@pytest.mark.parametrize('name', ['v9:2x2', 'v5e', 'v5e:four', 'v5e:2x2x2x2', '4x4'])
def test_a_name_that_is_no_topology(name):
  with pytest.raises(BadInput, match='v5e:4x4') as error:
    topology.describe(name)
  assert name in str(error.value) and '\n' not in str(error.value)


def test_without_libtpu(monkeypatch):
  def missing(**_):
    raise RuntimeError('libtpu is not installed')

  monkeypatch.setattr(topology.topologies, 'get_topology_desc', missing)
  with pytest.raises(BadInput, match=r'pip install -r requirements-tpu\.txt'):
    topology.describe('v5e:2x2')


def test_a_mesh_of_another_size():
  four = topology.Topology('v5e:2x2', [None] * 4, topology.CHIPS['v5e'])
  with pytest.raises(BadInput, match=r'4 devices and config.mesh 2 .*--config.mesh.fsdp=2$'):
    topology.make_mesh(_config(tensor=2), four)
  with pytest.raises(BadInput, match=r'config.mesh 3 .*say other axes'):
    topology.make_mesh(_config(tensor=3), four)


def test_programs_of_a_study():
  """Each kind of stage has its programs, called as often as the stage does; equal ones are one."""
  c = _config()
  tree = study.expand(c)
  mesh = sharding.make_mesh()
  calls = {}
  for stage in tree:
    found = topology.programs(stage, mesh, Mechanics())
    calls.setdefault(stage.kind, []).append([(n, p.name.split(': ')[1]) for n, p in found])
  assert calls['pretrain'] == [[(4, 'train step, 8 x 32')]]
  assert calls['sft'][-1][1:] == [(1, 'score, 64 x 32')]
  bank = [(2 * 2, 'sampler, 2 prompts of 8 x 4 x 18 tokens')]
  assert calls['sample'] == [bank] * 4
  sampler, score, train = calls['rl'][0]
  assert sampler == (2, 'sampler, 4 prompts of 8 x 4 x 18 tokens')
  assert score == (2, 'score, 4 prompts of 8 x 4 x 18 tokens')
  assert train == (2 * 2, 'grpo step, 2 prompts of 8 x 4 x 18 tokens')
  keys = {p.key for s in tree for _, p in topology.programs(s, mesh, Mechanics())}
  assert len(keys) == 6  # the train step of pretraining and SFT is one; so is the bank's sampler


def test_an_argument_of_every_program_is_what_it_takes():
  """Each program is called with arrays of the shapes it is compiled for."""
  mesh = sharding.make_mesh()
  for stage in study.expand(_config()):
    for _, program in topology.programs(stage, mesh, Mechanics()):
      jax.eval_shape(program.step, *program.arguments)


@pytest.mark.peers
def test_a_study_on_a_topology():
  """A tiny study on four chips: every program is described, and every stage."""
  c, lines = _config(fsdp=2, tensor=2), []
  c.pretrain.tasks, c.pretrain.tokens, c.rl.updates = (), (), (2,)
  c.rl.prompts, c.rl.group, c.rl.minibatches = c.sample.block_prompts, c.sample.block_samples, 1
  c.mechanics.remat, c.mechanics.loss_chunk = 'block', 16
  topology.report(c, 'v5e:2x2', lines.append)
  text = '\n'.join(lines)
  assert 'v5e:2x2, 4 devices, fsdp=2 x tensor=2' in text and '197 TFLOP/s, HBM 16 GiB' in text
  for name in (
    'train step, 8 x 32',
    'score, 64 x 32',
    'sampler, 2 prompts',
    'grpo step, 2 prompts',
  ):
    assert f'25k: {name}' in text
  for part in ('all-gather', 'grpo 2 updates: ', 'bound by', 'pretrain 0 steps: no steps'):
    assert part in text, part
  assert 'DOES NOT FIT' not in text


@pytest.mark.peers
@pytest.mark.parametrize(
  'name, count',
  [('v3:2x2', 8), ('v4:2x2x1', 4), ('v5p:2x2x1', 4), ('v6e:2x2', 4), ('tpu7x:2x2x1', 8)],
)
def test_a_scan_on_a_topology(name, count):
  """In TPU's HLO too, where an all-gather is a fusion and has no known trip count, what is sent is
  what is known: the other shards, 6 times."""
  found = topology.describe(name)
  assert len(found.devices) == count
  mesh = sharding.make_mesh(data=count, devices=found.devices)
  gather = lambda x: jax.lax.all_gather(x, 'data').sum(0)
  sent = (count - 1) * test_hlo.PER_DEVICE
  test_hlo.check_scan(mesh, 'all-gather', gather, sent, topology.build)


@pytest.mark.peers
def test_a_program_that_does_not_fit():
  found = topology.describe('v5e:1x1')
  where = jax.sharding.SingleDeviceSharding(found.devices[0])
  square = jax.ShapeDtypeStruct((50_000, 50_000), jnp.float32, sharding=where)
  program = topology.Program('square', jax.jit(jnp.matmul), (square, square), compute.empty())
  compiled = topology.compile_program(program, found)
  assert not compiled.fits and compiled.roofline is None and 'GiB of 15.75GiB' in compiled.need


@pytest.mark.peers
def test_the_layout_follows_the_torus():
  """Neighbours along an axis of the mesh are neighbours on the torus."""
  c = _config(data=4, fsdp=4)
  mesh = topology.make_mesh(c, topology.describe('v5e:4x4'))
  coordinates = np.array([d.coords[:2] for d in mesh.devices.flat]).reshape(4, 4, 2)
  for axis in (0, 1):
    assert (np.abs(np.diff(coordinates, axis=axis)).sum(-1) == 1).all()


@pytest.mark.parametrize('name', [name for name in pod.PODS if name != 'smoke'])
def test_pods(name):
  """A pod's mesh has its chips, and the study splits over it."""
  c = pod.get_config(name)
  mesh = jax.sharding.AbstractMesh(tuple(dict(c.mesh).values()), tuple(dict(c.mesh)))
  assert mesh.size == int(name.partition('-')[2])
  tree = study.expand(c)
  study.check_mesh(c, [], mesh)
  sharding.shardings(mesh, transformer.form(stages.model(tree[0].recipe)))


@pytest.mark.parametrize(
  'args, says',
  [
    (['--config=tests/tiny.py', '--compile_for=v9:2x2'], '--compile_for=v9:2x2: a chip (v3, v4,'),
    (['--config=experiments/pod.py:8b-7'], "experiments/pod.py has no variant '8b-7'"),
  ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(args, says):
  done = subprocess.run(
    [sys.executable, 'run.py', *args], cwd=ROOT, capture_output=True, text=True,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )  # fmt: skip
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert done.stderr.startswith(f'run.py: {says}')
