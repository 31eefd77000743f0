"""Process or outcome: RL against a reward model of steps, and against one of verdicts.

    python run.py --config=experiments/prm_vs_orm.py --workdir=results/test_time
    python -m analysis.reinforcement results/test_time --study=prm_vs_orm

It shares its base with the experiments on test-time compute, and reward models with best_of_n.py.

Time: 7 minutes of CPU, its base included.

Seen at seed 2, 75k, 60 updates of 32 x 16 samples, 128 test problems x 64: both are over-optimised.
pass@1 falls from 16.5 to 0.0 % against the outcome model and to 3.3 % against the process model,
pass@16 from 76.8 to 0.2 and 5.3 %, while the reward rises, .12 to .30 and .13 to .45, at a root of
the KL of 7.1 and 7.4. After 30 updates the process model has left 5.9 % (s.e. 1.2) and the outcome
model 2.8 % (.5): steps as rewards are the slower poison, at one seed. Neither reward model ranks
samples of one problem: AUC within a problem .52 and .50 (s.e. .03), over all .62 and .59.
"""

from ml_collections import ConfigDict

from experiments import reward_model_size


def get_config(arg: str = '') -> ConfigDict:
  c = reward_model_size.base(arg)
  c.name = 'prm_vs_orm' + ('_smoke' if arg else '')
  c.scorers.objectives = ('outcome', 'process')
  c.scorers.sizes = (c.model.sizes[-1],)
  c.rl.runs = tuple(f"grpo(reward='{kind} {c.model.sizes[-1]}')" for kind in c.scorers.objectives)
  return c
