"""Over-optimisation: RL against outcome reward models of two sizes, gold beside proxy over KL.

    python run.py --config=experiments/reward_model_size.py --workdir=results/test_time
    python -m analysis.reinforcement results/test_time --study=reward_model_size

It shares its base with the experiments on test-time compute. Every update records what the reward
model says (proxy), what the verifier says (gold), and the KL to the SFT parent.

Time: 15 minutes of CPU, about 17 minutes on 2 cores that did much other work, its base included.

Seen at seed 2, 75k, 60 updates of 32 x 16 (docs/results/rl-overoptimization.png): against the
verifier gold goes from 43 to 46 % at a root of the KL of 0.8; on the test problems pass@1 42.5 to
45.6 %. Against the reward models of 25k and 75k the proxy rises, .39 to .62 and .38 to .63, and
gold falls from the first nats on, 42 to 0.3 and 41 to 0.2 %, at a root of the KL of 8: there is no
rise before the fall, so Gao's law has a negative alpha here (-.22 and -.20), and the larger reward
model is no better. Their audit had said so:
balanced accuracies of .71 and .69, with a ceiling of 60 and 55 % if mistakes were independent; but
of a right and a wrong sample of one problem they prefer the right one in .53 and .48 (s.e. .03),
and best of 16 by them, 42 and 41 %, is below one sample. At its default config.rl.least_accuracy
refuses both for that; here it is 0.
"""

from ml_collections import ConfigDict

from experiments import best_of_n


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
  c = base(arg)
  c.name = 'reward_model_size' + ('_smoke' if arg else '')
  c.scorers.objectives = ('outcome',)
  c.scorers.sizes = c.model.sizes
  rewards = ('verifier', *(f'outcome {size}' for size in c.scorers.sizes))
  c.rl.runs = tuple(f'grpo(reward={reward!r})' for reward in rewards)
  return c
