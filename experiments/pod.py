"""Post-training a public model on a TPU pod: SFT on 1B tokens, 500 updates of GRPO, banks.

    python run.py --config=experiments/pod.py:8b-64 --compile_for=v5p:4x4x4
    python run.py --config=experiments/pod.py:8b-64 --workdir=/shared/pod --multihost

The argument is a model and a count of chips: 1b or 8b (Llama 3.2 and 3.1), and 16, 64 or 256; it
sets the mesh and how a step is computed, for v5e, v5p and v6e in turn. Rows are of 4,096 tokens, a
million of them a step; a response may have 3,072.

Time: compiling the five programs takes 2 to 5 minutes on 2 cores. What was found: docs/pods.md.

As written the task is a small one, in bytes, from random parameters: shapes are all that is asked
for here. For a run on the pod set data.task, data.vocab (the model's tokenizer) and init_from.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from scaling import config
from scaling.errors import BadInput

MODELS = {'1b': 'llama-3.2-1b', '8b': 'llama-3.1-8b'}


class Pod(NamedTuple):
  """How a model is laid over some chips, and what of a step they have memory for."""

  data: int
  fsdp: int
  tensor: int
  remat: str
  microbatches: int
  prompts: int = 64  # at a time in RL and for banks; 8 responses each


# fsdp is 16 at most: over a whole 3-D torus, or both dimensions of 16x16, libtpu has no gather or
# no scatter of its own and sends twice as much.
PODS = {
  '1b-16': Pod(data=1, fsdp=16, tensor=1, remat='block', microbatches=4),
  '8b-16': Pod(data=1, fsdp=4, tensor=4, remat='block', microbatches=32, prompts=32),
  '1b-64': Pod(data=4, fsdp=16, tensor=1, remat='none', microbatches=1),
  '8b-64': Pod(data=4, fsdp=16, tensor=1, remat='dots', microbatches=1),
  '1b-256': Pod(data=16, fsdp=16, tensor=1, remat='block', microbatches=1, prompts=256),
  '8b-256': Pod(data=16, fsdp=16, tensor=1, remat='dots', microbatches=1, prompts=256),
  'smoke': Pod(data=1, fsdp=4, tensor=1, remat='block', microbatches=2, prompts=8),
}


def get_config(arg: str = '') -> ConfigDict:
  arg = arg or '1b-64'
  if arg not in PODS:
    raise BadInput(f'experiments/pod.py has no variant {arg!r}; there are: {", ".join(PODS)}')
  pod = PODS[arg]
  c = config.default()
  c.name = 'pod_' + arg.replace('-', '_')
  c.mesh.data, c.mesh.fsdp, c.mesh.tensor = pod.data, pod.fsdp, pod.tensor
  c.mechanics.remat, c.mechanics.microbatches = pod.remat, pod.microbatches
  c.mechanics.loss_chunk = 512  # float32 logits of 128,256 tokens: 0.25 GiB a row
  c.model.sizes = (MODELS.get(arg.partition('-')[0], '25k'),)
  c.model.dtype = 'bfloat16'
  c.data.vocab = 'bytes'
  c.data.row_tokens = 4096
  c.data.rl_problems, c.data.test_problems = 16_384, 512
  c.optimizer.b2 = 0.95
  c.sft.tokens, c.sft.rows = (1e9,), 256
  c.sft.learning_rate, c.sft.warmup_steps = 2e-5 * 2048 / 64, 50
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (500,), c.model.sizes, c.sft.tokens
  c.rl.prompts, c.rl.group = pod.prompts, 8
  c.rl.minibatches = pod.prompts * 8 // 256 or 1
  c.rl.response_tokens = c.sample.response_tokens = 3072
  c.sample.n, c.sample.block_prompts, c.sample.block_samples = 32, pod.prompts, 8
  if arg == 'smoke':
    c.data.row_tokens, c.mechanics.loss_chunk = 256, 64
    c.sft.tokens = c.rl.sft_tokens = (8192,)
    c.sft.rows = 16
    c.rl.updates = (2,)
    c.rl.response_tokens = c.sample.response_tokens = 64
  return c
