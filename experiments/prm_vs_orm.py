"""Process or outcome: RL against a reward model of steps, and against one of verdicts.

    python run.py --config=experiments/prm_vs_orm.py --workdir=results/test_time
    python -m analysis.reinforcement results/test_time --study=prm_vs_orm

It shares its base with the experiments on test-time compute, and reward models with best_of_n.py.

Time: 1 min 38 s on 2 cores after best_of_n.py and reward_model_size.py, 4 more without.

Seen at seed 2, 75k, 60 updates of 32 x 16 samples, 128 test problems x 64: both are over-optimised.
pass@1 falls from 53.9 to 1.8 % against the outcome model and to 0.1 % against the process model,
pass@16 from 93.3 to 4.0 and 1.7 %, while the reward rises, .56 to .71 and .56 to .63, at a root of
the KL of 6.5 both. After 30 updates the outcome model has left 5.3 % and the process model 4.2 %:
which is the slower poison, one seed does not say. Neither ranks samples of one problem: AUC within
a problem .52 and .51 (s.e. .03).
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
