"""Over-optimisation: RL against outcome reward models of two sizes, gold beside proxy over KL.

    python run.py --config=experiments/reward_model_size.py --workdir=results/test_time
    python -m analysis.reinforcement results/test_time --study=reward_model_size

It shares its base with the experiments on test-time compute. Every update records what the reward
model says (proxy), what the verifier says (gold), and the KL to the SFT parent.

Time: 7 min 6 s on 2 cores, its base included.

Seen at seed 2, 75k, 60 updates of 32 x 16 (docs/results/rl-overoptimization.png): against the
verifier gold goes from 37 to 37 % at a root of the KL of 0.8; on the test problems pass@1 changes
by +0.4 points (95 % -2.5 to +3.2). Against the reward models of 25k and 75k the proxy rises, .43 to
.74 and .47 to .70, and gold falls from the first nats on, 33 to 0.2 and 35 to 0.6 %, at a root of
the KL of 9.6 and 6.9: there is no rise before the fall, so Gao's law has a negative alpha here
(-.18 and -.17), and the larger reward model is no better; pass@1 falls by 35.5 (29.7 to 40.8) and
35.1 points. On a base before this one, with other packing, it was the same, and the audit had said
so: balanced accuracies of .71 and .69, and yet of a right and a wrong sample of one problem they
prefer the right one in .53 and .48 (s.e. .03), so best of 16 by them is below one sample.
At its default config.rl.least_accuracy
refuses both for that; here it is 0.
"""

from ml_collections import ConfigDict

from experiments import best_of_n
from scaling import config


def base(arg: str = '') -> ConfigDict:
  """A policy, and RL of it from where its reward models learned from its samples."""
  c = best_of_n.base(arg)
  policy = c.model.sizes[-1]
  c.scorers.n, c.scorers.per_problem, c.scorers.epochs = 8, 1, 3.0
  c.scorers.learning_rate = 2e-3
  c.scorers.policies = c.rl.sizes = (policy,)
  c.rl.sft_tokens, c.rl.prompts = c.sft.tokens, 8 if arg else 32
  c.rl.updates = (2,) if arg else (30, 60)
  c.rl.learning_rate, c.rl.warmup_steps = 3e-4, 10
  c.rl.measure_kl, c.rl.least_accuracy = True, 0.0  # to see what it would have refused
  return c


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('reward_model_size', arg)
  c = base(arg)
  c.name = 'reward_model_size' + ('_smoke' if arg else '')
  c.scorers.objectives = ('outcome',)
  c.scorers.sizes = c.model.sizes
  rewards = ('verifier', *(f'outcome {size}' for size in c.scorers.sizes))
  c.rl.runs = tuple(f'grpo(reward={reward!r})' for reward in rewards)
  return c
