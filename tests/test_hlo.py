"""What is read out of HLO: by hand, and of programs whose collectives are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from scaling import hlo, sharding

# Eight devices. Two loops: 5 times by its trip count; at most 7 times by its condition, which is 4
# times as its counter goes up by 2. The forms are those that XLA prints, TPU's layouts among them.
BY_HAND = """HloModule by_hand, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], f32[256])) -> (s32[], f32[256]) {
  %p = (s32[], f32[256]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[256]{0} get-tuple-element(%p), index=1
  %all-reduce.1 = f32[256]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  ROOT %t = (s32[], f32[256]{0}) tuple(%i, %all-reduce.1)
}

%condition (p.1: (s32[], f32[256])) -> pred[] {
  %p.1 = (s32[], f32[256]{0}) parameter(0)
  ROOT %yes = pred[] constant(true)
}

%body.2 (q: (s32[]{:T(128)}, bf16[16,64])) -> (s32[], bf16[16,64]) {
  %q = (s32[]{:T(128)}, bf16[16,64]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %two = s32[]{:T(128)} constant(2)
  %j = s32[]{:T(128)} get-tuple-element(%q), index=0
  %next = s32[]{:T(128)} add(%j, %two)
  %y = bf16[16,64]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%q), index=1
  %collective-permute-start.1 = (bf16[16,64]{1,0}, bf16[16,64]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%y), channel_id=2, source_target_pairs={{0,1},{1,0}}
  %collective-permute-done.1 = bf16[16,64]{1,0} collective-permute-done(%collective-permute-start.1)
  ROOT %t.2 = (s32[]{:T(128)}, bf16[16,64]{1,0}) tuple(%next, %collective-permute-done.1)
}

%condition.2 (q.1: (s32[], bf16[16,64])) -> pred[] {
  %q.1 = (s32[]{:T(128)}, bf16[16,64]{1,0}) parameter(0)
  %seven = s32[]{:T(128)} constant(7)
  %j.1 = s32[]{:T(128)} get-tuple-element(%q.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%j.1, %seven), direction=LT
}

%all-reduce-scatter.1 (f: f32[64,8]) -> f32[16,8] {
  %f = f32[64,8]{1,0} parameter(0)
  %all-reduce.2 = f32[64,8]{1,0} all-reduce(%f), channel_id=3, replica_groups=[2,4]<=[8], to_apply=%add
  %zero = s32[] constant(0)
  ROOT %slice = f32[16,8]{1,0} dynamic-slice(%all-reduce.2, %zero, %zero), dynamic_slice_sizes={16,8}
}

%start (g: f32[32]) -> (f32[32], f32[64]) {
  %g = f32[32]{0} parameter(0)
  %all-gather.1 = f32[64]{0} all-gather(%g), channel_id=4, replica_groups=mesh['a'=4,'b'=2] {'b'}, dimensions={0}
  ROOT %custom-call.1 = (f32[32]{0}, f32[64]{0}) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%done (h: f32[32], r: f32[64]) -> f32[64] {
  %h = f32[32]{0} parameter(0)
  %r = f32[64]{0} parameter(1)
  %all-gather.2 = f32[64]{0} all-gather(%h), channel_id=4, replica_groups=mesh['a'=4,'b'=2] {'b'}, dimensions={0}
  ROOT %custom-call.2 = f32[64]{0} custom-call(%all-gather.2), custom_call_target="AsyncCollectiveDone"
}

%offloaded (k: f32[8]) -> f32[32] {
  %k = f32[8]{0} parameter(0)
  ROOT %all-gather.3 = f32[32]{0} all-gather(%k), channel_id=6, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
}, execution_thread="sparsecore"

%async (l: f32[8]) -> f32[32] {
  %l = f32[8]{0} parameter(0)
  ROOT %custom-call.3 = f32[32]{0} custom-call(%l), custom_call_target="offload", called_computations={%offloaded}
}, execution_thread="sparsecore"

ENTRY %main (u: f32[256], v: bf16[16,64], w: f32[64,8], s: f32[32]) -> f32[64] {
  %u = f32[256]{0} parameter(0)
  %v = bf16[16,64]{1,0} parameter(1)
  %w = f32[64,8]{1,0} parameter(2)
  %s = f32[32]{0} parameter(3)
  %zero.1 = s32[] constant(0)
  %t.3 = (s32[], f32[256]{0}) tuple(%zero.1, %u)
  %while.1 = (s32[], f32[256]{0}) while(%t.3), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %t.4 = (s32[], bf16[16,64]{1,0}) tuple(%zero.1, %v)
  %while.2 = (s32[], bf16[16,64]{1,0}) while(%t.4), condition=%condition.2, body=%body.2
  %fusion.1 = f32[16,8]{1,0} fusion(%w), kind=kCustom, calls=%all-reduce-scatter.1
  %all-to-all.1 = f32[16,8]{1,0} all-to-all(%fusion.1), channel_id=5, replica_groups={}, dimensions={0}
  %slice.1 = f32[8]{0} slice(%s), slice={[0:8]}
  %call-start = ((), (), s32[]) async-start(), async_execution_thread="sparsecore", calls=%async
  %call-update = ((f32[8]{0}), f32[32]{0}, s32[]) async-update(%call-start, %slice.1)
  %call-done = f32[32]{0} async-done(%call-update)
  %async-collective-start = (f32[32]{0}, f32[64]{0}) fusion(%s), kind=kCustom, calls=%start
  %g.1 = f32[32]{0} get-tuple-element(%async-collective-start), index=0
  %g.2 = f32[64]{0} get-tuple-element(%async-collective-start), index=1
  ROOT %async-collective-done = f32[64]{0} fusion(%g.1, %g.2), kind=kCustom, calls=%done
}
"""  # noqa: E501


def test_collectives_by_hand():
  found = hlo.profile(BY_HAND).collectives
  assert found == {
    'all-reduce': hlo.Collective(5, 5 * 2 * 1024 * 3 / 4),
    'collective-permute': hlo.Collective(4, 4 * 2048),
    'reduce-scatter': hlo.Collective(1, 2048 * 3 / 4),
    'all-to-all': hlo.Collective(1, 512 * 7 / 8),
    'all-gather': hlo.Collective(2, 128 + 3 * 32),  # one in fusions, one on the sparse cores
  }


TRAFFIC = """HloModule traffic

%sliced (stack: bf16[10,128,128], at: s32[]) -> bf16[128,128] {
  %stack = bf16[10,128,128]{2,1,0} parameter(0)
  %at = s32[] parameter(1)
  %zero = s32[] constant(0)
  %dynamic-slice.1 = bf16[1,128,128]{2,1,0} dynamic-slice(%stack, %at, %zero, %zero), dynamic_slice_sizes={1,128,128}
  ROOT %bitcast.1 = bf16[128,128]{1,0} bitcast(%dynamic-slice.1)
}

%updated (old: f32[10,64], row: f32[1,64], at.1: s32[]) -> f32[10,64] {
  %old = f32[10,64]{1,0} parameter(0)
  %row = f32[1,64]{1,0} parameter(1)
  %at.1 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  ROOT %dynamic-update-slice.1 = f32[10,64]{1,0} dynamic-update-slice(%old, %row, %at.1, %zero.1)
}

ENTRY %main (stack.1: bf16[10,128,128], old.1: f32[10,64], row.1: f32[1,64], i: s32[]) -> f32[10,64] {
  %stack.1 = bf16[10,128,128]{2,1,0} parameter(0)
  %old.1 = f32[10,64]{1,0} parameter(1)
  %row.1 = f32[1,64]{1,0} parameter(2)
  %i = s32[]{:S(6)} parameter(3)
  %fusion.1 = bf16[128,128]{1,0} fusion(%stack.1, %i), kind=kLoop, calls=%sliced
  %copy-start.1 = (bf16[128,128]{1,0:S(1)}, bf16[128,128]{1,0}, u32[]{:S(2)}) copy-start(%fusion.1)
  %copy-done.1 = bf16[128,128]{1,0:S(1)} copy-done(%copy-start.1)
  %multiply.1 = bf16[128,128]{1,0:S(1)} multiply(%copy-done.1, %copy-done.1)
  ROOT %fusion.2 = f32[10,64]{1,0} fusion(%old.1, %row.1, %i), kind=kLoop, calls=%updated
}
"""  # noqa: E501


def test_traffic_by_hand():
  """A slice is read and written; copied out of the main memory, read; what is done there is free;
  a row is read, and written in place."""
  assert hlo.profile(TRAFFIC).traffic == 3 * 128 * 128 * 2 + 2 * 64 * 4


def test_traffic_of_a_matmul_is_what_xla_says():
  x, y = jnp.ones((64, 128)), jnp.ones((128, 32))
  compiled = jax.jit(jnp.matmul).lower(x, y).compile()
  assert hlo.profile(compiled.as_text()).traffic == 4 * (64 * 128 + 128 * 32 + 64 * 32)


N = 8
PER_DEVICE = 4 * 16 * 8  # bytes of float32 [16, 8]


@pytest.mark.parametrize(
  'kind, collective, sent',
  [
    ('all-reduce', lambda x: jax.lax.psum(x, 'data'), 2 * PER_DEVICE * 7 / 8),
    ('all-gather', lambda x: jax.lax.all_gather(x, 'data').sum(0), PER_DEVICE * 7),
    (
      'reduce-scatter',
      lambda x: jnp.tile(jax.lax.psum_scatter(x, 'data', tiled=True), (N, 1)),
      PER_DEVICE * 7 / 8,
    ),
    ('all-to-all', lambda x: jax.lax.all_to_all(x, 'data', 0, 0, tiled=True), PER_DEVICE * 7 / 8),
    (
      'collective-permute',
      lambda x: jax.lax.ppermute(x, 'data', [(i, (i + 1) % N) for i in range(N)]),
      PER_DEVICE,
    ),
  ],
)
def test_collectives_of_a_scan(kind, collective, sent):
  """One collective in a scan of 6, on 8 devices: 6 times what one of them sends."""
  check_scan(sharding.make_mesh(data=N), kind, collective, sent)


def check_scan(mesh, kind, collective, sent, build=None, length=6):
  """Compiles a scan of that length with one collective in it, and compares what a device sends."""

  @functools.partial(
    jax.shard_map, mesh=mesh, in_specs=P('data'), out_specs=P('data'), check_vma=False
  )
  def run(x):
    return jax.lax.scan(lambda x, _: (jnp.sin(collective(x)), None), x, length=length)[0]

  shape = jax.ShapeDtypeStruct((16 * mesh.shape['data'], 8), jnp.float32)
  lowered = jax.jit(run).lower(shape)
  text = build(lowered)[1] if build else lowered.compile().as_text()
  found = hlo.profile(text).collectives
  assert set(found) == {kind}
  np.testing.assert_allclose(found[kind], hlo.Collective(length, length * sent))
