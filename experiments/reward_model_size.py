"""Over-optimisation: RL against outcome reward models of two sizes, gold beside proxy over KL.

    python run.py --config=experiments/reward_model_size.py --workdir=results/test_time
    python -m analysis.reinforcement results/test_time --study=reward_model_size

It shares its base with the experiments on test-time compute. Every update records what the reward
model says (proxy), what the verifier says (gold), and the KL to the SFT parent.

Time: 6.5 minutes on 2 cores with other work beside it, its base included.

Seen at seed 2, 75k, 60 updates of 32 x 16 (docs/results/rl-overoptimization.png, audits.png):
against the verifier test pass@1 rises from 63.6 to 72.7 %, by 9.2 points (95 % 5.5 to 12.9), on
one-digit sums alone (47 to 68 %; of two digits 78 to 77), pass@16 by -0.6 (-2.6 to +1.1); of the
policy's own samples, first and last ten updates, it passes 64 and 67 %, at a root of the KL of 0.6.
Against the reward models of 25k and 75k the proxy rises, .62 to .84 and .77 to .85, and gold falls
from the first nats on, 61 to 0.1 and 59 to 5.5 %, at a root of the KL of 8.1 and 5.2: there is no
rise before the fall, so Gao's law has a negative alpha here (-.32 and -.21). pass@1 falls by 63.5
(58.2 to 69.2) and 61.4 points (55.8 to 67.1), to 0.1 and 2.2 %. At an equal KL the larger one costs
less gold here; one seed does not say that it is better.

The audit had said so: balanced accuracies of .74 and .69, and yet of a right and a wrong sample of
one problem they prefer the right one in .47 and .46 (s.e. .03), so the best of 16 by them is below
one sample. At its default config.rl.least_accuracy refuses both for that; here it is 0.

On an earlier draw, of pass@1 36 %, RL against the verifier changed nothing (+0.4, -2.5 to +3.2),
and both reward models fell alike.
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
