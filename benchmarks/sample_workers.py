"""The tools that `benchmarks.sample` compares. One process is one tool:

    python -m benchmarks.sample_workers TOOL WORK

TOOL names a function of this file; WORK is a benchmarks.sample.Work as JSON. Each function builds a
model with random parameters and returns run(seed), which draws all responses and waits for them.
"""

import json
import sys
import time

import numpy as np

from benchmarks import harness
from benchmarks.train_workers import hf_config, peak_memory, tunix_model


def prompts(work) -> np.ndarray:
  """Random tokens, int32 [P, prompt_tokens]."""
  rng = np.random.default_rng(0)
  shape = work['prompts'], work['prompt_tokens']
  return rng.integers(3, work['model']['vocab_size'], shape, np.int32)


def lengths(work) -> np.ndarray:
  """How many tokens each response has, int32 [P, n]."""
  shape = work['prompts'], work['samples']
  if not work['mean_length']:
    return np.full(shape, work['response_tokens'], np.int32)
  drawn = np.random.default_rng(1).geometric(1 / work['mean_length'], shape)
  return np.minimum(drawn, work['response_tokens']).astype(np.int32)


def postscale(work):
  import jax

  jax.config.update('jax_num_cpu_devices', work['data'])  # of no meaning on a GPU
  from scaling import sample_step, sharding
  from scaling.model import transformer

  cfg = transformer.ModelConfig(**work['model'])
  mesh = sharding.make_mesh(data=work['data'])
  shape = sample_step.SampleShape(
    *(work[key] for key in ('prompts', 'samples', 'rows', 'prompt_tokens', 'response_tokens'))
  )
  how = transformer.Mechanics(**work['mechanics'])
  sample = sample_step.make_sampler(cfg, shape, mesh, how)
  place = sharding.shardings(mesh, transformer.form(cfg))
  params = jax.device_put(transformer.init(cfg, jax.random.key(0)), place)
  asked = prompts(work)
  full = np.full(len(asked), asked.shape[1], np.int32)
  hashes = np.random.default_rng(2).integers(0, 2**32, (len(asked), 2), np.uint32)
  never = np.zeros((2, cfg.vocab_size), np.int32)
  limits = sample_step.no_limits(shape)._replace(response=lengths(work))

  def run(seed):
    key, zero = jax.random.key(seed), np.int32(0)
    drawn = sample(params, asked, full, hashes, key, zero, zero, 1.0, never, limits)
    np.testing.assert_array_equal(jax.block_until_ready(drawn).lengths, lengths(work))

  return run


def loop_parts(work):
  """(params, sample(params, tokens, key), forward) of what one writes first: prompts repeated, one
  cache of all slots, a jitted scan over tokens."""
  import jax
  import jax.numpy as jnp

  m = work['model']
  if m['n_heads'] != m['n_kv_heads'] or m['tied_embeddings']:
    raise harness.Skip('the loop is written for the reference model')
  D, L, N, H, F, V = (
    m[k] for k in ('d_model', 'n_layers', 'n_heads', 'head_dim', 'd_ff', 'vocab_size')
  )
  S, T = work['prompt_tokens'], work['response_tokens']
  shapes = {'q': (D, N * H), 'k': (D, N * H), 'v': (D, N * H), 'o': (N * H, D)}
  shapes |= {'gate': (D, F), 'up': (D, F), 'down': (F, D)}
  keys = iter(jax.random.split(jax.random.key(0), 16))
  normal = lambda *shape: jax.random.normal(next(keys), shape) * shape[-2] ** -0.5
  params = {name: normal(L, *shape) for name, shape in shapes.items()}
  ends = {'embed': normal(V, D), 'unembed': normal(D, V)}
  norm = lambda x: x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)

  def rotate(x, start):
    place = start + jnp.arange(x.shape[1])
    angle = place[:, None, None] * 10_000.0 ** (-jnp.arange(0, H, 2) / H)
    a, b = jnp.split(x, 2, axis=-1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

  def forward(params, tokens, cache, start, whole=False):
    def layer(x, inputs):
      w, k_cache, v_cache = inputs
      B, t, _ = x.shape
      y = norm(x)
      q, k, v = ((y @ w[name]).reshape(B, t, N, H) for name in 'qkv')
      put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, start, axis=1)
      k_cache, v_cache = put(k_cache, rotate(k, start)), put(v_cache, v)
      scores = jnp.einsum('btnh,bsnh->bnts', rotate(q, start), k_cache) * H**-0.5
      seen = jnp.arange(S + T) <= start + jnp.arange(t)[:, None]
      weights = jax.nn.softmax(jnp.where(seen, scores, -1e30), axis=-1)
      x += jnp.einsum('bnts,bsnh->btnh', weights, v_cache).reshape(B, t, -1) @ w['o']
      y = norm(x)
      x += (jax.nn.silu(y @ w['gate']) * (y @ w['up'])) @ w['down']
      return x, (k_cache, v_cache)

    layers = {name: params[name] for name in shapes}
    x, cache = jax.lax.scan(layer, params['embed'][tokens], (layers, *cache))
    return norm(x if whole else x[:, -1]) @ params['unembed'], cache

  @jax.jit
  def sample(params, tokens, key):
    cache = (jnp.zeros((L, len(tokens), S + T, N, H)),) * 2
    logits, cache = forward(params, tokens, cache, 0)

    def step(carry, t):
      logits, cache = carry
      token = jax.random.categorical(jax.random.fold_in(key, t), logits)
      logprob = jnp.take_along_axis(jax.nn.log_softmax(logits), token[:, None], -1)
      return forward(params, token[:, None], cache, S + t), (token, logprob)

    return jax.lax.scan(step, (logits, cache), jnp.arange(T))[1]

  return params | ends, sample, forward


def jax_loop(work):
  """`loop_parts`, all responses at once."""
  import jax

  params, sample, _ = loop_parts(work)
  tokens = np.repeat(prompts(work), work['samples'], axis=0)

  def run(seed):
    jax.block_until_ready(sample(params, tokens, jax.random.key(seed)))

  return run


def _hf(work, cache):
  import torch
  import transformers

  m = work['model']
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  positions = work['prompt_tokens'] + work['response_tokens']
  config = hf_config(m, positions, bos_token_id=None, eos_token_id=None, pad_token_id=0)
  torch.manual_seed(0)
  model = transformers.LlamaForCausalLM(config).eval().to(device, getattr(torch, m['dtype']))
  tokens = torch.from_numpy(prompts(work)).long().to(device)
  most = int(lengths(work).max())
  setting = dict(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=None)
  setting |= dict(max_new_tokens=most, num_return_sequences=work['samples'])
  setting |= dict(cache_implementation='static') if cache == 'static' else {}

  def run(seed):
    torch.manual_seed(seed)
    with torch.inference_mode():
      out = model.generate(tokens, attention_mask=torch.ones_like(tokens), **setting)
    assert out.shape == (work['prompts'] * work['samples'], tokens.shape[1] + most)

  return run


def hf_static(work):
  return _hf(work, 'static')


def hf_dynamic(work):
  return _hf(work, 'dynamic')


class Numbers:
  """A tokenizer for Tunix: a text is numbers, and `never`, which is none of them, ends one."""

  def __init__(self, never: int):
    self.eos_id = lambda: never

  encode = staticmethod(lambda text, **_: list(map(int, text.split())))
  decode = staticmethod(lambda ids, **_: ' '.join(map(str, ids)))
  bos_id = staticmethod(lambda: 1)
  pad_id = staticmethod(lambda: 0)


def tunix(work):
  from tunix.generate import sampler as tunix_sampler

  m = work['model']
  never = m['vocab_size'] + 1

  S, most = work['prompt_tokens'], int(lengths(work).max())
  cache = tunix_sampler.CacheConfig(
    cache_size=S + most + 1,
    num_layers=m['n_layers'],
    num_kv_heads=m['n_kv_heads'],
    head_dim=m['head_dim'],
  )
  sampler = tunix_sampler.Sampler(tunix_model(m), Numbers(never), cache)
  rows = np.repeat(prompts(work)[:, 1:], work['samples'], axis=0)  # it puts bos_id in front
  texts = [' '.join(map(str, row)) for row in rows]

  def run(seed):
    out = sampler(
      texts,
      max_generation_steps=most,
      max_prompt_length=S,
      temperature=1.0,
      top_p=1.0,
      seed=seed,
      eos_tokens=[never],
      return_logprobs=True,
    )
    assert len(out.tokens) == len(texts)

  return run


def copy(work):
  """Bytes read and written, for tokens: what the device's memory can do."""
  import jax
  import jax.numpy as jnp

  x = jnp.ones(2**30, jnp.bfloat16)
  double = jax.jit(lambda x: 2 * x)

  def run(seed):
    for _ in range(10):
      out = double(x)
    out.block_until_ready()
    return 10 * 2 * x.nbytes

  return run


TOOLS = {
  'postscale': postscale,
  'copy': copy,
  'jax-loop': jax_loop,
  'hf-static': hf_static,
  'hf-dynamic': hf_dynamic,
  'tunix': tunix,
}


def serve(tool: str, work: dict) -> None:
  """Answers {'seed': n} by {'seconds', 'tokens', 'peak_memory'}."""

  def setup():
    run = TOOLS[tool](work)

    def answer(seed):
      began = time.perf_counter()
      moved = run(seed)
      return {
        'seconds': time.perf_counter() - began,
        'tokens': moved or int(lengths(work).sum()),
        'peak_memory': peak_memory(),
      }

    return answer

  harness.serve(setup)


if __name__ == '__main__':
  serve(sys.argv[1], json.loads(sys.argv[2]))
