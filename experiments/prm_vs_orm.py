"""Process or outcome: RL against a reward model of steps, and against one of verdicts.

    python run.py --config=experiments/prm_vs_orm.py --workdir=results/test_time
    python -m analysis.reinforcement results/test_time --study=prm_vs_orm

It shares its base with the experiments on test-time compute, and reward models with best_of_n.py.

Time: 2 min 38 s on 2 cores from the base of reward_model_size.py, 5 more without.

Seen at seed 2, 75k, 60 updates of 32 x 16 samples, 128 test problems x 64: both are over-optimised.
pass@1 falls from 35.5 to 0.4 % against the outcome model and to 0.0 % against the process model,
pass@16 from 83.5 to 1.3 and 0.0 %, while the reward rises, .47 to .70 and .49 to .63, at a root of
the KL of 6.9 and 7.4. After 30 updates the outcome model has left 5.2 % and the process model 2.6
%; on a base before this one (16.5 %) it was the other way round, 2.8 and 5.9: which is the slower
poison, one seed does not say. Neither ranks samples of one problem: on that base AUC within a
problem was .52 and .50 (s.e. .03).
"""

from ml_collections import ConfigDict

from experiments import reward_model_size
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('prm_vs_orm', arg)
  c = reward_model_size.base(arg)
  c.name = 'prm_vs_orm' + ('_smoke' if arg else '')
  c.scorers.objectives = ('outcome', 'process')
  c.scorers.sizes = (c.model.sizes[-1],)
  c.rl.runs = tuple(f"grpo(reward='{kind} {c.model.sizes[-1]}')" for kind in c.scorers.objectives)
  return c
