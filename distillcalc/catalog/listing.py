"""The catalog's tables as rows of plain values and as rich tables, for `distillcalc catalog`."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from distillcalc.catalog.load import Catalog
from distillcalc.catalog.names import all_refs, package_version
from distillcalc.catalog.ratios import cost_ratio, model_status
from distillcalc.catalog.schema import Commitment
from distillcalc.errors import MissingPrice, UnknownName
from distillcalc.workload.distributions import Distribution

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS: dict[str, tuple[str, ...]] = {
    "models": (
        "id",
        "teacher",
        "base",
        "size",
        "licence",
        "kept",
        "cheaper",
        "computed",
        "status",
        "checked",
    ),
    "prices": ("ref", "input", "cached", "output", "batch in", "batch out", "window", "status"),
    "gpus": (
        "id",
        "memory GB",
        "GB/s",
        "bf16 TFLOPS",
        "fp8 TFLOPS",
        "W",
        "on-demand $/h",
        "spot $/h",
        "reserved 1y $/h",
        "checked",
    ),
    "engines": (
        "id",
        "mbu",
        "mfu_bf16",
        "mfu_fp8",
        "mfu_fp4",
        "fixed_s",
        "layer_s",
        "sequence_s",
        "rows",
        "tpot_factor",
        "checked",
        "confidence",
    ),
    "priors": ("id", "distribution", "of", "evidence", "checked", "confidence"),
    "terms": (
        "id",
        "surface",
        "private classifier",
        "not competing",
        "competing",
        "says",
        "the article says",
        "verdict",
        "checked",
    ),
    "retirements": ("id", "what", "on", "replacement", "source", "confidence"),
}


NUMBERS = (
    "input",
    "cached",
    "output",
    "batch in",
    "batch out",
    "window",
    "memory GB",
    "GB/s",
    "bf16 TFLOPS",
    "fp8 TFLOPS",
    "W",
    "cheaper",
    "computed",
)


SHORTENED = {"source": 18, "teacher": 16, "base": 14, "licence": 12}  # in full in the JSON


def listing(catalog: Catalog, table: str, *, on: date, like: str = "", every: bool = False) -> list[dict[str, Any]]:
    """The rows of one table as plain values, complete: what `--json` prints."""
    rows: dict[str, Any] = {
        "models": _models,
        "prices": _prices,
        "gpus": _gpus,
        "engines": _plain_rows,
        "priors": _plain_rows,
        "terms": _plain_rows,
        "retirements": _plain_rows,
    }
    found: list[dict[str, Any]] = rows[table](catalog, table, on, every)
    wanted = like.lower()
    return [row for row in found if wanted in str(row.get("id", row.get("ref", ""))).lower()]


def _plain_rows(catalog: Catalog, table: str, on: date, every: bool) -> list[dict[str, Any]]:
    return [{"id": key, **row.model_dump(mode="json")} for key, row in getattr(catalog, table).items()]


def _models(catalog: Catalog, table: str, on: date, every: bool) -> list[dict[str, Any]]:
    found = []
    for key, row in catalog.models.items():
        ratio = cost_ratio(catalog, row, on)
        found.append(
            {
                "id": key,
                **row.model_dump(mode="json"),
                "computed_cost_ratio": ratio.computed,
                "computed_from": [ratio.teacher_ref, ratio.student_ref],
                "computed_on": on.isoformat(),
                "prices": f"genai-prices {package_version()}",
                "status": model_status(catalog, row, on),
            }
        )
    return found


def _prices(catalog: Catalog, table: str, on: date, every: bool) -> list[dict[str, Any]]:
    named = [ref for row in catalog.models.values() for ref in row.price_refs]
    refs = all_refs() if every else list(dict.fromkeys([*catalog.token_prices_given, *named]))
    found = []
    for ref in refs:
        try:
            prices = catalog.token_prices(ref, on)
        except (MissingPrice, UnknownName):
            continue
        end = catalog.shutdown(ref)
        batch = catalog.token_prices(ref, on, processing="batch") if catalog.has_batch_price(ref, on) else None
        found.append(
            {
                "ref": ref,
                "tiers_above_input_tokens": [int(t) for t in prices.thresholds],
                "input_usd_per_mtok": prices.input[0].tolist(),
                "cached_usd_per_mtok": prices.cached[0].tolist(),
                "cache_write_usd_per_mtok": prices.cache_write[0].tolist(),
                "output_usd_per_mtok": prices.output[0].tolist(),
                "batch_input_usd_per_mtok": batch.input[0].tolist() if batch else None,
                "batch_output_usd_per_mtok": batch.output[0].tolist() if batch else None,
                "context_window": prices.context_window,
                "shutdown": end.on.isoformat() if end else None,
                "source": prices.provenance.source,
                "on": on.isoformat(),
            }
        )
    return found


def _gpus(catalog: Catalog, table: str, on: date, every: bool) -> list[dict[str, Any]]:
    commitments: tuple[Commitment, ...] = ("on-demand", "spot", "reserved-1y", "reserved-3y")
    found = []
    for key, row in catalog.gpus.items():
        best = {c: catalog.rental(key, c, gpus=8) for c in commitments}
        found.append(
            {
                "id": key,
                **row.model_dump(mode="json"),
                "rental": {c: offer.model_dump(mode="json") if offer else None for c, offer in best.items()},
            }
        )
    return found


def _range(pair: Any, percent: bool = False) -> str:
    if not pair:
        return "-"
    low, high = (f"{v:.0%}" if percent else f"{v:g}x" for v in pair)
    return low if low == high else f"{low}–{high}"


def _cells(table: str, row: dict[str, Any]) -> tuple[str, ...]:
    if table == "models":
        size = f"{row['params_b']:g}B" if row["params_b"] else row["article_params"] or "-"
        if row["active_params_b"]:
            size += f"/{row['active_params_b']:g}B"
        computed = f"{row['computed_cost_ratio']:.1f}x" if row["computed_cost_ratio"] else "-"
        return (
            row["id"],
            row["teacher"],
            row["base"],
            size,
            row["licence"],
            _range(row["claimed_retention"], True),
            _range(row["claimed_cost_ratio"]),
            computed,
            row["status"],
            row["checked"],
        )
    if table == "prices":

        def dollars(name: str) -> str:
            return " / ".join(f"{v:g}" for v in row[name]) if row[name] else "-"

        window = f"{row['context_window']:,}" if row["context_window"] else "-"
        return (
            row["ref"],
            dollars("input_usd_per_mtok"),
            dollars("cached_usd_per_mtok"),
            dollars("output_usd_per_mtok"),
            dollars("batch_input_usd_per_mtok"),
            dollars("batch_output_usd_per_mtok"),
            window,
            f"{'ended' if row['shutdown'] <= row['on'] else 'ends'} {row['shutdown']}" if row["shutdown"] else "alive",
        )
    if table == "gpus":

        def rent(commitment: str) -> str:
            offer = row["rental"][commitment]
            return f"{offer['usd_per_gpu_hour']:g} ({offer['provider']})" if offer else "-"

        figures = tuple(
            f"{row[name]:g}" if row[name] else "-"
            for name in ("memory_gb", "bandwidth_gb_s", "bf16_tflops", "fp8_tflops", "tdp_w")
        )
        return (row["id"], *figures, rent("on-demand"), rent("spot"), rent("reserved-1y"), row["checked"])
    if table == "engines":
        return tuple(f"{row[name]:g}" if isinstance(row[name], float) else str(row[name]) for name in COLUMNS[table])
    if table == "priors":
        words = repr(Distribution.of(row["distribution"]))
        of = "stated value" if row["relative"] else "value"
        return (row["id"], words, of, row["evidence"], row["checked"], row["confidence"])
    if table == "terms":
        return (
            row["id"],
            row["surface"],
            row["private_classifier"],
            row["not_competing"],
            row["competing"],
            row["says"],
            row["article_says"] or "-",
            row["article_verdict"] or "-",
            row["checked"],
        )
    return (row["id"], row["what"], row["on"], row["replacement"] or "-", row["source"], row["confidence"])


def listing_table(table: str, rows: list[dict[str, Any]]) -> Table:
    """The same rows as a rich table; the long texts are only in the JSON."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    titles = {
        "models": "Distilled models and teachers: share of quality kept and times cheaper as the article claims, "
        "and times cheaper computed for 3,000 tokens in, 1,000 out at today's prices",
        "prices": f"USD per million tokens, tiers separated by a slash (genai-prices {package_version()})",
        "gpus": "Accelerators: dense peaks, cheapest dated rental by commitment",
        "engines": "Serving engines: shares of the peaks, seconds per step, layer and sequence; from how many points",
        "priors": "What is believed of inputs that a scenario does not state, or how far off a stated one may be",
        "terms": "May a student be trained on the outputs? By provider, surface and use",
        "retirements": "Announced ends of models and services",
    }
    shown = Table(title=titles[table], box=SIMPLE_HEAD)
    for heading in COLUMNS[table]:
        short = table == "models" or heading in ("id", "checked", "status")
        shown.add_column(
            heading,
            overflow="ellipsis" if short else "fold",
            no_wrap=short,
            max_width=SHORTENED.get(heading),
            min_width=30 if heading == "id" else None,
            justify="right" if heading in NUMBERS else "left",
        )
    for row in rows:
        shown.add_row(*(escape(cell) for cell in _cells(table, row)))
    return shown
