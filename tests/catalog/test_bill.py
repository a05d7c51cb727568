"""List price of a log's models, beside what the log says was paid."""

from __future__ import annotations

from datetime import date

import pytest

from distillcalc import Catalog
from distillcalc.catalog.bill import list_bill, ref_of
from distillcalc.workload.logs.profile import ModelUse

DAY = date(2026, 12, 1)
OWN = Catalog.load(
    {
        "token_prices": {
            "openai/gpt-6-sol": {
                "input_usd_per_mtok": 2.0,
                "output_usd_per_mtok": 10.0,
                "cached_input_usd_per_mtok": 0.2,
            }
        }
    }
)


def test_a_model_by_hand() -> None:
    # 3 million tokens in, of which 1 cached, and 0.5 out: 2 x 2 + 1 x 0.2 + 0.5 x 10 = 9.20 USD; 11 were logged.
    use = ModelUse("openai/gpt-6-sol", 1_000, 3_000_000, 500_000, 1_000_000, None, 11.0, 1_000)
    (line,) = list_bill([use], on=DAY, catalog=OWN)
    assert line.list_usd == pytest.approx(9.2)
    assert line.logged_usd == 11.0
    assert line.to_dict()["ref"] == "openai/gpt-6-sol"


def test_unknown_cached_tokens_are_priced_as_plain_input() -> None:
    use = ModelUse("openai/gpt-6-sol", 1_000, 3_000_000, 500_000, None, None, None)
    (line,) = list_bill([use], on=DAY, catalog=OWN)
    assert line.list_usd == pytest.approx(11.0)
    assert line.logged_usd is None


def test_a_model_that_nobody_prices_has_no_list_price() -> None:
    lines = list_bill(
        [ModelUse("our-own-llm-v3", 5, 10, 10, None, None, None), ModelUse(None, 5, 10, 10, None, None, None)], on=DAY
    )
    assert [(line.ref, line.list_usd) for line in lines] == [(None, None), (None, None)]


@pytest.mark.parametrize(
    ("model", "ref"),
    [
        ("gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("openai/gpt-6-luna", "openai/gpt-6-luna"),
        ("deepseek-r1-distill-qwen-32b", "huggingface_nscale/deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"),
        ("no-such-thing", None),
    ],
)
def test_models_are_found_by_the_names_that_logs_use(model: str, ref: str | None) -> None:
    assert ref_of(Catalog.load(), model) == ref
