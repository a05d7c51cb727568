"""The teacher's terms stand before a fine-tune is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillcalc.catalog import Catalog
from distillcalc.distill.finetune import FineTuneSpec, make_plan
from distillcalc.distill.finetune.terms import terms_notices
from distillcalc.errors import InputError
from tests.distill.finetune.common import training_file, words

CATALOG = Catalog.load()


def spec(**changed: Any) -> FineTuneSpec:
    values: dict[str, Any] = {
        "name": "one", "provider": "together", "model": "Qwen/Qwen3-4B", "training_file": "train.jsonl",
        "teacher": "openai/gpt-6-luna", "use": {"kind": "classifier", "competes_with_teacher": False},
    }  # fmt: skip
    return FineTuneSpec.of(values | changed)


@pytest.mark.parametrize(
    ("changed", "level", "said"),
    [
        ({}, "note", "allowed"),
        ({"teacher": None}, "warn", "not checked"),
        ({"teacher": "x-ai/grok-4", "use": {}}, "refuse", "prohibited"),
        ({"teacher": "nobody/knows"}, "refuse", "accept_unclear_terms = true"),
        ({"teacher": "nobody/knows", "accept_unclear_terms": True}, "warn", "accepted"),
        # OpenAI's own fine-tuning of OpenAI's answers is the exception that its terms name.
        ({"provider": "openai", "model": "gpt-4.1"}, "note", "second permitted exception"),
    ],
)
def test_what_the_terms_say(changed: dict[str, Any], level: str, said: str) -> None:
    (notice,) = terms_notices(spec(**changed), CATALOG)
    assert notice.level == level
    assert said in notice.words
    assert bool(notice.source) == (level in ("note",) or "prohibited" in notice.words)


def test_prohibited_terms_keep_the_job_from_being_made(tmp_path: Path) -> None:
    training_file(tmp_path)
    made = make_plan(
        spec(teacher="x-ai/grok-4", use={}, training_file=str(tmp_path / "train.jsonl")), check=words, catalog=CATALOG
    )
    with pytest.raises(InputError, match="not made: terms of x-ai/grok-4"):
        made.refuse()
