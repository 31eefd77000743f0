"""The tools that `benchmarks.rl` compares. One process is one tool:

    python -m benchmarks.rl_workers TOOL WORK

TOOL names a function of this file; WORK is a work of benchmarks.rl as JSON. Each function builds a
model with random parameters and returns run(updates) -> seconds of so many updates.
"""

import json
import sys
import time
import types

import numpy as np

from benchmarks import harness
from benchmarks.train_workers import hf_config, peak_memory, tunix_model


def prompts(work) -> np.ndarray:
  """Random tokens, int32 [64, prompt_tokens]: the pool of prompts."""
  rng = np.random.default_rng(0)
  return rng.integers(3, work['model']['vocab_size'], (64, work['prompt_tokens']), np.int32)


def reward(tokens) -> float:
  """Of one response: something that varies within a group."""
  return float(sum(map(int, tokens)) % 2)


def postscale(work):
  import jax

  jax.config.update('jax_num_cpu_devices', work['data'])
  from scaling import compute, losses, sample_step, sharding, train_step
  from scaling.data.batches import Problem
  from scaling.model import transformer
  from scaling.rewards.feedback import Reward
  from scaling.stages import carried, rl

  cfg = transformer.ModelConfig(**work['model'])
  mesh = sharding.make_mesh(data=work['data'])
  how = transformer.Mechanics(microbatches=max(1, work['prompts'] // work['data'] // 2))
  P, G, S, R = (work[k] for k in ('prompts', 'group', 'prompt_tokens', 'response_tokens'))
  shape = sample_step.SampleShape(P, G, G, S, R)
  opt = train_step.OptimizerConfig(0.9, 0.95, 0.1, 1.0)
  never = cfg.vocab_size  # a stop token that is not among the model's
  vocab = types.SimpleNamespace(
    name='numbers', size=never + 1, stop=never, prompt=lambda text: list(map(int, text.split()))
  )
  vocab.decode = lambda tokens: ' '.join(map(str, tokens))
  recipe = losses.ALGORITHMS['grpo']._asdict() | dict(
    seed=0, temperature=1.0, curriculum='', kl_coef=0.0, kl_in='loss', kl='k3', entropy_coef=0.0,
    importance_cap=0.0, epochs=1, minibatches=1, learning_rate=1e-5, warmup_steps=0, teacher='',
    kl_target=0.0,
  )  # fmt: skip

  def feedback(update, problems, texts, sequences, lengths, stopped):
    values = np.array([[reward(text.split()) for text in group] for group in texts])
    return Reward(values, values, 0, compute.empty())

  texts = [' '.join(map(str, row)) for row in prompts(work)]
  loss, options, _ = rl.loss_of(recipe)
  tools = rl.Tools(
    recipe=recipe, cfg=cfg, critic_cfg=None, how=how, mesh=mesh, vocab=vocab, style='short',
    problems=[Problem(str(i), 'none', text, '', '', {}) for i, text in enumerate(texts)],
    shape=shape, shared=True, sample=sample_step.make_sampler(cfg, shape, mesh, how),
    score=train_step.make_score(cfg, mesh, how),
    train=train_step.make_train_step(cfg, loss, options, opt, mesh, how),
    critic_score=None, critic_train=None, reference=None, reward=feedback,
    audited=compute.empty(), teacher=None, room=0,
  )  # fmt: skip
  state = train_step.make_init(cfg, opt, mesh)(jax.random.key(0))
  side, key = carried.Side([], 0, np.full(len(texts), np.nan), 0.0, None), jax.random.key(1)

  def run(updates):
    nonlocal state, side
    began = time.perf_counter()
    for update in range(updates):
      taken, side, _ = rl.draw(tools, state.params, update, side, key)
      state, side, row, _ = rl.learn(tools, state, side, taken)
      assert (taken.lengths == R).all() and np.isfinite(row['loss'])
    jax.block_until_ready(state)
    return time.perf_counter() - began

  return run


def trl(work):
  import tempfile

  import datasets
  import tokenizers
  import transformers
  from trl import GRPOConfig, GRPOTrainer

  m = work['model']
  words = {str(i): i for i in range(m['vocab_size'])}
  inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token='0'))
  inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=inner, pad_token='0', eos_token='1', padding_side='left'
  )
  positions = work['prompt_tokens'] + work['response_tokens']
  config = hf_config(m, positions, bos_token_id=None, eos_token_id=1, pad_token_id=0)
  model = transformers.LlamaForCausalLM(config)
  texts = [' '.join(map(str, row)) for row in prompts(work)] * 16
  rows = datasets.Dataset.from_dict({'prompt': texts})
  rewards = lambda completion_ids, **_: [reward(ids) for ids in completion_ids]
  setting = dict(
    output_dir=tempfile.mkdtemp(),
    per_device_train_batch_size=work['prompts'] * work['group'],
    num_generations=work['group'],
    max_completion_length=work['response_tokens'],
    gradient_accumulation_steps=1,
    num_iterations=1,
    beta=0.0,
    temperature=1.0,
    top_k=0,
    loss_type='grpo',
    learning_rate=1e-5,
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    logging_steps=10**6,
    save_strategy='no',
    report_to=[],
    disable_tqdm=True,
    cache_implementation='static',
    generation_kwargs={'min_new_tokens': work['response_tokens']},
  )
  times = []

  class Clock(transformers.TrainerCallback):
    def on_step_begin(self, *args, **_):
      times.append(time.perf_counter())

    def on_step_end(self, *args, **_):
      times.append(time.perf_counter())

  def run(updates):  # its trainer runs to max_steps: one more than is timed, which warms it up
    times.clear()
    trainer = GRPOTrainer(
      model=model,
      reward_funcs=rewards,
      args=GRPOConfig(max_steps=updates + 1, **setting),
      train_dataset=rows,
      processing_class=tokenizer,
      callbacks=[Clock()],
    )
    trainer.train()
    return times[-1] - times[1]  # from the end of the first update

  return run


def jax_loop(work):
  """What one writes first: the plain sampler of benchmarks.sample, then autodiff of the loss over
  whole rows."""
  import jax
  import jax.numpy as jnp
  import optax

  from benchmarks import sample_workers

  P, G, S, R = (work[k] for k in ('prompts', 'group', 'prompt_tokens', 'response_tokens'))
  sampling = work | {'samples': G, 'rows': G, 'mean_length': 0, 'mechanics': {}}
  params, sample, forward = sample_workers.loop_parts(sampling)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5, 0.9, 0.95))
  opt_state = optimizer.init(params)
  m = work['model']
  L, N, H = m['n_layers'], m['n_heads'], m['head_dim']

  @jax.jit
  def step(params, opt_state, tokens, advantages, old_logp):
    def loss(params):
      cache = (jnp.zeros((L, P * G, S + R, N, H)),) * 2
      logits, _ = forward(params, tokens, cache, 0, whole=True)
      chosen = jnp.take_along_axis(
        jax.nn.log_softmax(logits[:, S - 1 : -1]), tokens[:, S:, None], -1
      )
      ratio = jnp.exp(chosen[..., 0] - old_logp)
      return -jnp.minimum(ratio * advantages, jnp.clip(ratio, 0.8, 1.2) * advantages).mean()

    updates, opt_state_ = optimizer.update(jax.grad(loss)(params), opt_state, params)
    return optax.apply_updates(params, updates), opt_state_

  pool = prompts(work)

  def run(updates):
    nonlocal params, opt_state
    began = time.perf_counter()
    for update in range(updates):
      asked = np.repeat(pool[(update * P + np.arange(P)) % len(pool)], G, axis=0)
      drawn, logp = sample(params, asked, jax.random.key(update))
      drawn, logp = np.asarray(drawn).T, np.asarray(logp)[..., 0].T
      values = np.array([reward(row) for row in drawn]).reshape(P, G)
      spread = values.std(axis=1, ddof=1, keepdims=True) + 1e-4
      advantages = ((values - values.mean(axis=1, keepdims=True)) / spread).reshape(-1, 1)
      params, opt_state = step(
        params, opt_state, np.concatenate([asked, drawn], 1), advantages, logp
      )
    jax.block_until_ready(params)
    return time.perf_counter() - began

  return run


def tunix(work):
  import jax
  import optax
  from jax.sharding import Mesh
  from tunix.rl import rl_cluster
  from tunix.rl.grpo import grpo_learner
  from tunix.rl.rollout import base_rollout

  from benchmarks.sample_workers import Numbers

  P, S, R = (work[k] for k in ('prompts', 'prompt_tokens', 'response_tokens'))
  never = work['model']['vocab_size'] + 1
  mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ('fsdp', 'tp'))
  cluster = rl_cluster.RLCluster(
    actor=tunix_model(work['model']),
    tokenizer=Numbers(never),
    cluster_config=rl_cluster.ClusterConfig(
      role_to_mesh={role: mesh for role in rl_cluster.Role},
      training_config=rl_cluster.RLTrainingConfig(
        actor_optimizer=optax.adamw(1e-5, 0.9, 0.95, weight_decay=0.1),
        eval_every_n_steps=10**9,
        max_steps=10**9,
        mini_batch_size=P,
        train_micro_batch_size=P,
      ),
      rollout_config=base_rollout.RolloutConfig(
        max_tokens_to_generate=R,
        max_prompt_length=S,
        kv_cache_size=S + R + 1,
        temperature=1.0,
        top_p=1.0,
        eos_tokens=[never],
      ),
    ),
  )
  learner = grpo_learner.GRPOLearner(
    cluster,
    grpo_learner.GRPOConfig(num_generations=work['group'], num_iterations=1, beta=0.0, epsilon=0.2),
    reward_fns=lambda prompts, completions, **_: [reward(text.split()) for text in completions],
  )
  texts = [' '.join(map(str, row)) for row in prompts(work)[:, 1:]]  # it puts bos_id in front

  def run(updates):
    began = time.perf_counter()
    batches = [texts[i * P % len(texts) :][:P] for i in range(updates)]
    learner.train([{'prompts': np.array(batch)} for batch in batches])
    return time.perf_counter() - began

  return run


TOOLS = {'postscale': postscale, 'trl': trl, 'tunix': tunix, 'jax-loop': jax_loop}


def serve(tool: str, work: dict) -> None:
  """Answers {'updates': n} by {'seconds', 'peak_memory'}."""

  def setup():
    run = TOOLS[tool](work)
    return lambda updates: {'seconds': run(updates), 'peak_memory': peak_memory()}

  harness.serve(setup)


if __name__ == '__main__':
  serve(sys.argv[1], json.loads(sys.argv[2]))
