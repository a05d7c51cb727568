"""How list prices have moved: every dated change that the installed genai-prices records, and what follows from them.

genai-prices keeps a price's history only as far as somebody entered it. A row of a reseller is mostly the day on which
its price was looked up; a maker's own row is the day on which the maker changed it. So the two are told apart.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from distillcalc.catalog.makers import maker
from distillcalc.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from genai_prices.types import ModelInfo

# Those that sell what they made. Zhipu's Chinese list (zhipuai) is of the same models as zai's.
OWN = (
    "anthropic",
    "cohere",
    "deepseek",
    "google",
    "meta",
    "minimax",
    "mistral",
    "moonshotai",
    "openai",
    "x-ai",
    "zai",
)
# Aliases that move to another model, models of others, free ones and fine-tunes.
NOT_ONE_MODEL = re.compile(r"^(~|ft:|gemma|zai-)|/|-latest|\.ft-|:free")
# What is mainly sold by something other than tokens of text.
NOT_TEXT = re.compile(
    r"audio|banana|computer-use|deep-research|embed|image|live|moderation|ocr|omni|realtime|robotics|search|"
    r"transcri|tts|vision|voice|voxtral|whisper",
    re.IGNORECASE,
)
YEAR_DAYS = 365
OUTPUT_SHARE = 0.25  # of the blended price: 3 parts input to 1 part output
EXPOSURE_YEARS = 0.5  # of a year's window that a listed model was on sale, on average: assumed
LEAST_DAYS = 90  # from a model's release to its last change; a shorter time says nothing of a year


def makers_own(provider: str, model: str) -> bool:
    """Whether this is the list price of a text model by its own maker, and always of the same model.

    >>> makers_own("openai", "gpt-5.6-sol"), makers_own("openrouter", "openai/gpt-5.6-sol")
    (True, False)
    >>> makers_own("google", "claude-opus-4-6"), makers_own("mistral", "mistral-small-latest")
    (False, False)
    """
    return (
        provider in OWN
        and maker(f"{provider}/{model}") in (provider, None)
        and not NOT_ONE_MODEL.search(model)
        and not NOT_TEXT.search(model)
    )


def price_changes(since: date | None = None) -> pd.DataFrame:
    """Every dated change of a list price, one row each, in the order of provider, model and day.

    Parameters
    ----------
    since : changes from this day on; left out, all. Announced ones of days to come are among them.

    Returns
    -------
    provider, model; own (:func:`makers_own`); day from which it holds; input_before, input_after, output_before,
    output_after of the first tier [USD per million tokens]; ratio, after / before, of 3 parts input to 1 part output
    (1 where only the tiers or the cache changed); yearly_change from the model's release to its last change, where the
    catalog has its release and :data:`LEAST_DAYS` lie between, else nan.

    Notes
    -----
    Prices by time of day are left out. So are models without a price of both input and output.
    """
    import pandas as pd
    from genai_prices.data_snapshot import get_snapshot

    from distillcalc.catalog.load import Catalog

    catalog, rows = Catalog.load(), []
    for provider in get_snapshot().providers:
        for model in provider.models:
            steps = _steps(model)
            if len(steps) < 2:
                continue
            known = catalog.model_of(f"{provider.id}/{model.id}")
            yearly = _yearly(steps, known[1].released if known else None)
            for (_, *before), (day, *after) in pairwise(steps):
                if since is None or day >= since:
                    own = makers_own(provider.id, model.id)
                    ratio = round(_blended(*after) / _blended(*before), 6)
                    pair = (before[0], after[0], before[1], after[1])
                    rows.append((provider.id, model.id, own, day, *pair, ratio, yearly))
    columns = "provider model own day input_before input_after output_before output_after ratio yearly_change"
    table = pd.DataFrame(rows, columns=columns.split())
    return table.sort_values(["provider", "model", "day"], ignore_index=True)


def own_models() -> list[tuple[str, str]]:
    """(provider, model) of the makers' own text models that are priced and not marked as deprecated."""
    from genai_prices.data_snapshot import get_snapshot

    return [
        (provider.id, model.id)
        for provider in get_snapshot().providers
        for model in provider.models
        if not model.deprecated and makers_own(provider.id, model.id) and _steps(model)
    ]


def price_change_prior(until: date, exposure_years: float = EXPOSURE_YEARS) -> dict[str, Any]:
    """By how much the list price of one model changes in a year, from the changes of the year up to ``until``.

    Parameters
    ----------
    until : last day of the year; announced changes of later days are left out, as token prices have them already.
    exposure_years : for how much of the year a listed model was on sale, on average, above 0 and at most 1.

    Returns
    -------
    ``{"discrete": {"values": [...], "weights": [...]}}``, 0 for a price that stays.

    Notes
    -----
    With k of n models changed, one changes in a whole year with probability 1 - (1 - k/n)^(1/exposure). Each change
    seen is as likely as the others; changes of one model are multiplied.

    Raises
    ------
    InputError
        If the exposure is out of its bounds.
    """
    if not 0 < exposure_years <= 1:
        raise InputError(f"exposure_years must be above 0 and at most 1. Got {exposure_years:g}")
    table = price_changes(until - timedelta(days=YEAR_DAYS - 1))
    listed = set(own_models())
    ratios: dict[tuple[str, str], float] = {}
    table = table[table.day <= until]
    for provider, model, ratio in zip(table.provider, table.model, table.ratio.to_numpy(float), strict=True):
        if (provider, model) in listed:
            ratios[provider, model] = ratios.get((provider, model), 1.0) * float(ratio)
    moved = Counter(round(ratio - 1, 2) for ratio in ratios.values() if abs(ratio - 1) > 1e-6)
    seen = sum(moved.values())
    moves = 1 - (1 - seen / len(listed)) ** (1 / exposure_years) if listed else 0.0
    weights = {change: moves * count / seen for change, count in moved.items()}
    weights[0.0] = weights.get(0.0, 0.0) + 1 - moves
    values = sorted(weights)
    return {"discrete": {"values": values, "weights": [round(weights[value], 4) for value in values]}}


def _steps(model: ModelInfo) -> list[tuple[date, float, float]]:
    """(from that day on, input, output) of the first tier, oldest first; the price without a day starts at day one."""
    from genai_prices.types import StartDateConstraint

    dated: list[tuple[date, Any]] = []
    if isinstance(model.prices, list):
        for entry in model.prices:
            if entry.constraint is None:
                dated.append((date.min, entry.prices))
            elif isinstance(entry.constraint, StartDateConstraint):
                dated.append((entry.constraint.start_date, entry.prices))
    else:
        dated.append((date.min, model.prices))
    steps = [(day, _base(prices.input_mtok), _base(prices.output_mtok)) for day, prices in dated]
    return sorted(step for step in steps if step[1] > 0 and step[2] > 0)


def _base(price: Any) -> float:
    """The price of the first tier; 0 where there is none."""
    return float(getattr(price, "base", price) or 0)


def _blended(input_usd: float, output_usd: float) -> float:
    return (1 - OUTPUT_SHARE) * input_usd + OUTPUT_SHARE * output_usd


def _yearly(steps: list[tuple[date, float, float]], released: date | None) -> float:
    """Change per year from the release to the last change."""
    days = (steps[-1][0] - released).days if released else 0
    if days < LEAST_DAYS:
        return float("nan")
    return float((_blended(*steps[-1][1:]) / _blended(*steps[0][1:])) ** (YEAR_DAYS / days) - 1)
