"""The catalog as one object: overrides, names, shutdowns, rentals, APIs; and that what is shipped lives long enough."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from distillcalc import Scenario
from distillcalc.calendar import add_months
from distillcalc.catalog import ApiRow, Catalog, GpuPriceRow, RetirementRow, provenance_of
from distillcalc.catalog.schema import TABLES
from distillcalc.errors import InputError, MissingPrice, UnknownName
from distillcalc.provenance import Provenance
from distillcalc.workload.files import samples

CATALOG = Catalog.load()
ORIGIN: dict[str, Any] = {"source": "a test", "checked": date(2026, 11, 24), "confidence": "high"}


# Loading


def test_the_shipped_catalog_is_read_once() -> None:
    assert Catalog.load() is Catalog.load()
    assert Catalog.load({}) is Catalog.load()


@pytest.mark.parametrize("table", list(TABLES))
def test_no_table_is_empty(table: str) -> None:
    assert len(getattr(CATALOG, table)) > 3


# Overrides


def test_an_override_changes_its_fields_and_keeps_the_others() -> None:
    own = Catalog.load({"gpus": {"h100-sxm": {"capex_usd": 25_000}}}).gpus["h100-sxm"]
    shipped = CATALOG.gpus["h100-sxm"]
    assert own.capex_usd == 25_000
    assert own.memory_gb == shipped.memory_gb == 80
    assert shipped.capex_usd != 25_000, "the shipped catalog stays as it was"


def test_an_override_is_given_by_the_user() -> None:
    own = Catalog.load({"gpus": {"h100-sxm": {"capex_usd": 25_000}}}).gpus["h100-sxm"]
    assert provenance_of(own) == Provenance("given", "given by the user", date.today(), "high")
    sourced = Catalog.load({"gpus": {"h100-sxm": {"capex_usd": 25_000, "source": "our invoice"}}}).gpus["h100-sxm"]
    assert sourced.source == "our invoice"


def test_an_override_may_add_a_row() -> None:
    row = {"name": "Our own", "memory_gb": 48, "bandwidth_gb_s": 900, "bf16_tflops": 300}
    own = Catalog.load({"gpus": {"ours": row}})
    assert own.gpu("ours").memory_gb == 48
    assert len(own.gpus) == len(CATALOG.gpus) + 1


def test_overrides_lie_over_overrides() -> None:
    first = CATALOG.with_overrides({"gpus": {"h100-sxm": {"capex_usd": 25_000}}})
    second = first.with_overrides({"gpus": {"h100-sxm": {"tdp_w": 500}}, "token_prices": PRICE})
    third = second.with_overrides({"token_prices": {"c/d": PRICE["a/b"]}})
    assert (third.gpus["h100-sxm"].capex_usd, third.gpus["h100-sxm"].tdp_w) == (25_000, 500)
    assert set(third.token_prices_given) == {"a/b", "c/d"}


def test_an_override_of_a_shutdown_is_seen() -> None:
    later = CATALOG.with_overrides({"retirements": {"openai-gpt-5": {"on": "2027-06-01"}}})
    end, shipped = later.shutdown("openai/gpt-5"), CATALOG.shutdown("openai/gpt-5")
    assert end is not None
    assert end.on == date(2027, 6, 1)
    assert shipped is not None
    assert shipped.on == date(2026, 12, 11)


def test_an_override_of_an_api_is_seen() -> None:
    before = CATALOG.api("openai/gpt-6-sol")
    longer = CATALOG.with_overrides({"apis": {"openai": {"cache_ttl_s": 3600}}}).api("openai/gpt-6-sol")
    assert before is not None
    assert longer is not None
    assert (before.cache_ttl_s, longer.cache_ttl_s) == (300, 3600)


PRICE = {"a/b": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}}


def test_an_own_token_price_comes_before_the_list() -> None:
    own = Catalog.load({"token_prices": {"openai/gpt-5": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 4}}})
    # 3,000 x 1 + 1,000 x 4 = 7,000 per million instead of 13,750
    assert own.token_prices("openai/gpt-5", date(2026, 12, 1)).price(3_000, 1_000) == pytest.approx(0.007)
    assert CATALOG.token_prices("openai/gpt-5", date(2026, 12, 1)).price(3_000, 1_000) == pytest.approx(0.01375)
    assert not own.has_batch_price("openai/gpt-5"), "the list's batch price is not a discount on the own one"
    assert CATALOG.has_batch_price("openai/gpt-5")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"gpoos": {}}, "unknown catalog table 'gpoos' in overrides. Did you mean gpus?"),
        (
            {"zzz": {}},
            "Known: models, terms, retirements, finetune_prices, gpus, gpu_prices, apis, engines, priors, token_prices",
        ),
        ({"gpus": 3}, "overrides.gpus holds rows by key"),
        ({"gpus": {"h100-sxm": 3}}, "overrides.gpus holds rows by key"),
        ({"gpus": {"h100-sxm": {"memory_gb": -1}}}, "overrides.gpus.h100-sxm: memory_gb"),
        ({"gpus": {"h100-sxm": {"memory": 80}}}, "overrides.gpus.h100-sxm: memory"),
        ({"gpus": {"new": {"memory_gb": 80}}}, "overrides.gpus.new: name: Field required"),
        ({"models": {"qwen3-8b": {"shape": {"layers": 0}}}}, "overrides.models.qwen3-8b: shape.layers"),
        ({"token_prices": {"a/b": {"input_usd_per_mtok": 1}}}, "overrides.token_prices.a/b: output_usd_per_mtok"),
        ({"token_prices": 3}, "overrides.token_prices holds rows by key"),
    ],
)
def test_a_wrong_override_names_its_place(overrides: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        Catalog.load(overrides)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            {"gpu_prices": {"x": {"gpu": "h100-smx", "provider": "a", "commitment": "spot", "usd_per_gpu_hour": 2}}},
            "unknown GPU 'h100-smx'. Did you mean h100-sxm",
        ),
        (
            {"models": {"qwen3-8b": {"terms": "qwen-apache"}}},
            "unknown terms 'qwen-apache'. Did you mean qwen-apache-weights, qwen-api",
        ),
    ],
)
def test_an_override_that_names_a_row_that_is_not_there_is_refused(overrides: dict[str, Any], says: str) -> None:
    with pytest.raises(UnknownName) as error:
        Catalog.load(overrides)
    assert says in str(error.value)


def test_overrides_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(
        '[gpus.h100-sxm]\ncapex_usd = 25000\n[token_prices."a/b"]\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 4\n',
        encoding="utf-8",
    )
    for path in (file, str(file)):
        own = Catalog.load(path)
        assert own.gpus["h100-sxm"].capex_usd == 25_000
        assert own.price_ref("a/b") == "a/b"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[gpus\n", "ours.toml is not valid TOML"),
        (b"x = 'caf\xe9'\n", "ours.toml is not UTF-8"),
        (b"[gpoos]\n", "unknown catalog table 'gpoos'"),
        (None, "cannot read"),
    ],
)
def test_a_wrong_file_of_overrides_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "ours.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=says):
        Catalog.load(file)


# Names


def test_models_and_gpus_by_their_ids() -> None:
    assert CATALOG.model("qwen3-8b").name == "Qwen3-8B"
    assert CATALOG.gpu("h100-sxm").memory_gb == 80


@pytest.mark.parametrize(("name", "near"), [("qwen3-8", "qwen3-8b"), ("Qwen3_8B", "qwen3-8b")])
def test_an_unknown_model_gets_near_names(name: str, near: str) -> None:
    with pytest.raises(UnknownName, match="unknown model") as error:
        CATALOG.model(name)
    assert near in error.value.near


def test_an_unknown_gpu_gets_near_names() -> None:
    with pytest.raises(UnknownName, match=r"unknown GPU 'h100'\. Did you mean h100-"):
        CATALOG.gpu("h100")


def test_a_row_is_found_by_its_id_and_by_any_of_its_hosts() -> None:
    for name in ("qwen3-8b", "huggingface_nscale/Qwen/Qwen3-8B", "openrouter/qwen/qwen3-8b"):
        found = CATALOG.model_of(name)
        assert found is not None
        assert found[0] == "qwen3-8b"
    assert CATALOG.model_of("openai/gpt-4.1") is None


def test_a_price_ref_is_itself_or_the_first_of_a_catalog_id() -> None:
    assert CATALOG.price_ref("openai/gpt-6-sol") == "openai/gpt-6-sol"
    assert CATALOG.price_ref("deepseek-r1") == CATALOG.models["deepseek-r1"].price_refs[0]


def test_weights_without_a_host_have_no_price_ref() -> None:
    with pytest.raises(InputError, match=r"qwen3-0\.6b has no per-token price"):
        CATALOG.price_ref("qwen3-0.6b")


@pytest.mark.parametrize(
    ("name", "near"), [("gpt-6-soll", "gpt-6-sol"), ("openai/gpt-6-soll", "openai/gpt-6-sol"), ("gpt-4.1", "gpt-4.1")]
)
def test_an_unknown_price_ref_gets_near_names(name: str, near: str) -> None:
    with pytest.raises(UnknownName) as error:
        CATALOG.price_ref(name)
    assert any(found.endswith(near) for found in error.value.near)


# Shutdowns


def with_retirements(*rows: dict[str, Any]) -> Catalog:
    table = {f"row-{i}": RetirementRow(**ORIGIN, **row) for i, row in enumerate(rows)}
    return dataclasses.replace(CATALOG, retirements=table)


def test_the_earliest_shutdown_holds() -> None:
    days = [date(2027, 3, 1), date(2027, 1, 1), date(2027, 2, 1)]
    catalog = with_retirements(*({"provider": "a", "model": "b", "what": "shutdown", "on": day} for day in days))
    end = catalog.shutdown("a/b")
    assert end is not None
    assert end.on == date(2027, 1, 1)


def test_only_a_shutdown_of_that_model_at_that_provider_ends_it() -> None:
    catalog = with_retirements(
        {"provider": "a", "model": "b", "what": "deprecated", "on": date(2026, 1, 1)},
        {"provider": "a", "what": "no-new-jobs", "on": date(2026, 1, 1)},
        {"provider": "other", "model": "b", "what": "shutdown", "on": date(2026, 1, 1)},
        {"provider": "a", "model": "b-mini", "what": "shutdown", "on": date(2026, 1, 1)},
    )
    assert catalog.shutdown("a/b") is None


def test_a_models_name_may_have_slashes() -> None:
    catalog = with_retirements({"provider": "a", "model": "b/c", "what": "shutdown", "on": date(2027, 1, 1)})
    assert catalog.shutdown("a/b/c") is not None


def test_living_refs_keep_their_order_and_lose_the_ended() -> None:
    row = CATALOG.models["qwen3-8b"].model_copy(update={"price_refs": ["a/x", "b/x", "c/x"]})
    catalog = with_retirements(
        {"provider": "b", "model": "x", "what": "shutdown", "on": date(2027, 1, 1)},
    )
    assert catalog.living_refs(row, date(2026, 12, 1)) == ["a/x", "b/x", "c/x"]
    assert catalog.living_refs(row, date(2027, 1, 1)) == ["a/x", "b/x", "c/x"], "it lives until that day"
    assert catalog.living_refs(row, date(2027, 1, 2)) == ["a/x", "c/x"]


def test_closings_are_a_providers_own_and_in_order() -> None:
    catalog = with_retirements(
        {"provider": "a", "what": "no-new-jobs", "on": date(2027, 1, 6)},
        {"provider": "a", "what": "new-customers-barred", "on": date(2026, 5, 7)},
        {"provider": "a", "model": "b", "what": "shutdown", "on": date(2026, 1, 1)},
        {"provider": "c", "what": "no-new-jobs", "on": date(2026, 1, 1)},
    )
    assert [row.on for row in catalog.closings("a")] == [date(2026, 5, 7), date(2027, 1, 6)]
    assert catalog.closings("nobody") == []


def test_a_model_that_is_passed_on_ends_with_its_makers() -> None:
    catalog = with_retirements(
        {"provider": "openai", "model": "gpt-5", "what": "shutdown", "on": date(2026, 12, 11)},
        {"provider": "anthropic", "model": "claude-sonnet-4-5", "what": "shutdown", "on": date(2026, 11, 30)},
    )
    for ref, on in (
        ("openrouter/openai/gpt-5", date(2026, 12, 11)),
        ("openrouter/anthropic/claude-sonnet-4.5", date(2026, 11, 30)),
    ):
        end = catalog.shutdown(ref)
        assert end is not None
        assert end.on == on
    assert catalog.shutdown("azure/gpt-5") is None, "a host with dates of its own"


def test_a_resellers_own_date_comes_before_the_makers() -> None:
    catalog = with_retirements(
        {"provider": "openai", "model": "gpt-5", "what": "shutdown", "on": date(2026, 12, 11)},
        {"provider": "openrouter", "model": "openai/gpt-5", "what": "shutdown", "on": date(2026, 12, 1)},
    )
    end = catalog.shutdown("openrouter/openai/gpt-5")
    assert end is not None
    assert end.on == date(2026, 12, 1)


def ends(model: str, on: date, replacement: str | None = None) -> dict[str, Any]:
    return {"provider": "a", "model": model, "what": "shutdown", "on": on, "replacement": replacement}


def test_successors_are_followed_to_one_that_lives() -> None:
    catalog = with_retirements(
        ends("one", date(2027, 1, 10), "a/two"),
        ends("two", date(2027, 6, 1), "a/three"),
        ends("three", date(2029, 1, 1)),
    )
    assert catalog.successors("a/one", date(2027, 1, 10)) == []
    assert catalog.successors("a/one", date(2027, 3, 1)) == [(date(2027, 1, 10), "a/two")]
    assert catalog.successors("a/one", date(2028, 1, 1)) == [
        (date(2027, 1, 10), "a/two"),
        (date(2027, 6, 1), "a/three"),
    ]
    assert catalog.successors("a/three", date(2028, 1, 1)) == []


def test_a_successor_that_ended_before_its_predecessor_is_passed_over_at_once() -> None:
    catalog = with_retirements(ends("one", date(2027, 6, 1), "a/two"), ends("two", date(2027, 1, 1), "a/three"))
    chain = catalog.successors("a/one", date(2028, 1, 1))
    assert chain == [(date(2027, 6, 1), "a/three")]


def test_successors_in_a_circle_end() -> None:
    catalog = with_retirements(ends("one", date(2027, 1, 1), "a/two"), ends("two", date(2027, 2, 1), "a/one"))
    assert catalog.successors("a/one", date(2028, 1, 1)) == [(date(2027, 1, 1), "a/two")]


def test_a_model_without_a_named_successor_has_none() -> None:
    assert with_retirements(ends("one", date(2027, 1, 1))).successors("a/one", date(2028, 1, 1)) == []


# What is shipped outlives the horizon it is used over


@pytest.mark.parametrize("name", sorted(samples()))
def test_a_sample_uses_no_model_that_ends_inside_its_horizon(name: str) -> None:
    scenario = Scenario.load(name)
    workload, choices = scenario.workload, scenario.choices
    last = add_months(workload.start, workload.horizon_months)
    row = CATALOG.model_of(choices.teacher)
    assert row is not None, "the catalog knows the teacher"
    named = [choices.teacher, *(choices.small or ()), *(choices.hosted or ())]
    for ref in [*(CATALOG.price_ref(name) for name in named), *row[1].small_siblings]:
        end = CATALOG.shutdown(ref)
        assert end is None or end.on >= last, ref
        CATALOG.token_prices(ref, workload.start, workload.horizon_months)
    for student in choices.students:
        assert CATALOG.model(student).shape is not None, "its fleet can be sized"


@pytest.mark.parametrize(
    "key",
    # Qwen-Max and Qwen-Turbo ended together; the pair stays for the article's row.
    [key for key, row in CATALOG.models.items() if row.small_siblings and key != "qwen-max"],
)
def test_the_first_small_sibling_of_a_teacher_is_alive(key: str) -> None:
    first = CATALOG.models[key].small_siblings[0]
    end = CATALOG.shutdown(first)
    assert end is None or end.on > date(2028, 12, 1), first


# Rentals


def offer(provider: str, usd: float, **more: Any) -> GpuPriceRow:
    return GpuPriceRow(
        **{
            **ORIGIN,
            "gpu": "h100-sxm",
            "commitment": "on-demand",
            "provider": provider,
            "usd_per_gpu_hour": usd,
            **more,
        }
    )


def with_offers(*rows: GpuPriceRow) -> Catalog:
    return dataclasses.replace(CATALOG, gpu_prices={f"row-{i}": row for i, row in enumerate(rows)})


def provider_of(row: GpuPriceRow | None) -> str | None:
    return row.provider if row else None


def test_the_cheapest_rental_is_taken() -> None:
    catalog = with_offers(offer("dear", 4), offer("cheap", 2), offer("middle", 3))
    assert provider_of(catalog.rental("h100-sxm", "on-demand")) == "cheap"


def test_a_rental_of_low_confidence_counts_only_where_there_is_no_other() -> None:
    doubtful = offer("doubtful", 1, confidence="low")
    catalog = with_offers(doubtful, offer("sure", 3), offer("fair", 2, confidence="medium"))
    assert provider_of(catalog.rental("h100-sxm", "on-demand")) == "fair"
    assert provider_of(with_offers(doubtful).rental("h100-sxm", "on-demand")) == "doubtful"


def test_a_rental_of_eight_is_none_of_one() -> None:
    catalog = with_offers(offer("eights", 1, min_gpus=8), offer("ones", 3))
    assert [provider_of(catalog.rental("h100-sxm", "on-demand", gpus=n)) for n in (1, 7, 8, 16)] == [
        "ones",
        "ones",
        "eights",
        "eights",
    ]


def test_a_rental_is_of_that_gpu_commitment_and_provider() -> None:
    catalog = with_offers(offer("a", 1, gpu="l4"), offer("b", 2, commitment="spot"), offer("c", 3), offer("d", 4))
    assert provider_of(catalog.rental("h100-sxm", "on-demand")) == "c"
    assert provider_of(catalog.rental("h100-sxm", "spot")) == "b"
    assert provider_of(catalog.rental("h100-sxm", "on-demand", provider="d")) == "d"
    assert catalog.rental("h100-sxm", "on-demand", provider="a") is None
    assert catalog.rental("h100-sxm", "reserved-3y") is None
    assert catalog.rental("nothing", "on-demand") is None


def test_equal_rentals_are_taken_by_name_not_by_their_place() -> None:
    one, other = offer("a", 2), offer("b", 2)
    for rows in ((one, other), (other, one)):
        assert provider_of(with_offers(*rows).rental("h100-sxm", "on-demand")) == "a"


def test_a_strangers_machine_is_rented_only_where_that_is_allowed() -> None:
    catalog = with_offers(offer("strangers", 1, tier="marketplace"), offer("cloud", 3))
    assert provider_of(catalog.rental("h100-sxm", "on-demand")) == "cloud"
    assert provider_of(catalog.rental("h100-sxm", "on-demand", marketplace=True)) == "strangers"
    assert with_offers(offer("strangers", 1, tier="marketplace")).rental("h100-sxm", "on-demand") is None


def test_the_shipped_default_training_gpu_can_be_rented() -> None:
    assert CATALOG.rental("h100-sxm", "on-demand") is not None


# APIs


def with_apis(**rows: dict[str, Any]) -> Catalog:
    return dataclasses.replace(CATALOG, apis={key: ApiRow(**{**ORIGIN, **row}) for key, row in rows.items()}, _apis={})


def test_a_models_api_row_lies_over_its_providers_field_by_field() -> None:
    # The model's row first: the order in the file does not decide.
    catalog = with_apis(
        model={"provider": "a", "model": "b", "cache_min_prefix_tokens": 2048, "ttft_p50_s": 0.5, "confidence": "low"},
        provider={
            "provider": "a",
            "cache_min_prefix_tokens": 1024,
            "cache_ttl_s": 300,
            "cache_ttl_refreshed": False,
            "regions": ["eu"],
        },
        other={"provider": "a", "model": "c", "cache_ttl_s": 1},
    )
    merged = catalog.api("a/b")
    assert merged is not None
    assert (merged.cache_min_prefix_tokens, merged.cache_ttl_s, merged.ttft_p50_s) == (2048, 300, 0.5)
    assert merged.cache_ttl_refreshed is False
    assert merged.regions == ["eu"]
    assert merged.confidence == "low"


def test_a_model_without_a_row_has_its_providers() -> None:
    catalog = with_apis(provider={"provider": "a", "cache_ttl_s": 300})
    row = catalog.api("a/anything")
    assert row is not None
    assert row.cache_ttl_s == 300
    assert row.output_tokens_per_s is None
    assert catalog.api("b/anything") is None


def test_each_api_figure_says_which_row_it_is_from() -> None:
    catalog = with_apis(
        model={"provider": "a", "model": "b", "ttft_p50_s": 0.5, "source": "a stopwatch"},
        provider={"provider": "a", "cache_ttl_s": 300, "ttft_p50_s": 1.0, "source": "a manual"},
    )
    assert catalog.api_source("a/b", "ttft_p50_s").source == "a stopwatch"
    assert catalog.api_source("a/b", "cache_ttl_s").source == "a manual"
    assert catalog.api_source("a/c", "ttft_p50_s").source == "a manual"


def test_published_cache_rules() -> None:
    # developers.openai.com prompt caching: from 1,024 tokens, 5 to 10 minutes; ai.google.dev: 2,048 for 2.5 Pro
    openai, google = CATALOG.api("openai/gpt-6-luna"), CATALOG.api("google/gemini-2.5-pro")
    assert openai is not None
    assert google is not None
    assert (openai.cache_min_prefix_tokens, openai.cache_ttl_s, openai.cache_ttl_refreshed) == (1024, 300, True)
    assert google.cache_min_prefix_tokens == 2048
    assert openai.ttft_p50_s == 0.74, "the model's own row is merged in"


# Provenance


def test_a_shipped_row_is_of_the_catalog_with_its_date() -> None:
    row = CATALOG.gpus["h100-sxm"]
    found = provenance_of(row)
    assert (found.kind, found.source, found.checked, found.confidence) == (
        "catalog",
        row.source,
        row.checked,
        row.confidence,
    )


def test_a_missing_price_stays_missing_through_the_catalog() -> None:
    with pytest.raises(MissingPrice):
        CATALOG.token_prices("openai/text-embedding-3-small", date(2026, 12, 1))
