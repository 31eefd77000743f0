"""What a public model's post-training would need on a TPU pod; compiled, not run.

    python run.py --config=experiments/pod.py:8b-64 --compile_for=v5p:4x4x4
"""

from ml_collections import ConfigDict

from scaling import config

MODELS = {'1b': 'llama-3.2-1b', '8b': 'llama-3.1-8b'}
# By count of chips: the mesh, and how a step is computed. Rows are of 4,096 tokens, 256 a step.
PODS = {
  4: (dict(fsdp=4), dict(microbatches=8)),
  16: (dict(fsdp=16), dict(microbatches=16)),
  64: (dict(fsdp=64), dict(microbatches=2)),
  256: (dict(fsdp=64, tensor=4), dict(microbatches=4)),
}


def get_config(arg: str = '') -> ConfigDict:
  name, _, chips = (arg or '1b').partition('-')
  c = config.default()
  c.name = 'pod' + ('_smoke' if arg == 'smoke' else '')
  mesh, mechanics = PODS[int(chips or 64)]
  c.mesh.update(mesh)
  c.mechanics.update(mechanics)
  c.mechanics.remat = 'block'
  c.data.vocab = 'bytes'
  c.data.row_tokens = 4096
  c.model.sizes = (MODELS.get(name, '75k'),)
  c.model.dtype = 'bfloat16'
  c.mechanics.loss_chunk = 512
  c.pretrain.rows = c.sft.rows = 256
  c.sft.tokens = (1e9,)
  c.rl.updates = (500,)
  c.rl.sizes, c.rl.sft_tokens = c.model.sizes, c.sft.tokens
  c.rl.prompts, c.rl.group, c.rl.minibatches = 64, 8, 2
  c.rl.response_tokens = c.sample.response_tokens = 3072
  c.data.rl_problems, c.data.test_problems = 10_000, 512
  c.sample.n, c.sample.block_prompts, c.sample.block_samples = 32, 64, 8
  if arg == 'smoke':
    c.data.row_tokens, c.sft.rows, c.pretrain.rows, c.sft.tokens = 256, 16, 16, (1e5,)
    c.rl.sft_tokens = c.sft.tokens
    c.mesh.update(dict(fsdp=4))
    c.mechanics.microbatches = 2
    c.mechanics.loss_chunk = 64
    c.rl.prompts = c.sample.block_prompts = 8
    c.rl.response_tokens = c.sample.response_tokens = 64
  return c
