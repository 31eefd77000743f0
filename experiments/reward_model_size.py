"""Over-optimisation: RL against outcome reward models of two sizes, gold beside proxy over KL.

    python run.py --config=experiments/reward_model_size.py --workdir=results/test_time
    python -m analysis.reinforcement results/test_time --study=reward_model_size

It shares its base with the experiments on test-time compute. Every update records what the reward
model says (proxy), what the verifier says (gold), and the KL to the SFT parent.

Time: 2 min 8 s on 2 cores from the base and reward models of best_of_n.py, 3 more without.

Seen at seed 2, 75k, 60 updates of 32 x 16 (docs/results/rl-overoptimization.png, audits.png):
against the verifier nothing is gained: test pass@1 goes from 53.9 to 52.7 %, by -1.2 points (95 %
-3.8 to +1.0), majority@16 by -4.6 (-8.8 to -1.0), pass@16 by -3.1 (-5.9 to -0.7); of the policy's
own samples, first and last ten updates, it passes 51 and 52 %, at a root of the KL of 0.6. Against
the reward models of 25k and 75k the proxy rises, .55 to .63 and .56 to .71, and gold falls, 45 to
0.5 % both, at a root of the KL of 7.3 and 6.5. It falls from a root of 0.7 on, and what it rises by
before is within noise, so Gao's law has a negative alpha here (-.27 and -.23). pass@1 falls by 53.5
(47.7 to 58.8) and 52.1 points (46.4 to 57.6), to 0.4 and 1.8 %. At an equal KL the larger one costs
a little less gold; one seed does not say that it is better.

The audit had said so: balanced accuracies of .77 and .77, and yet of a right and a wrong sample of
one problem they prefer the right one in .52 and .52 (s.e. .03), and the best of 16 by them is worse
than one sample. At its default, .55, config.rl.least_accuracy refuses both for that;
here it is 0.

On sums of one and two digits RL against the verifier had gained 9.2 points, all on one-digit sums.
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
