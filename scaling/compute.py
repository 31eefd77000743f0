"""The ledger: FLOPs and parameters, counted from shapes. A leaf: it imports nothing of the project.

A ledger is plain data, {'model': {kind: flops}, 'executed': {kind: flops}}, floats, and adds up:

- `model`: what the mathematics needs: real tokens alone, each attending to the tokens it may see
  at its real place (causal). The x-axis of every law.
- `executed`: what the program does: padded rows and vocabularies, masked keys (`attended`), rows
  that have stopped, what is computed again for the backward pass. For utilisation. The tests
  compare it with the dots in XLA's HLO. It is of plain attention; a kernel that skips masked blocks
  does less, and where a mesh splits rows of tokens all T x T is done.

One formula serves both, `forward_flops`; they differ in the counts put into it. A multiply-add is
2 FLOPs. Matmuls alone are counted: norms, softmax, rotary positions, SiLU, the embedding lookup,
the loss and the optimiser are not (they are linear in tokens or parameters, a few percent at these
sizes). A backward pass costs two forwards: each matmul has a gradient for either operand. Where the
weights are frozen under adapters it has one.

Kinds (`KINDS`):
  forward, backward  the learner's training step
  prefill, decode    sampling: running the prompts; then one token a row a step
  reference          log-prob passes that take no gradient: old log-probs, a reference policy
  reward_model       a learned reward model's or judge's passes
  verifier           verification by a model; programs that verify are counted as 0

`cfg` is any object with the fields vocab_size, padded_vocab, d_model, n_layers, n_heads,
n_kv_heads, head_dim, d_ff, tied_embeddings, head, qkv_bias, qk_norm and lora_rank. Letters:
L layers, D model width, N query heads, K key-value heads, H head width, F feed-forward width,
V vocabulary, r rank of an adapter.
"""

from typing import NamedTuple

import numpy as np

KINDS = ('forward', 'backward', 'prefill', 'decode', 'reference', 'reward_model', 'verifier')


class Parameters(NamedTuple):
  """Parameters of the embedding (and of an untied unembedding), and all the others."""

  embedding: int
  non_embedding: int

  @property
  def total(self) -> int:
    return self.embedding + self.non_embedding


def _matmul_parameters(cfg) -> int:
  """Those of the matrices of all blocks: L (2 D H (N + K) + 3 D F)."""
  attention = 2 * cfg.d_model * cfg.head_dim * (cfg.n_heads + cfg.n_kv_heads)
  return cfg.n_layers * (attention + 3 * cfg.d_model * cfg.d_ff)


def parameters(cfg) -> Parameters:
  """The count of parameters; tied embeddings count once. A scalar head is one of the others."""
  norms = 2 * cfg.d_model + cfg.qk_norm * 2 * cfg.head_dim
  biases = cfg.qkv_bias * (cfg.n_heads + 2 * cfg.n_kv_heads) * cfg.head_dim
  scalar = cfg.head == 'scalar'
  return Parameters(
    embedding=cfg.vocab_size * cfg.d_model * (1 if cfg.tied_embeddings or scalar else 2),
    non_embedding=_matmul_parameters(cfg)
    + cfg.n_layers * (norms + biases)
    + cfg.d_model * (1 + scalar),
  )


def _outputs(cfg) -> int:
  """Numbers that the head gives at a position: V logits, or one value."""
  return 1 if cfg.head == 'scalar' else cfg.vocab_size


def _adapter_parameters(cfg) -> int:
  """Those of the adapters of all blocks: L r (rows + columns) of every matrix."""
  D, queries, keys = cfg.d_model, cfg.n_heads * cfg.head_dim, cfg.n_kv_heads * cfg.head_dim
  edges = 2 * (D + queries) + 2 * (D + keys) + 3 * (D + cfg.d_ff)
  return cfg.n_layers * cfg.lora_rank * edges


def forward_flops(cfg, tokens: float, context: float, logits: float) -> float:
  """FLOPs of a forward pass:

      2 tokens L (2 D H (N + K) + 3 D F)  +  4 L N H context  +  2 logits D V

  and 2 tokens for each parameter of an adapter. tokens: those fed; context: the keys attended to,
  summed over those tokens (q k^T and weights v are 2 N H FLOPs a key each); logits: the positions
  at which logits are computed. A scalar head has 1 in place of V.
  """
  tokens, context, logits = float(tokens), float(context), float(logits)  # an int64 overflows
  matmuls = 2 * tokens * (_matmul_parameters(cfg) + _adapter_parameters(cfg))
  return float(matmuls + _attention_flops(cfg, context) + 2 * logits * cfg.d_model * _outputs(cfg))


def _attention_flops(cfg, context: float) -> float:
  return 4.0 * cfg.n_layers * cfg.n_heads * cfg.head_dim * context


def _spare_flops(cfg, logits: float) -> float:
  """Of the logits that pad the vocabulary."""
  spare = 0 if cfg.head == 'scalar' else cfg.padded_vocab - cfg.vocab_size
  return 2 * logits * cfg.d_model * spare


def causal(lengths) -> tuple[int, int]:
  """(tokens, context) of whole causal segments of these lengths: sum l, and sum l (l + 1) / 2."""
  lengths = np.asarray(lengths, np.int64)
  return int(lengths.sum()), int((lengths * (lengths + 1) // 2).sum())


def query_parts(row_tokens: int) -> int:
  """Parts that plain attention takes the queries of a row in, each over the keys up to its last:
  4 where rows are long enough to gain from it, 1 elsewhere."""
  return 4 if row_tokens >= 128 and row_tokens % 4 == 0 else 1


def attended(row_tokens: int) -> float:
  """The keys that plain attention multiplies for a row of T tokens, masked ones too: in p parts,
  of which the i-th has T / p queries over i T / p keys, T^2 (p + 1) / (2 p)."""
  parts = query_parts(row_tokens)
  return float(row_tokens) ** 2 * (parts + 1) / (2 * parts)


def empty() -> dict:
  """A ledger of zeros."""
  return {count: dict.fromkeys(KINDS, 0.0) for count in ('model', 'executed')}


def _ledger(model: dict, executed: dict) -> dict:
  zeros = empty()
  return {'model': zeros['model'] | model, 'executed': zeros['executed'] | executed}


def add(*ledgers: dict) -> dict:
  """The sum of ledgers, kind by kind."""
  return {
    count: {kind: sum((ledger[count][kind] for ledger in ledgers), 0.0) for kind in KINDS}
    for count in ('model', 'executed')
  }


def total(ledger: dict, which: str = 'model') -> float:
  """FLOPs of all kinds; which: 'model' or 'executed'."""
  return sum(ledger[which].values())


def _backward_flops(cfg, forward: float, tokens: float, context: float) -> float:
  """Of the backward pass of a `forward` over `tokens` and `context`, with logits at every token.

  Under frozen weights the matmuls with them have the gradient of their input alone; a scalar head
  is trained beside the adapters.
  """
  if not cfg.lora_rank:
    return 2 * forward
  trained = _adapter_parameters(cfg) + (cfg.d_model if cfg.head == 'scalar' else 0)
  return forward + 2 * tokens * trained + _attention_flops(cfg, context)


class Passed(NamedTuple):
  """What goes through the model in a pass: tokens fed, keys attended to, positions with logits."""

  tokens: float
  context: float
  logits: float


def _again_flops(cfg, remat: str, chunked: bool, slots: Passed) -> float:
  """Of what the backward pass computes again: the products of attention under remat 'dots'; the
  whole block but its last matmul under 'block'; the logits, where the loss is chunked."""
  attention = _attention_flops(cfg, slots.context)
  adapters = 2 * slots.tokens * _adapter_parameters(cfg)
  last = 2 * slots.tokens * cfg.n_layers * cfg.d_model * cfg.d_ff
  block = 2 * slots.tokens * _matmul_parameters(cfg) - last + adapters + attention
  logits = 2 * slots.logits * cfg.d_model * cfg.padded_vocab
  return {'none': 0.0, 'dots': attention, 'block': block}[remat] + chunked * logits


def rows_passed(tokens, context, rows, row_tokens) -> tuple[Passed, Passed]:
  """(needed, executed) of a pass over packed rows, with logits at every token.

  tokens, context: of the real segments, `causal(lengths)`; rows x row_tokens: the padded batch.
  """
  slots = rows * row_tokens
  executed = Passed(slots, rows * attended(row_tokens), slots)
  return Passed(tokens, context, tokens), executed


def groups_passed(
  prompt_lengths, response_lengths, prompt_tokens: int, response_tokens: int, shared: bool
) -> tuple[Passed, Passed]:
  """(needed, executed) of a pass over G responses [P, G] behind each of P prompts [P].

  Needed: each prompt once, and logits at the tokens of responses alone. Executed where the prompt
  is `shared`: the same at the padded widths; where it is not, P G whole rows with all their logits.
  """
  prompts = np.asarray(prompt_lengths, np.int64)
  lengths = np.asarray(response_lengths, np.int64)
  tokens, context = causal(prompts)
  responses, among = causal(lengths.reshape(-1))
  behind = int((prompts[:, None] * lengths).sum())
  needed = Passed(tokens + responses, context + among + behind, responses)
  (P, G), S, R = lengths.shape, prompt_tokens, response_tokens
  if shared:
    return needed, Passed(P * S + P * G * R, P * attended(S) + P * G * R * (S + R), P * G * R)
  return needed, rows_passed(0, 0, P * G, S + R)[1]


def _pass(cfg, needed: Passed, slots: Passed):
  """(model, executed) FLOPs of one forward pass."""
  return forward_flops(cfg, *needed), forward_flops(cfg, *slots) + _spare_flops(cfg, slots.logits)


def train(
  cfg,
  tokens: float,
  context: float,
  rows: int,
  row_tokens: int,
  remat: str = 'none',
  loss_chunk: int = 0,
) -> dict:
  """The ledger of a training step (or of many: it is linear in tokens, context and rows).

  Arguments as of `rows_passed`; remat, loss_chunk: as in transformer.Mechanics; what they compute
  again is executed, not needed. Model FLOPs count logits at every real token, also where the loss
  is masked: the learner is trained on whole sequences, and the usual 6 N D counts them too.
  """
  passed = rows_passed(tokens, context, rows, row_tokens)
  return train_pass(cfg, *passed, remat, 0 < loss_chunk < row_tokens)


def train_pass(cfg, needed: Passed, slots: Passed, remat: str = 'none', chunked=False) -> dict:
  """The ledger of a training step, by what goes through the model forward."""
  model, executed = _pass(cfg, needed, slots)
  again = _again_flops(cfg, remat, chunked and cfg.head == 'tokens', slots)
  backward = _backward_flops(cfg, executed, slots.tokens, slots.context) + again
  return _ledger(
    {'forward': model, 'backward': _backward_flops(cfg, model, needed.tokens, needed.context)},
    {'forward': executed, 'backward': backward},
  )


def score(
  cfg, tokens: float, context: float, rows: int, row_tokens: int, kind: str = 'reference'
) -> dict:
  """The ledger of a pass without gradient, over log-probs or, kind 'reward_model', over values.

  Arguments as for `train`.
  """
  return score_pass(cfg, *rows_passed(tokens, context, rows, row_tokens), kind)


def score_pass(cfg, needed: Passed, slots: Passed, kind: str = 'reference') -> dict:
  """The ledger of a pass without gradient, by what goes through the model."""
  model, executed = _pass(cfg, needed, slots)
  return _ledger({kind: model}, {kind: executed})


def _decode_flops(cfg, prompt_length, response_length):
  """Of single responses. T tokens cost T - 1 passes: the first token comes of the prefill's logits
  and the last is never fed. Pass j = 1 .. T - 1 attends to the prompt, to the j - 1 response tokens
  before its own, and to its own.
  """
  passes = np.maximum(response_length - 1, 0)
  context = passes * prompt_length + passes * (passes + 1) / 2
  return forward_flops(cfg, passes.sum(), context.sum(), passes.sum())


def generate(
  cfg, prompt_lengths, response_lengths, prompt_tokens: int, slots, steps, rows: int | None = None
) -> dict:
  """The ledger of a sampling block: n responses to each of P prompts.

  prompt_lengths: [P]; response_lengths: [P, n], tokens drawn, the stop token counted;
  prompt_tokens: the padded width of a prompt; steps: decode passes that were run, by how many
  `slots` the cache of a row had in them: two numbers, or a list of either; rows: of each prompt
  that decode at a time, n if None.

  Model: each prompt once at its real length, with one row of logits; then the passes of each
  response. Executed: the prefill at padded width; then all rows, in every step, attending to all
  slots of prompt and cache, the token's own among them (where layers are scanned, as on a TPU, it
  is beside them: a key more).
  """
  prompt_lengths = np.asarray(prompt_lengths, np.int64)
  response_lengths = np.asarray(response_lengths, np.int64)
  tokens, context = causal(prompt_lengths)
  padded, among = (len(prompt_lengths) * n for n in (prompt_tokens, attended(prompt_tokens)))
  rows = response_lengths.shape[1] if rows is None else rows
  passes = np.float64(steps) * len(prompt_lengths) * rows  # of single rows
  keys = np.sum(passes * (prompt_tokens + np.float64(slots)))
  passes = np.sum(passes)
  return _ledger(
    {
      'prefill': forward_flops(cfg, tokens, context, len(prompt_lengths)),
      'decode': _decode_flops(cfg, prompt_lengths[:, None], response_lengths),
    },
    {
      'prefill': forward_flops(cfg, padded, among, len(prompt_lengths))
      + _spare_flops(cfg, len(prompt_lengths)),
      'decode': forward_flops(cfg, passes, keys, passes) + _spare_flops(cfg, passes),
    },
  )


def query(cfg, prompt_length: float, mean_response_length: float, k: int) -> tuple[float, float]:
  """(prefill, decode) model FLOPs of one query: its prompt prefilled once, k responses decoded.

  Lengths may be means over problems: responses are counted as if each had the mean length.
  """
  prefill = forward_flops(cfg, prompt_length, prompt_length * (prompt_length + 1) / 2, 1)
  return prefill, k * _decode_flops(cfg, prompt_length, np.float64(mean_response_length))
