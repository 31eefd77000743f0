"""Small tokenizers, trained where they are needed: no network, a fraction of a second."""

import io
import json
import pathlib

import sentencepiece
from tokenizers import (
  Tokenizer,
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
  trainers,
)

TEXTS = [
  f'Natalia sold {a} clips in April, and {b} clips in May. How many clips are {a} + {b}?\n'
  f'She sold {a}+{b} = {a + b} clips, the café says.\n#### {a + b}'
  for a in range(12, 40, 3)
  for b in range(5, 50, 7)
]

CHATML = (
  '  {% set lines_of_blocks_leave_nothing = true %}\n'
  "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
  "'<|im_end|>' + '\\n'}}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QWEN = (
  "{%- if messages[0].role == 'system' %}\n"
  "  {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n"
  '{%- else %}\n'
  "  {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n"
  '{%- endif %}\n'
  '{%- set ns = namespace(last=messages|length - 1) %}\n'
  '{%- for message in messages %}\n'
  "  {%- set content = message.content if message.content is string else '' %}\n"
  "  {%- if message.role == 'user' %}\n"
  "    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}\n"
  "  {%- elif message.role == 'assistant' %}\n"
  "    {%- if loop.index0 == ns.last %}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}"
  "{%- else %}{{- '<|im_start|>assistant\\n' }}{%- endif %}\n"
  "    {% generation %}{{- content + '<|im_end|>' }}{% endgeneration %}\n"
  "    {{- '\\n' }}\n"
  '  {%- endif %}\n'
  '{%- endfor %}\n'
  '{%- if tools %}{{- tools | tojson }}{%- endif %}\n'
  "{%- if add_generation_prompt %}\n  {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
)
LLAMA3 = (
  '{{- bos_token }}\n'
  '{%- if not date_string is defined %}\n'
  '    {%- if strftime_now is defined %}\n'
  '        {%- set date_string = strftime_now("%d %b %Y") %}\n'
  '    {%- else %}\n'
  '        {%- set date_string = "26 Jul 2024" %}\n'
  '    {%- endif %}\n'
  '{%- endif %}\n'
  "{%- if messages[0]['role'] == 'system' %}\n"
  "    {%- set system_message = messages[0]['content']|trim %}\n"
  '    {%- set messages = messages[1:] %}\n'
  '{%- else %}\n'
  '    {%- set system_message = "" %}\n'
  '{%- endif %}\n'
  '{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}\n'
  '{{- "Today Date: " + date_string + "\\n\\n" }}\n'
  '{{- system_message }}\n'
  '{{- "<|eot_id|>" }}\n'
  '{%- for message in messages %}\n'
  "    {%- if message.role not in ['user', 'assistant'] %}\n"
  '        {{- raise_exception("unknown role") }}\n'
  '    {%- endif %}\n'
  "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
  "message['content'] | trim + '<|eot_id|>' }}\n"
  '{%- endfor %}\n'
  '{%- if add_generation_prompt %}\n'
  "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
  '{%- endif %}\n'
)
LLAMA2 = (  # what ends a turn is the eos token, after a space
  "{% for message in messages %}{% if message['role'] == 'user' %}"
  "{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}"
  "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
SPECIALS = {  # of each style: its special tokens, and which of them are bos and eos
  'chatml': (['<|endoftext|>', '<|im_start|>', '<|im_end|>'], None, '<|im_end|>', CHATML),
  'qwen': (['<|endoftext|>', '<|im_start|>', '<|im_end|>'], None, '<|endoftext|>', QWEN),
  'llama3': (
    '<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|>'.split(),
    '<|begin_of_text|>', '<|end_of_text|>', LLAMA3,
  ),
  'llama2': (['<unk>', '<s>', '</s>'], '<s>', '</s>', LLAMA2),
}  # fmt: skip


def byte_level(specials=('<|endoftext|>',), size=360, bos=None) -> Tokenizer:
  """As GPT-2, Llama 3 and Qwen have it; after `bos`, where there is one, as Llama 3 has it."""
  tokenizer = Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.train_from_iterator(
    TEXTS,
    trainers.BpeTrainer(
      vocab_size=size - len(specials),
      show_progress=False,
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ),
  )
  tokenizer.add_special_tokens(list(specials))  # the last ids, as those of Llama 3 and Qwen
  if bos:
    tokenizer.post_processor = processors.TemplateProcessing(
      single=f'{bos} $A', special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
  return tokenizer


def metaspace(specials=('<unk>', '<s>', '</s>'), bos='<s>') -> Tokenizer:
  """As Llama 2 has it: '▁' for spaces and before the text, bytes for what it lacks, bos, no eos."""
  bytes_ = [f'<0x{i:02X}>' for i in range(256)]
  tokenizer = Tokenizer(models.BPE(unk_token='<unk>', byte_fallback=True, fuse_unk=True))
  tokenizer.normalizer = normalizers.Sequence(
    [normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')]
  )
  tokenizer.decoder = decoders.Sequence(
    [
      decoders.Replace('▁', ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
      decoders.Strip(' ', 1, 0),
    ]
  )
  trainer = trainers.BpeTrainer(
    vocab_size=700, show_progress=False, special_tokens=[*specials, *bytes_]
  )
  tokenizer.train_from_iterator([text.replace(' ', '▁') for text in TEXTS], trainer)
  spec = json.loads(tokenizer.to_str())  # bytes are tokens of the model, not added ones
  spec['added_tokens'] = [t for t in spec['added_tokens'] if t['content'] in specials]
  tokenizer = Tokenizer.from_str(json.dumps(spec))
  tokenizer.post_processor = processors.TemplateProcessing(
    single=f'{bos} $A', special_tokens=[(bos, tokenizer.token_to_id(bos))]
  )
  return tokenizer


def unigram() -> Tokenizer:
  """Whole words and pieces with scores, an eos after every text, as T5 has it."""
  tokenizer = Tokenizer(models.Unigram())
  tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
  tokenizer.decoder = decoders.Metaspace()
  trainer = trainers.UnigramTrainer(
    vocab_size=120,
    show_progress=False,
    special_tokens=['<pad>', '</s>', '<unk>'],
    unk_token='<unk>',
  )
  tokenizer.train_from_iterator(TEXTS, trainer)
  tokenizer.post_processor = processors.TemplateProcessing(
    single='$A </s>', special_tokens=[('</s>', 1)]
  )
  return tokenizer


def folder(path: pathlib.Path, tokenizer: Tokenizer, **config) -> pathlib.Path:
  """A folder as transformers saves it."""
  path.mkdir(parents=True)
  tokenizer.save(str(path / 'tokenizer.json'))
  config = {key: value for key, value in config.items() if value is not None}
  config['tokenizer_class'] = 'PreTrainedTokenizerFast'
  (path / 'tokenizer_config.json').write_text(json.dumps(config))
  return path


def chat_folder(path: pathlib.Path, style: str) -> pathlib.Path:
  """A folder with the specials and the template of a style."""
  specials, bos, eos, template = SPECIALS[style]
  if style == 'llama2':
    tokenizer = metaspace()
  else:
    tokenizer = byte_level(specials, bos=bos)
  return folder(path, tokenizer, bos_token=bos, eos_token=eos, chat_template=template)


def sentencepiece_model(path: pathlib.Path, **options) -> pathlib.Path:
  """A SentencePiece file; by default with the ids of T5: padding 0, eos 1, unknown 2, no bos."""
  model = io.BytesIO()
  ids = {'pad_id': 0, 'eos_id': 1, 'unk_id': 2, 'bos_id': -1}
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS), model_writer=model, minloglevel=2, num_threads=1,
    **{'vocab_size': 120, 'hard_vocab_limit': False} | ids | options,
  )  # fmt: skip
  path.write_bytes(model.getvalue())
  return path
