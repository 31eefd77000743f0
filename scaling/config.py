"""The schema of an experiment: every field with its meaning and default.

An experiment file defines `get_config(arg) -> ConfigDict`: it takes `default()`, sets what differs
and returns it. Unknown keys and wrong types are refused by the ConfigDict itself; `scaling.checks`
has what types cannot say. All budgets are resolved into whole steps once, by `study.expand`.

A token budget counts positions of packed rows (rows x row_tokens a step; a few per cent of them are
padding). Records hold real tokens: the positions times the pool's mean fill.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from scaling.errors import require


def default() -> ConfigDict:
  """A study with every field at its default: small, valid, and with no RL."""
  c = ConfigDict()
  c.name = 'study'  # names the study within its workdir
  c.seeds = (0,)  # each seed is the whole crossed study over again

  # Where each of model.sizes begins. '': with parameters drawn afresh, of the preset of that name.
  # Else a folder, with {size} in place of the size's name: a Hugging Face checkpoint, or a stage of
  # a Postscale workdir; sizes then are names for what is found there.
  c.init_from = ''
  # Tokens that each of them was pretrained on, for the ledger; (): unknown, and marked so.
  c.init_tokens = ()

  c.data = ConfigDict()
  # A task of reasoning-gym with its arguments, or of a file: jsonl(path='…/train.jsonl'), math,
  # code, responses, messages, from JSONL, JSONL.gz, Parquet or TFDS (data/problem_files.py).
  c.data.task = 'chain_sum(min_terms=3,max_terms=3,min_digits=2,max_digits=2)'
  # The prompt: 'short', a bare expression; 'full', the task's own words; or 'chat', those words as
  # a user's message in the tokenizer's own chat template.
  c.data.style = 'short'
  # Characters (arithmetic, ascii, bytes); bpe(N), N tokens trained on the study's own text; or the
  # path of a tokenizer: a folder with a tokenizer.json, or a SentencePiece file *.model.
  c.data.vocab = 'arithmetic'
  c.data.row_tokens = 64  # positions of a packed row: the longest example a model can see
  c.data.long_examples = 'error'  # those longer than a row: 'error', or 'drop' (counted)
  c.data.seed = 0  # draws the problems; one draw serves all seeds of a study
  c.data.sft_problems = 40_000  # distinct problems with solutions to fine-tune on
  c.data.rl_problems = 4_000  # distinct problems whose prompts RL draws from
  c.data.validation_problems = 512  # held out, for the loss
  c.data.test_problems = 64  # held out, for the rollout bank: the same for every cell
  c.data.reward_problems = 0  # distinct problems whose samples reward models learn from
  # The part of SFT examples that show an earlier attempt, right or wrong, to be revised or judged.
  c.data.attempts = 0.0
  c.data.reversed = 0.0  # … that show a solution, whose prompt is to be written
  # … that are conversations as of rl.turns: a wrong attempt, what it is told, and the solution.
  c.data.corrected = 0.0
  # More tasks, mixed into the SFT pool: so many examples of each for one of data.task; (): as many.
  c.data.sft_tasks = ()
  c.data.sft_rates = ()
  # The Jaccard index of two prompts of a file from which on they count as one problem; 0: off.
  c.data.near_duplicates = 0.0
  # Examples of files with data.ngram words in a row of a held-out prompt: 'error', 'drop' (left out
  # and counted) or 'allow' (counted). contamination.json of the prepared data lists them.
  c.data.contamination = 'error'
  c.data.ngram = 13

  c.model = ConfigDict()
  c.model.sizes = ('25k', '150k')  # presets of scaling/model/presets.py, smallest first
  # None: the preset's own. A public preset has all four; a study's has False, False, True, 10_000.
  c.model.qk_norm = placeholder(bool)
  c.model.qkv_bias = placeholder(bool)
  c.model.tied_embeddings = placeholder(bool)
  c.model.rope_theta = placeholder(float)
  c.model.dtype = 'float32'  # of the matmuls
  c.model.vocab_multiple = 1  # the embedding's rows are padded to a multiple: a tensor axis's size
  c.model.mup_base = 0  # muP relative to this width (rates are given for it); 0: standard

  c.lora = ConfigDict()  # adapters in SFT and RL (2106.09685): the base is frozen
  c.lora.rank = 0  # 0: all parameters are trained
  c.lora.alpha = 16.0  # an adapter adds (alpha / rank) x A B

  c.optimizer = ConfigDict()  # AdamW; see train_step.OptimizerConfig
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.98
  c.optimizer.weight_decay = 0.01
  c.optimizer.clip_norm = 1.0
  c.optimizer.z_loss = 0.0  # weight of (log Z)^2, beside every loss
  # A rate is given for width 64; a model of width d gets rate x (64 / d) ^ width_exponent.
  c.optimizer.width_exponent = 1.0

  c.pretrain = ConfigDict()
  c.pretrain.tasks = ()  # a mixture; loss on every token; () starts SFT from scratch
  c.pretrain.rates = ()  # of the tasks, in any unit; (): equal
  # T: a file's rate is the number of its problems ^ (1 / T), as T5 has it (1910.10683); 0: off.
  c.pretrain.temperature = 0.0
  # Examples of the mixture, distinct but for those of a file that has fewer than its rate asks for.
  c.pretrain.examples = 10_000
  c.pretrain.tokens = ()  # budgets, each a base of its own that all else is crossed with
  c.pretrain.rows = 16  # packed rows in a batch
  c.pretrain.learning_rate = 2e-3
  c.pretrain.warmup_steps = 20
  c.pretrain.decay = 0.2  # the last part of a budget over which the rate falls to 0

  c.sft = ConfigDict()
  c.sft.tokens = (65_536, 131_072, 262_144)  # budgets: one trunk, and a decay branch for each
  # Budgets of distinct tokens, each crossed with all of sft.tokens: so much of the SFT pool, walked
  # again and again. Each is a part of the next, and has a trunk of its own. (): all of the pool.
  # RL, searches, reward models and other stages begin from the largest.
  c.sft.unique_tokens = ()
  c.sft.loss_on = 'responses'  # 'all': prompts are learned too
  c.sft.rows = 16
  c.sft.learning_rate = 2e-3
  c.sft.warmup_steps = 20
  c.sft.decay = 0.2

  c.rl = ConfigDict()
  c.rl.updates = ()  # where one run is measured; () for no RL
  c.rl.sizes = ()  # the model sizes it starts from
  c.rl.sft_tokens = ()  # the SFT budgets it starts from
  # What rewards a response (scaling/rewards/feedback.py): 'verifier'; 'OBJECTIVE SIZE', a reward
  # model of config.scorers; 'judge SIZE', the verdict of a size's largest SFT branch; or 'none'.
  c.rl.reward = 'verifier'
  c.rl.false_positive = 0.0  # the part of wrong responses that the verifier is made to accept
  c.rl.false_negative = 0.0  # … of right ones that it is made to refuse
  # Of a reward model or a judge, audited on the test problems before RL: its balanced accuracy, and
  # how often it prefers the right one of two samples of a problem; 0: any.
  c.rl.least_accuracy = 0.55
  # How it learns, a name of losses.ALGORITHMS: reinforce, ppo, grpo, dr_grpo, dapo, rloo, gspo,
  # cispo, scalerl. The fields after it change one thing each; None: the algorithm's own.
  c.rl.algorithm = 'grpo'
  # Several runs in place of one: each a call of an algorithm, with fields of config.rl that are its
  # own: 'dapo', 'grpo(group=4)', "grpo(reward='outcome 75k', learning_rate=5e-5)".
  c.rl.runs = ()
  c.rl.loss = placeholder(str)  # of losses.POLICY
  c.rl.advantage = placeholder(str)  # of losses.ADVANTAGES, or 'gae': a critic, a model of its own
  c.rl.average = placeholder(str)  # of losses.AVERAGES
  c.rl.clip_low = placeholder(float)
  c.rl.clip_high = placeholder(float)
  c.rl.zero_variance = placeholder(str)  # groups of equal rewards: 'keep', 'drop', 'resample'
  c.rl.overlong_cache = placeholder(int)  # the last tokens of a response that cost it; 0: none
  c.rl.drop_passed = placeholder(float)  # leaves out prompts with this pass rate; 0: none
  c.rl.prompts = 16  # prompts in an update
  c.rl.group = 16  # samples of each prompt
  c.rl.environments = 0  # distinct prompts to draw from, of data.rl_problems; 0: all
  # Responses to a prompt, at most: behind each but the last that is wrong the environment says what
  # it thinks of it, and the policy goes on. Such an episode is one sample; 1: plain responses.
  c.rl.turns = 1
  c.rl.environment = 'hints'  # who says it, where there are turns: of environments/checker.py
  c.rl.curriculum = ''  # 'pass_rate': draw more of the prompts that pass half of the time
  c.rl.minibatches = 1  # optimiser steps that an update's rollouts are cut into
  c.rl.epochs = 1  # times that an update goes over its rollouts
  c.rl.staleness = 0  # updates that generation runs ahead, at most 8
  c.rl.importance_cap = 0.0  # truncated correction for samples of another policy; 0: none
  c.rl.learning_rate = 1e-4  # for width 64, as above
  c.rl.warmup_steps = 0  # optimiser steps over which it goes up from 0
  c.rl.temperature = 1.0
  c.rl.response_tokens = 18  # the longest response (of a turn), its stop token counted
  c.rl.kl = 'k3'  # the estimate of the KL to the SFT parent: k1, k2 or k3
  c.rl.kl_in = 'loss'  # the KL is a term of the 'loss' (k2 or k3), or of the 'reward'
  c.rl.kl_coef = 0.0  # its weight; 0: no KL
  c.rl.kl_target = 0.0  # nats a response: the weight goes up and down to reach it; 0: it is fixed
  c.rl.measure_kl = False  # record the KL where it has no weight, for one more scoring pass
  c.rl.entropy_coef = 0.0
  c.rl.gamma = 1.0  # of 'gae'
  c.rl.gae_lambda = 0.95
  c.rl.value_clip = 0.2
  c.rl.critic_learning_rate = 5e-4  # for width 64
  # On-policy distillation: each token's advantage gets teacher_coef x (log pi_teacher - log pi). A
  # size: its largest SFT branch; 'self WHAT': the policy, shown its attempt and a critique of it
  # (attempts.CRITIQUES); '': none.
  c.rl.teacher = ''
  c.rl.teacher_coef = 1.0

  # The rollout bank drawn for every cell; roll-outs from steps, second attempts and answers to new
  # prompts are drawn from the same tokens.
  c.sample = ConfigDict()
  c.sample.n = 128  # samples of each test problem
  c.sample.temperature = 1.0
  c.sample.top_k = 0  # draw from the k most likely tokens; 0: from all
  c.sample.top_p = 1.0  # … from the fewest that have this probability together
  c.sample.min_p = 0.0  # … from those at least this part as likely as the likeliest
  c.sample.stop = ()  # texts that end a response, beside the stop token
  c.sample.response_tokens = 18
  c.sample.block_prompts = 4  # the compiled shape: prompts x samples at a time;
  c.sample.block_samples = 128  # a prompt is prefilled once for each block
  # Rows of each prompt that decode at a time: one that stops takes its next sample. 0: all of them.
  c.sample.block_rows = 0
  c.sample.prompt_chunk = 0  # tokens of a prompt that are prefilled at a time; 0: all of it

  # Reward models: each learns from samples of one SFT branch, and scores its bank. Branches are
  # those of the largest budget of config.sft.tokens.
  c.scorers = ConfigDict()
  c.scorers.objectives = ()  # 'pairs' (Bradley-Terry), 'outcome' (verdicts), 'process' (steps)
  # A file of pairs (scaling/data/preferences.py) for 'pairs' to learn from, and not samples.
  c.scorers.pairs = ''
  c.scorers.sizes = ()  # of the reward models: each begins as its own size's branch
  c.scorers.policies = ()  # the sizes that are sampled and scored
  c.scorers.n = 16  # samples of each of data.reward_problems to learn from
  c.scorers.per_problem = 2  # 'process': those among them whose steps are rolled out
  c.scorers.rollouts = 8  # … and how many completions from the end of each step
  c.scorers.rows = 64  # of a batch
  c.scorers.epochs = 2.0
  c.scorers.learning_rate = 5e-4  # for width 64, as of config.optimizer.width_exponent
  c.scorers.warmup_steps = 20
  c.scorers.held_out = 0.1  # the part of the problems that calibrates the scores

  # Direct preference optimisation: rounds, each on fresh samples of the policy, from the branches
  # of the largest budget of config.sft.tokens. One round is the offline form.
  c.dpo = ConfigDict()
  # Who says which of a problem's responses is better (scaling/stages/dpo.py), each a chain of
  # rounds of its own: 'verifier', 'majority', 'likelihood', 'human' (the SFT pool's solution is
  # better than an own sample: SPIN), 'self' (the policy's own verdict), 'judge SIZE' (that of
  # another SFT branch), 'OBJECTIVE SIZE' of config.scorers, or 'pairs' (a file, one round).
  c.dpo.feedback = ()
  c.dpo.sizes = ()  # the model sizes it starts from
  c.dpo.rounds = 1
  c.dpo.pairs = ''  # the file of 'pairs'
  c.dpo.problems = 512  # of data.rl_problems ('human': of the SFT pool): sampled anew in each round
  c.dpo.n = 8  # samples of each
  c.dpo.pairs_per_problem = 4  # in an epoch, at most
  c.dpo.rows = 32  # pairs of a batch
  c.dpo.epochs = 1.0  # over the pairs of a round
  c.dpo.learning_rate = 1e-5  # for width 64, as of config.optimizer.width_exponent
  c.dpo.warmup_steps = 5
  c.dpo.beta = 0.1  # of preference_losses.DpoOptions
  c.dpo.length_normalised = False  # log-ratios are means over a response's tokens, not sums
  c.dpo.held_out = 0.1  # the part of a file's prompts that measures
  # Whether a reward model goes on learning in each round, from fresh samples of the round's policy.
  c.dpo.fresh_scorer = True
  # How 'self' and 'judge' judge: 'verdict' (its token's probability), 'words' (a score), 'pairs'
  # (the probability of the token that names the better of two).
  c.dpo.judge_by = 'verdict'
  c.dpo.judge_tokens = 64  # the most that a judge in words writes

  # Models that learn from samples (scaling/self_training.py): examples are made of a bank, filtered
  # and learned by SFT. The samples are of the branches of the largest budget of config.sft.tokens.
  c.synthetic = ConfigDict()
  # Each a call of a recipe, with fields of config.synthetic that are its own: 'rft(n=8)', 'star'.
  # Recipes: human (the control), gold, unfiltered, rft, star, rest_em, raft, best_of_n, majority,
  # self_correction, spin (rounds of DPO, by config.dpo).
  c.synthetic.runs = ()
  c.synthetic.sizes = ()  # the model sizes that learn
  c.synthetic.teacher = ''  # whose samples: '': the learner's own; a size: its largest SFT branch's
  c.synthetic.problems = 512  # sampled, of those of the pool
  # Where the problems come from: '': the pool; else new ones, made of those of it
  # (scaling/stages/prompts.py): 'evolve', by the task's grammar; 'reverse', by the policy, which
  # config.data.reversed taught to; 'instruct', by a policy that follows words.
  c.synthetic.prompts = ''
  c.synthetic.draws = 2  # candidates made of each of the problems
  c.synthetic.judged = 8  # samples that say how hard a candidate is, and by 'majority' its answer
  c.synthetic.valid = 'verifier'  # whose answer is right: the grammar's, or of 'majority'
  c.synthetic.agreement = 0.5  # the part of the samples that a majority needs
  c.synthetic.pass_low = 0.0  # kept are candidates that such a part of the samples gets right,
  c.synthetic.pass_high = 1.0  # … from the least to the most
  c.synthetic.n = 8  # samples of each
  c.synthetic.temperature = 1.0
  c.synthetic.tokens = 262_144  # of SFT in each round; batch, warm-up and decay as of config.sft
  c.synthetic.learning_rate = 2e-3  # for width 64, as of config.optimizer.width_exponent
  # What a recipe is made of; None: the recipe's own.
  # What is kept (scaling/stages/synthesize.py): correct, all, majority, best (by log-prob),
  # revised, gold; or 'OBJECTIVE SIZE', the one that a reward model of config.scorers values most.
  c.synthetic.keep = placeholder(str)
  c.synthetic.distinct = placeholder(
    str
  )  # one of each reasoning path: by 'equations', 'text', 'none'
  c.synthetic.most = placeholder(int)  # examples of a problem in a round; 0: all
  c.synthetic.rationalise = placeholder(int)  # samples, answer shown, of problems that have none
  c.synthetic.start = placeholder(
    str
  )  # a round trains from the 'base', or goes on from the 'policy'
  c.synthetic.accumulate = placeholder(bool)  # examples of earlier rounds stay
  c.synthetic.mix = placeholder(float)  # the part of the rows that is of the SFT pool
  c.synthetic.rounds = placeholder(int)
  c.synthetic.pool = placeholder(str)  # whose problems are sampled: 'rl', or 'sft'

  # Strategies that generate, run on the branches of the largest SFT budget. Each is a call of a
  # function of scaling/search/: 'beam(width=4)', 'dvts', 'rebase', 'revision', 'self_verification',
  # 'budget_forcing(force="most")', 'many_shot', 'episodes(environment="hints")'.
  c.search = ConfigDict()
  c.search.strategies = ()
  c.search.policies = ()  # the sizes that search
  c.search.after_rl = False  # whether what RL leaves of them searches, too
  # k: samples; of budget_forcing thinking tokens, many_shot examples, episodes turns.
  c.search.budgets = (1, 4, 16)
  c.search.runs = 1  # repeats, with other noise
  c.search.scorer = ''  # 'OBJECTIVE SIZE' of config.scorers, say 'process 75k', where one is needed
  c.search.temperature = 1.0
  c.search.response_tokens = 18

  # A model behind an API. With a name in `model` the study trains nothing: it draws hosted.n
  # responses to each of data.test_problems. The key is in the environment, in ANTHROPIC_API_KEY or
  # OPENAI_API_KEY, and nowhere else.
  c.hosted = ConfigDict()
  c.hosted.provider = 'anthropic'  # whose protocol: 'anthropic', or 'openai' (chat completions)
  c.hosted.model = ''  # its name there
  c.hosted.base_url = ''  # '': the provider's own; else of a server that speaks it, say vLLM
  c.hosted.n = 8  # responses to each problem
  c.hosted.temperature = 1.0
  c.hosted.max_tokens = 1024  # of a response; one that is cut off counts as wrong
  c.hosted.system = ''  # the system prompt, '' for none
  c.hosted.input_price = 0.0  # money per million input tokens, in any currency; 0: not counted
  c.hosted.output_price = 0.0  # … per million output tokens
  c.hosted.cached_price = placeholder(float)  # … of input tokens read from a cache; None: as input
  # How calls are made; no result depends on these:
  c.hosted.concurrency = 4  # requests under way at a time
  c.hosted.timeout = 120.0  # seconds that one may take
  c.hosted.retries = 6  # of a request that failed or was told to wait
  # The most that a stage may use, its judge and earlier runs counted; 0: no cap.
  c.hosted.cap_tokens = 0
  c.hosted.cap_money = 0.0  # by the prices given

  c.judge = ConfigDict()  # a model that scores each hosted response for best-of-n; model '': none
  c.judge.provider = 'anthropic'
  c.judge.model = ''
  c.judge.base_url = ''
  c.judge.method = 'score'  # 'score': each response alone, 0 to 10; 'pairs': every two of a problem
  c.judge.temperature = 1.0
  c.judge.max_tokens = 512
  c.judge.input_price = 0.0
  c.judge.output_price = 0.0
  c.judge.cached_price = placeholder(float)

  c.mesh = ConfigDict()  # device counts along each axis of scaling/sharding.py
  # 0: all there are, of CPUs one for each core, as far as the rows of every batch split over them.
  # Another count adds up in another order, so it is another draw of the same study.
  c.mesh.data = 0
  c.mesh.fsdp = 1
  c.mesh.tensor = 1
  c.mesh.sequence = 1

  c.mechanics = ConfigDict()  # how passes are computed (transformer.Mechanics): no result changes
  c.mechanics.attention = 'auto'  # plain, cudnn (GPU), splash (TPU); auto: the device's best
  c.mechanics.remat = 'none'  # kept for the backward pass: none: all; dots; block: least memory
  # Layers in a step of the loop over them. All: faster, and longer to compile; 0: all on a CPU,
  # one elsewhere.
  c.mechanics.unroll = 0
  c.mechanics.loss_chunk = 0  # columns of a batch whose logits the loss holds at a time; 0: all
  c.mechanics.microbatches = 1  # gradient accumulation: parts that a batch is cut into

  c.checkpoint_seconds = 30.0  # between checkpoints of a running stage
  return c.lock()


def check_variant(experiment: str, arg: str, known: tuple[str, ...] = ('smoke',)) -> None:
  """BadInput where the argument of an experiment's file is neither '' nor a variant it has."""
  there = 'the one variant is' if len(known) == 1 else 'the variants are'
  names = ' and '.join(map(repr, known))
  require(arg in ('', *known), f'experiments/{experiment}.py:{arg}: {there} {names}')
