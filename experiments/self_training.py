"""Rounds of self-training: do models go on learning from their own right answers, at what price?

    python run.py --config=experiments/self_training.py --workdir=results/self_training
    python run.py --config=experiments/self_training.py:unverified --workdir=results/self_training
    python -m analysis.self_training results/self_training --out=results/self_training/figures

STaR, ReST-EM and RAFT, three rounds each, which the verifier filters; 'unverified': rounds on all
samples, on those that a vote or the log-prob chooses, and of SPIN.

Time: 2.5 min on 2 cores, from the base that synthetic_vs_human.py leaves.

Seen at seed 2, 75k, 128 problems x 64, pass@1 and pass@16 of the SFT branch 32.1 and 88.3 %: RAFT,
which goes on from the policy, has 69.0, 78.0 and 85.5 % after one, two and three rounds (+53.4
points, 95 % over problems +47.6 to +58.6), and pass@16 88.3, 90.7 and 94.6 % (+6.4, +1.4 to +11.2),
while entropy falls from 0.40 to 0.05 nats a token and distinct-4 from .16 to .03. The held-out loss
of human solutions falls as well, from 0.34 to 0.18 nats, where it had risen on test problems that
were half of a kind that no pool to learn from had. Not that own answers teach more than human data:
524k more tokens of these alone take the same branch to 75.0 and 97.0 % with 459 GFLOP, where RAFT
has spent 407 and 584 after one round and two (synthetic_vs_human.py). STaR and ReST-EM, which begin
again from the pretrained base in each round, end at 10.7 and 13.0 % (-21.4, -25.9 to -16.9, and
-19.0, -23.2 to -15.2), pass@16 46 and 44 %, on 1,470 and 5,547 examples in the last round; human
data of as many tokens a round, from that base, give 16.7 and 80 % (prompts_vs_responses.py).

Unverified (4 min more), three rounds from the same branch: on all samples pass@1 falls to 19.3 %
(-12.8 points, -15.2 to -10.2) and pass@16 to 83 % (-5.7, -8.9 to -2.2); on those of a vote pass@1
rises to 37.6 % (+5.5, +0.6 to +10.6), the first round being the best, and pass@16 falls to 57 %
(-31.7, -38.7 to -25.2); on the likeliest of each problem's to 42.5 % (+10.5, +5.9 to +15.3), all of
it in the first round, and pass@16 to 60 % (-28.3, -35.1 to -21.8), entropy to a quarter, while the
held-out loss of human solutions rises from 0.34 to 0.76 and 0.92. SPIN changes nothing beyond noise
(+0.6, -1.3 to +2.6). On sums of one and two digits no round had gained without a verifier.
"""

from ml_collections import ConfigDict

from scaling import config


def base(arg: str = '') -> ConfigDict:
  """A model fine-tuned on 3,000 human solutions, and 6,144 more prompts without: the base of the
  four experiments on synthetic data, which share its stages in one workdir."""
  c = config.default()
  c.seeds = (2,)
  c.data.task = 'chain_sum(min_terms=2,max_terms=2,min_digits=2,max_digits=2)'
  c.data.row_tokens = 48
  c.data.attempts = 0.1  # STaR shows an answer, self-correction an attempt
  c.data.sft_problems, c.data.rl_problems = 3_000, 6_144
  c.data.test_problems = 128
  c.pretrain.tasks = ('chain_sum(min_terms=3,max_terms=3,min_digits=1,max_digits=1)',)
  c.pretrain.examples, c.pretrain.tokens = 2_000, (98_304,)
  c.model.sizes = ('75k',)
  c.sft.tokens = (524_288,)
  c.sample.n = c.sample.block_samples = 64
  c.sample.block_prompts = 16
  c.synthetic.sizes = ('75k',)
  c.synthetic.problems, c.synthetic.n = 2_048, 8
  c.synthetic.tokens = 393_216
  if arg == 'smoke':  # every kind of stage, in a minute; its numbers mean nothing
    c.seeds = (0,)
    c.data.sft_problems, c.data.rl_problems, c.data.validation_problems = 500, 200, 64
    c.data.test_problems = 16
    c.pretrain.examples, c.pretrain.tokens = 500, (6_144,)
    c.model.sizes = c.synthetic.sizes = ('25k',)
    c.sft.tokens = (98_304,)
    c.sample.n = c.sample.block_samples = 32
    c.synthetic.problems, c.synthetic.tokens = 64, 12_288
  return c


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('self_training', arg, ('smoke', 'unverified'))
  c = base(arg)
  c.name = 'self_training' + (f'_{arg}' if arg else '')
  c.synthetic.runs = ('star', 'rest_em', 'raft')
  if arg:
    c.synthetic.runs = (
      "unfiltered(start='policy', rounds=3)",
      'majority(rounds=3)',
      'best_of_n(rounds=3)',
      'spin',
    )
  if arg == 'smoke':
    c.synthetic.runs = (
      'star(rounds=2)', 'raft(rounds=2)', 'majority', 'self_correction', 'spin(rounds=1)',
    )  # fmt: skip
  c.synthetic.learning_rate = 1e-3
  return c
