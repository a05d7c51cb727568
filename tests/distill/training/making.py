"""A small task, records, and a tiny teacher that does it, with the packaged SmolLM2's tokenizer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from distillcalc.distill.packaged import smollm2
from distillcalc.distill.records import Dataset, Origin, Record, TopLogprobs
from distillcalc.distill.task import Task
from distillcalc.distill.training.examples import make_examples

THINGS = (
    "apple river stone window garden paper candle bottle mirror ladder basket hammer pillow ticket engine button "
    "letter butter finger summer winter dinner doctor lawyer singer driver farmer painter soldier teacher number "
    "colour silver copper leather weather feather corner border shoulder spider tiger rabbit monkey turtle"
)
WORDS = THINGS.split()
TASK = Task(name="colours", system="Is it red?", prompt="{text}", labels=("yes", "no"), instruction=False)
TEACHER = "smollm2-135m"  # its terms allow it


@cache
def tokenizer() -> Any:
    """The packaged SmolLM2's: 49,152 tokens, and pads with none of its own."""
    return AutoTokenizer.from_pretrained(smollm2())


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Texts of six words, unlike each other; those with "red" in them are labelled yes."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        words = chance.sample(WORDS, 5)
        is_red = number % 2 == 0
        words.insert(chance.randrange(6), "red" if is_red else "blue")
        made.append({"id": f"{seed}-{number}", "text": " ".join(words), "human_label": "yes" if is_red else "no"})
    return made


def records(count: int, seed: int = 0, *, reasoning: bool = False, task: Task = TASK, **fields: Any) -> list[Record]:
    """The rows as a teacher labels them that is never wrong."""
    return [
        Record(
            id=row["id"], input={"text": row["text"]}, messages=task.messages(row), answer=row["human_label"],
            value=row["human_label"] if task.labels else None,
            reasoning=f"the text says {'red' if row['human_label'] == 'yes' else 'blue'}" if reasoning else None,
            origin=Origin(run="made", call="", teacher=TEACHER), **fields,
        )
        for row in rows(count, seed)
    ]  # fmt: skip


def with_logprobs(record: Record) -> Record:
    """What an API would say of a one-token answer: nine to one for it, and its end."""
    other = "no" if record.answer == "yes" else "yes"
    given = TopLogprobs(
        tokens=(record.answer, "<|im_end|>"), logprobs=(-0.1, -0.01),
        top=(((record.answer, -0.1054), (other, -2.4)), (("<|im_end|>", -0.01),)), tail_mass=(0.0093, 0.00995),
        tokenizer="some",
    )  # fmt: skip
    return record.model_copy(update={"logprobs": given})


def llama(layers: int = 4, hidden: int = 32, seed: int = 0, **more: Any) -> Any:
    """A Llama of the tokenizer's vocabulary with random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer()), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
            bos_token_id=1, eos_token_id=2, pad_token_id=2, initializer_range=0.1, **more,
        )
    )  # fmt: skip


def taught(model: Any, learnt: Iterable[Record], steps: int = 40, batch: int = 16) -> Any:
    """The model after a few steps on records: it then answers in the task's words, and stops."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of models this small, more cost more than they bring
    sequences = make_examples(learnt, tokenizer()).sequences
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        part = [sequences[(step * batch + i) % len(sequences)] for i in range(batch)]
        longest = max(len(s.ids) for s in part)
        ids = torch.tensor([[*s.ids, *[0] * (longest - len(s.ids))] for s in part])
        hidden = model.model(input_ids=ids).last_hidden_state
        places = [(row, place) for row, s in enumerate(part) for place in range(s.start - 1, len(s.ids) - 1)]
        wanted = torch.tensor([part[row].ids[place + 1] for row, place in places])
        logits = model.lm_head(hidden[[row for row, _ in places], [place for _, place in places]])
        torch.nn.functional.cross_entropy(logits, wanted).backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.set_num_threads(threads)
    return model.eval()


def saved(model: Any, folder: Path) -> Path:
    """The model and the tokenizer in a folder."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def dataset(found: Iterable[Record], file: Path, **card: Any) -> Path:
    """Records as a dataset file."""
    return Dataset(tuple(found), card).save(file)


def jsonl(found: Iterable[dict[str, Any]], file: Path) -> Path:
    """Rows as a file."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8")
    return file


def recipe_file(folder: Path, **changed: Any) -> Path:
    """A recipe of hard labels beside its data; ``changed`` is laid over its tables (not the task's); None takes out."""
    plain: dict[str, Any] = {
        "name": "run",
        "technique": "hard-label",
        "task": TASK.model_dump(mode="json", include={"name", "system", "prompt", "labels", "instruction"}),
        "data": {"train": ["train.jsonl"], "evaluation": "test.jsonl", "id": "id", "validation_share": 0.0},
        "teacher": {"model": "teacher", "name": TEACHER},
        "student": {"layers": 2},
        "training": {"steps": 2, "batch_size": 4, "evaluations": 0, "checkpoints": 0, "learning_rate": 1e-3},
    }
    for name, value in changed.items():
        if value is None:
            plain.pop(name, None)
        elif name != "task" and isinstance(value, dict) and isinstance(plain.get(name), dict):
            plain[name] = {k: v for k, v in {**plain[name], **value}.items() if v is not None}
        else:
            plain[name] = value
    file = folder / f"{plain['name']}.toml"
    file.write_text(tomli_w.dumps(plain), encoding="utf-8")
    return file
