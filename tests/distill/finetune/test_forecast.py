"""Costs worked out by hand, and the days on which services and models end."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from distillcalc.catalog import Catalog
from distillcalc.distill.finetune import FineTuneSpec, make_plan
from distillcalc.distill.finetune.calls import moment, pause_s
from distillcalc.distill.finetune.forecast import Forecast, bill, budget_notices, closing_notices, forecast
from distillcalc.distill.finetune.provider import Job
from distillcalc.errors import InputError
from tests.distill.finetune.common import training_file, words

NOVEMBER = date(2026, 11, 24)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def a_spec(**given: Any) -> FineTuneSpec:
    return FineTuneSpec.of(
        {"name": "one", "provider": "openai", "model": "gpt-4o-mini", "training_file": "train.jsonl"} | given
    )


def levels(catalog: Catalog, today: date, **given: Any) -> list[tuple[str, str]]:
    return [(notice.level, notice.words) for notice in closing_notices(catalog, a_spec(**given), today=today)]


def test_openais_price_of_a_fine_tune(catalog: Catalog) -> None:
    # 2 000 000 tokens x 3 epochs = 6 Mtok x 3.00 USD = 18 USD; serving 0.30 in and 1.20 out.
    made = forecast(catalog, a_spec(), tokens_per_epoch=2_000_000)
    assert made.usd == pytest.approx(18.0)
    assert made.tokens == 6_000_000
    assert made.price_key == "openai-gpt-4o-mini-sft"
    assert made.provenance is not None
    assert made.provenance.kind == "catalog"
    assert made.serving == "0.3 USD in and 1.2 USD out per million tokens"


def test_a_dated_snapshot_has_its_models_price(catalog: Catalog) -> None:
    # 1 Mtok x 2 epochs x 25 USD = 50 USD
    made = forecast(catalog, a_spec(model="gpt-4o-2024-08-06", epochs=2), tokens_per_epoch=1_000_000)
    assert made.usd == pytest.approx(50.0)


def test_a_minimum_is_the_least_that_a_job_costs(catalog: Catalog) -> None:
    # mistral-small: 100 000 x 3 x 3.00 USD/Mtok = 0.90 USD, and the minimum is 4 USD.
    made = forecast(
        catalog,
        a_spec(provider="mistral", model="mistral-small", base_url="https://api.example/v1"),
        tokens_per_epoch=100_000,
    )
    assert made.usd == pytest.approx(4.0)


def test_together_prices_by_size_and_counts_validation_runs(catalog: Catalog) -> None:
    # 1 Mtok x 3 epochs + 4 evaluations x 0.5 Mtok = 5 Mtok x 0.48 USD = 2.40 USD for 8B; 1.50 a Mtok for 32B = 7.50.
    values = {"provider": "together", "model": "some/base", "evaluations": 4, "validation_file": "v.jsonl"}
    counts = {"tokens_per_epoch": 1_000_000, "validation_tokens": 500_000}
    assert forecast(catalog, a_spec(**values, params_b=8), **counts).usd == pytest.approx(2.40)
    assert forecast(catalog, a_spec(**values, params_b=32), **counts).usd == pytest.approx(7.50)
    assert forecast(catalog, a_spec(**values, catalog_model="qwen3-8b"), **counts).usd == pytest.approx(2.40)
    full = forecast(catalog, a_spec(**values, params_b=8, lora=False), **counts)  # 5 x 0.54
    assert full.usd == pytest.approx(2.70)
    assert "3.99 USD an hour" in full.serving


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "gpt-4.1"}, "no training price in openai-gpt-4.1-sft"),
        ({"model": "gpt-9"}, "no price for fine-tuning gpt-9 at openai"),
        ({"provider": "nobody", "base_url": "https://api.example/v1"}, "no fine-tuning price of nobody"),
        ({"provider": "together", "model": "some/base"}, "set params_b or catalog_model"),
        ({"provider": "together", "model": "some/base", "params_b": 400}, "no price for fine-tuning some/base"),
        ({"self_hosted": True, "base_url": "http://127.0.0.1:1/v1"}, "your own"),
    ],
)
def test_an_unknown_price_is_unknown_and_never_nothing(catalog: Catalog, given: dict[str, Any], said: str) -> None:
    made = forecast(catalog, a_spec(**given), tokens_per_epoch=1_000_000)
    assert made.usd is None
    assert said in made.unknown
    (notice,) = budget_notices(a_spec(**given), made)
    assert notice.level == "warn"
    (notice,) = budget_notices(a_spec(**given, budget_usd=1000), made)
    assert notice.level == "refuse"
    assert "cannot be held" in notice.words


def test_a_budget_is_a_ceiling(catalog: Catalog) -> None:
    made = forecast(catalog, a_spec(), tokens_per_epoch=2_000_000)
    assert budget_notices(a_spec(budget_usd=18.0), made) == []
    (notice,) = budget_notices(a_spec(budget_usd=17.99), made)
    assert notice.level == "refuse"
    assert "18.00 USD" in notice.words


def test_the_bill_is_of_the_tokens_that_were_trained(catalog: Catalog) -> None:
    # Forecast 18 USD; 5 800 000 trained tokens x 3.00 USD/Mtok = 17.40 USD.
    made = forecast(catalog, a_spec(), tokens_per_epoch=2_000_000)
    paid = bill(Job("ft-1", "succeeded", "succeeded", "gpt-4o-mini", trained_tokens=5_800_000), made)
    assert paid.usd == pytest.approx(17.40)
    assert paid.forecast_usd == pytest.approx(18.0)
    assert bill(Job("ft-1", "succeeded", "succeeded", "m", trained_tokens=1, billed_usd=2.5), made).usd == 2.5
    assert bill(Job("ft-1", "succeeded", "succeeded", "m"), made).usd is None
    assert bill(Job("ft-1", "succeeded", "succeeded", "m", trained_tokens=1), Forecast(1, None, "no row")).usd is None


def test_a_forecast_is_read_back_as_it_was_written(catalog: Catalog) -> None:
    for given in ({}, {"model": "gpt-9"}):
        made = forecast(catalog, a_spec(**given), tokens_per_epoch=2_000_000)
        assert Forecast.from_dict(made.to_dict()) == made


def test_openai_takes_no_jobs_after_its_date(catalog: Catalog) -> None:
    # data/retirements.toml: no new jobs after 2027-01-06; gpt-4o-mini ends on 2027-01-14.
    before = levels(catalog, date(2027, 1, 5), fine_tunes_before=True)
    assert before == [
        ("warn", "openai takes no fine-tuning jobs after 2027-01-06"),
        (
            "warn",
            "the fine-tune ends with its base model gpt-4o-mini on 2027-01-14, in 9 days; the named successor is "
            "openai/gpt-6-luna",
        ),
    ]
    after = levels(catalog, date(2027, 1, 7), fine_tunes_before=True)
    assert after[0] == ("refuse", "openai takes no fine-tuning jobs after 2027-01-06")
    (first, *_) = closing_notices(catalog, a_spec(fine_tunes_before=True), today=date(2027, 1, 7))
    assert "checked 2026-11-24" in first.source


def test_a_base_that_has_ended_is_refused(catalog: Catalog) -> None:
    refused = [words for level, words in levels(catalog, date(2027, 1, 14)) if level == "refuse"]
    assert "openai has shut gpt-4o-mini down on 2027-01-14" in refused
    dated = [words for level, words in levels(catalog, date(2027, 2, 1), model="gpt-4o-mini-2024-07-18")]
    assert "openai has shut gpt-4o-mini-2024-07-18 down on 2027-01-14" in dated


def test_new_customers_are_warned(catalog: Catalog) -> None:
    warned = levels(catalog, NOVEMBER)
    assert sum("set fine_tunes_before" in words for level, words in warned if level == "warn") == 2
    assert not any("fine_tunes_before" in words for _, words in levels(catalog, NOVEMBER, fine_tunes_before=True))


def test_a_server_of_ones_own_is_not_bound_by_the_providers_dates(catalog: Catalog) -> None:
    found = levels(catalog, date(2027, 2, 1), self_hosted=True, base_url="http://127.0.0.1:1/v1")
    assert found
    assert {level for level, _ in found} == {"note"}


def test_a_plan_shows_all_and_refuses_with_its_source(tmp_path: Path) -> None:
    made = make_plan(
        a_spec(training_file=training_file(tmp_path), fine_tunes_before=True), check=words, today=date(2027, 1, 7)
    )
    assert made.forecast.tokens == 360
    with pytest.raises(InputError, match=r"not made: openai takes no .* \(codersera.com"):
        made.refuse()
    assert made.to_dict()["files"][0]["rows"] == 12
    with pytest.raises(InputError, match="cannot read"):
        make_plan(a_spec(training_file=tmp_path / "none.jsonl"), check=words)


def notices(folder: Path, **given: Any) -> list[tuple[str, str]]:
    given.setdefault("training_file", folder / "train.jsonl")
    if not given["training_file"].exists():
        training_file(folder)
    spec = a_spec(**{"fine_tunes_before": True} | given)
    return [(notice.level, notice.words) for notice in make_plan(spec, today=NOVEMBER).notices]


def test_the_packages_own_check_is_told_in_words(tmp_path: Path) -> None:
    short = training_file(tmp_path, rows=3)
    found = notices(tmp_path, training_file=short)
    assert ("refuse", "train.jsonl: 3 examples; at least 10 are needed") in found
    again = "is the same as an earlier line"
    twice = f"train.jsonl: line 2: {again}; line 3: {again}; line 4: {again} (and 8 more)"
    training_file(tmp_path)
    assert ("warn", twice) in notices(tmp_path)
    assert any(level == "note" and "tokens are estimated" in words for level, words in notices(tmp_path))


def test_a_short_validation_file_is_warned_of_and_an_empty_one_refused(tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    held = training_file(tmp_path / "held", rows=4)
    found = notices(tmp_path, validation_file=held)
    assert [level for level, words in found if words.startswith("train.jsonl has 4 examples")] == ["warn"]
    assert not [words for level, words in found if level == "refuse"]
    held.write_text("")
    assert ("refuse", "train.jsonl: 0 examples; at least 10 are needed") in notices(tmp_path, validation_file=held)


def test_the_teachers_terms_are_checked_before_a_job(tmp_path: Path) -> None:
    def said(teacher: str | None, competes: bool | None) -> list[str]:
        found = notices(tmp_path, teacher=teacher, use={"competes_with_teacher": competes})
        return [level for level, words in found if "terms" in words]

    assert said("anthropic/claude-opus-4", True) == ["refuse"]
    assert said("local/tiny", False) == ["refuse"]  # unclear: until accept_unclear_terms says otherwise
    assert said(None, None) == ["warn"]


def test_waits_double_and_are_at_least_what_is_asked() -> None:
    assert [pause_s(tried) for tried in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert pause_s(20) == 30.0
    assert pause_s(0, 17.0) == 17.0
    assert pause_s(0, 1e9) == 60.0


def test_moments_of_both_apis() -> None:
    noon = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
    assert moment(int(noon.timestamp())) == noon
    assert moment("2026-11-24T12:00:00Z") == noon
    assert moment("2026-11-24T12:00:00") == noon
    assert moment("yesterday") is None
    assert moment(0) is None
