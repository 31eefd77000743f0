"""The tools that `benchmarks.train` compares. One process is one tool:

    python -m benchmarks.train_workers TOOL WORK

TOOL names a function of this file; WORK is a benchmarks.train.Work as JSON. Each function builds
the model and its optimiser, and returns run(steps) -> loss, which waits until the steps are done.
All tools train on one batch of random tokens, the same for all, again and again.
"""

import json
import sys
import time

import numpy as np

from benchmarks import harness


def batch(work) -> np.ndarray:
  """Random tokens, int32 [rows, tokens]."""
  rng = np.random.default_rng(0)
  return rng.integers(0, work['model']['vocab_size'], (work['rows'], work['tokens']), np.int32)


def postscale(work):
  import jax

  jax.config.update('jax_num_cpu_devices', work['data'])  # of no meaning on a GPU
  from scaling import losses, sharding, train_step
  from scaling.model import transformer

  cfg = transformer.ModelConfig(**work['model'])
  mesh = sharding.make_mesh(data=work['data'])
  opt = train_step.OptimizerConfig(b1=0.9, b2=0.95, weight_decay=0.1, clip_norm=1.0)
  how = transformer.Mechanics(**work['mechanics'])
  step = train_step.make_train_step(cfg, losses.cross_entropy, None, opt, mesh, how)
  state = train_step.make_init(cfg, opt, mesh)(jax.random.key(0))
  tokens = batch(work)
  counted = np.arange(tokens.shape[1]) > 0  # the first token has none before it
  data = {
    'tokens': tokens,
    'positions': np.tile(np.arange(tokens.shape[1], dtype=np.int32), (len(tokens), 1)),
    'weights': np.tile(np.float32(counted / counted.sum() / len(tokens)), (len(tokens), 1)),
  }
  data = jax.device_put(data, sharding.batch(mesh))

  def run(steps):
    nonlocal state
    for _ in range(steps):
      state, metrics = step(state, data, 1e-4, 1.0)
    jax.block_until_ready(state)
    return float(metrics['loss'])

  return run


def hf_config(m: dict, positions: int, **others):
  """transformers' Llama of the shapes of a transformer.ModelConfig, for so many positions."""
  import transformers

  return transformers.LlamaConfig(
    vocab_size=m['vocab_size'],
    hidden_size=m['d_model'],
    num_hidden_layers=m['n_layers'],
    num_attention_heads=m['n_heads'],
    num_key_value_heads=m['n_kv_heads'],
    head_dim=m['head_dim'],
    intermediate_size=m['d_ff'],
    max_position_embeddings=positions,
    tie_word_embeddings=m['tied_embeddings'],
    **others,
  )


def _hf(work, compiled):
  import torch
  import transformers

  m = work['model']
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  config = hf_config(m, work['tokens'], use_cache=False)
  half = m['dtype'] == 'bfloat16'
  model = transformers.LlamaForCausalLM(config).to(device)  # float32 parameters, as Postscale's
  opt = torch.optim.AdamW(
    model.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.1, fused=compiled or None
  )
  tokens = torch.from_numpy(batch(work)).long().to(device)
  forward = torch.compile(model) if compiled else model

  def run(steps):
    for _ in range(steps):
      opt.zero_grad(set_to_none=True)
      with torch.autocast(device, torch.bfloat16, enabled=half):
        loss = forward(input_ids=tokens, labels=tokens).loss
      loss.backward()
      opt.step()
    return loss.item()

  return run


def hf_eager(work):
  return _hf(work, compiled=False)


def hf_compile(work):
  return _hf(work, compiled=True)


def tunix_model(m: dict):
  """Tunix's Llama of the shapes of a transformer.ModelConfig."""
  from flax import nnx
  from tunix.models.llama3 import model as llama

  if m['dtype'] != 'float32':
    raise harness.Skip('its models compute in the precision of their parameters')
  config = llama.ModelConfig(
    num_layers=m['n_layers'],
    vocab_size=m['vocab_size'],
    embed_dim=m['d_model'],
    hidden_dim=m['d_ff'],
    num_heads=m['n_heads'],
    head_dim=m['head_dim'],
    num_kv_heads=m['n_kv_heads'],
    rope_theta=10_000,
    norm_eps=1e-6,
    weight_tying=m['tied_embeddings'],
  )
  return llama.Llama3(config, rngs=nnx.Rngs(0))


def tunix(work):
  import jax
  import jax.numpy as jnp
  import optax
  from flax import nnx
  from tunix.sft import peft_trainer, utils

  model = tunix_model(work['model'])
  trainer = peft_trainer.PeftTrainer(
    model,
    optax.adamw(1e-4, 0.9, 0.95, weight_decay=0.1),
    peft_trainer.TrainingConfig(eval_every_n_steps=10**9),
  )
  tokens = jnp.asarray(batch(work))
  mask = jnp.ones(tokens.shape, bool)
  data = {
    'input_tokens': tokens,
    'input_mask': mask,
    'positions': utils.build_positions_from_mask(mask),
    'attention_mask': utils.make_causal_attn_mask(mask),
  }
  step, _ = trainer.jit_train_and_eval_step(cache_nnx_graph=True)  # as its own training loop

  def run(steps):
    for _ in range(steps):
      loss, _, _ = step(data)
    jax.block_until_ready(nnx.state(model))
    return float(loss)

  return run


def nanodo(work):
  """nanodo's model, which has positions that are learned and two matrices in its GELU MLP where
  the others have three: 1.5 times as wide, it has as many products. One step is the gradient of the
  mean cross-entropy and optax's AdamW, as in its trainer, whose data loaders are left out."""
  import jax
  import optax
  from nanodo import model as nanodo_model

  m = work['model']
  config = nanodo_model.DoConfig(
    D=m['d_model'],
    H=m['n_heads'],
    L=work['tokens'],
    N=m['n_layers'],
    V=m['vocab_size'],
    F=3 * m['d_ff'] // 2,
    dtype=jax.numpy.dtype(m['dtype']),
    fsdp_enabled=False,
  )
  model = nanodo_model.TransformerDo(config)
  opt = optax.adamw(1e-4, 0.9, 0.95, weight_decay=0.1)
  tokens = jax.numpy.asarray(batch(work))
  params = jax.jit(model.init)(jax.random.key(0), tokens[:1])['params']
  state = params, jax.jit(opt.init)(params)

  def loss_of(params):
    logits = model.apply({'params': params}, tokens[:, :-1])
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

  def step(state):
    params, moments = state
    loss, gradient = jax.value_and_grad(loss_of)(params)
    updates, moments = opt.update(gradient, moments, params)
    return (optax.apply_updates(params, updates), moments), loss

  step = jax.jit(step, donate_argnums=0)

  def run(steps):
    nonlocal state
    for _ in range(steps):
      state, loss = step(state)
    jax.block_until_ready(state)
    return float(loss)

  return run


def matmul(work):
  """Square products, float32 or bfloat16, of JAX: what the machine can do. Here a step is one."""
  import jax
  import jax.numpy as jnp

  n, dtype = work['peak_size'], work['model']['dtype']
  a = jax.random.normal(jax.random.key(0), (n, n)).astype(dtype)
  product = jax.jit(lambda a, b: jnp.matmul(a, b))

  def run(steps):
    for _ in range(steps):
      out = product(a, a)
    out.block_until_ready()
    return 0.0

  return run


TOOLS = {
  'postscale': postscale,
  'hf-eager': hf_eager,
  'hf-compile': hf_compile,
  'tunix': tunix,
  'nanodo': nanodo,
  'matmul': matmul,
}


def peak_memory() -> int:
  """Bytes: the device's high-water mark on a GPU, this process's resident one on a CPU."""
  if 'torch' in sys.modules and sys.modules['torch'].cuda.is_available():
    return sys.modules['torch'].cuda.max_memory_allocated()
  if 'jax' in sys.modules:
    stats = sys.modules['jax'].local_devices()[0].memory_stats() or {}
    if 'peak_bytes_in_use' in stats:
      return stats['peak_bytes_in_use']
  return harness.resident_peak()


def serve(tool: str, work: dict) -> None:
  """Answers {'steps': n} by {'seconds', 'loss', 'peak_memory'}."""

  def setup():
    run = TOOLS[tool](work)

    def answer(steps):
      began = time.perf_counter()
      loss = run(steps)
      return {
        'seconds': time.perf_counter() - began,
        'loss': loss,
        'peak_memory': peak_memory(),
      }

    return answer

  harness.serve(setup)


if __name__ == '__main__':
  serve(sys.argv[1], json.loads(sys.argv[2]))
