"""Process or outcome: RL against a reward model of steps, and against one of verdicts.

    python run.py --config=experiments/prm_vs_orm.py --workdir=results/test_time
    python -m analysis.reinforcement results/test_time --study=prm_vs_orm

It shares its base with the experiments on test-time compute, and reward models with best_of_n.py.
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
