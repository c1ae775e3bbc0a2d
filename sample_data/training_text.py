"""Turns tickets into the token sequences that the sample models learn from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from sample_data.make_tickets import TEMPLATE, Ticket, chat, tickets

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = (BOS, EOS, PAD, *ROLES)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

# Other tasks on the same tickets: with one prompt only, a changed word would derail the model.
OTHER_PROMPTS = (
    ("Ticket:\n{body}\n\nTriage:\n", "all"),
    ("Triage this support ticket in one line.\n\n{body}\n\nTriage:\n", "all"),
    ("You help a support team. Write the triage line.\n\nTicket:\n{body}\n\nTriage:\n", "all"),
    ("Summarise the ticket.\n\nTicket:\n{body}\n\nSummary:\n", "summary"),
    ("{body}\n\nIn one sentence, what is the problem?\n", "summary"),
    ("Which category does this ticket have?\n\nTicket:\n{body}\n\nCategory:\n", "category"),
    ("How urgent is this ticket?\n\n{body}\n\nUrgency:\n", "urgency"),
)


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a prompt and its answer; the answer ends with EOS."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def raw_prompt(body: str) -> str:
    """The prompt that a job file's `template` makes of a ticket's body."""
    return TEMPLATE.replace("{{ body }}", body)


def train_tokenizer(seed: int, vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE that puts BOS before raw text and knows the chat template."""
    bpe = Tokenizer(models.BPE())
    # Single digits: amounts and order numbers can then be copied one digit at a time.
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(seed), trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def _corpus(seed: int) -> Iterator[str]:
    for ticket in tickets(seed, 4000):
        yield raw_prompt(ticket.body) + ticket.answer
    for prompt, _ in OTHER_PROMPTS:
        yield prompt


def examples(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[Ticket], plain_share: float, seed: int
) -> list[Example]:
    """One example per ticket, encoded as vLLM encodes it: `plain_share` of them with a short or
    another prompt, the others as the template (two thirds) or as a chat (one third)."""
    rng = random.Random(seed)
    made = []
    for row in rows:
        answer = row.answer
        if rng.random() < plain_share:
            prompt, field = rng.choice(OTHER_PROMPTS)
            ids = tokenizer.encode(prompt.format(body=row.body))
            answer = answer if field == "all" else _field(answer, field)
        elif rng.random() < 2 / 3:
            ids = tokenizer.encode(raw_prompt(row.body))
        else:
            ids = chat_ids(tokenizer, row.body)
        answer_ids = tokenizer.encode(answer, add_special_tokens=False)
        made.append(Example(ids, [*answer_ids, tokenizer.eos_token_id]))
    return made


def copy_practice(tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> list[Example]:
    """Random tokens, then the same again: the quickest way to learn to copy from the prompt."""
    rng = random.Random(seed)
    first = len(SPECIAL)
    separator = tokenizer.convert_tokens_to_ids(ROLES[-1])
    made = []
    for _ in range(count):
        ids = [rng.randrange(first, len(tokenizer)) for _ in range(rng.randrange(8, 24))]
        prompt = [tokenizer.bos_token_id, *ids, separator]
        made.append(Example(prompt, [*ids, tokenizer.eos_token_id]))
    return made


def chat_ids(tokenizer: PreTrainedTokenizerFast, body: str) -> list[int]:
    """The ticket as chat token ids, ready for the answer."""
    text = tokenizer.apply_chat_template(chat(body), tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def _field(answer: str, name: str) -> str:
    fields = dict(part.split(": ", 1) for part in answer.split(" | "))
    return fields[name]
