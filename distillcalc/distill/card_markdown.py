"""A dataset card as the README of a Hugging Face dataset: YAML for its hub, Markdown for people.

Labels, names, prompts and terms are texts of others: none of them can become markup, a link or YAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from distillcalc.distill.filtered import in_words, options_in_words

_MARKUP = re.compile(r"[\\`*\[\]|~$]|^[#+=-]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LIST_NUMBER = re.compile(r"^(\d{1,9})(?=[.)](?:\s|$))")
_LINK = re.compile(r"(://|\bwww\.)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_UNPRINTED = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")  # what YAML does not take as it is
_LICENCE_ID = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_VERDICTS = {"pass": "allowed", "fail": "prohibited", "unknown": "unclear: ask the provider"}


def card_markdown(card: Mapping[str, Any]) -> str:
    """A page of what :func:`distillcalc.distill.card.dataset_card` returns.

    Parameters
    ----------
    card : its values.

    Returns
    -------
    str
        Markdown with YAML in front, for a README.md.
    """
    parts = [_front(card), f"# {plain(card['name'])}"]
    if card["description"]:
        parts.append(plain(card["description"]))
    parts += ["## What it is", _facts(card), *_task(card["task"])]
    if card["classes"]:
        parts += ["## Classes", _table(("label", "records"), card["classes"].items())]
    if card["splits"]:
        parts += ["## Splits", _table(("split", "records"), card["splits"].items())]
    parts += ["## Teacher", _dicts(card["teachers"]) or "No records."]
    if card["sampling"]:
        parts += ["Asked with:", _dicts(card["sampling"])]
    if card["filters"]:
        parts += ["## Filters", "In the order in which they ran.", *_filters(card["filters"])]
    parts += ["## Terms that apply", *_terms(card["terms"])]
    parts += ["## Known limits", _list(_limits(card))]
    parts += ["## Licence", plain(card["licence"]) if card["licence"] else _NO_LICENCE]
    return "\n\n".join(part for part in parts if part) + "\n"


_NO_LICENCE = "None is stated. The terms above say what the teacher's provider asks; the inputs keep their own licence."


def plain(text: Any) -> str:
    """A text of others as one line of Markdown that shows as it is written."""
    line = " ".join(_CONTROL.sub("", str(text)).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _LIST_NUMBER.sub(r"\1\\", _MARKUP.sub(lambda found: "\\" + found.group(), line))
    return _LINK.sub(lambda found: found.group()[:-1] + "\\" + found.group()[-1], line)


def fenced(text: str, language: str = "") -> str:
    """A text as a code block that nothing in it can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def yaml_text(text: str) -> str:
    """A text as a YAML scalar in double quotes, which is JSON's but for characters that YAML does not print."""
    return _UNPRINTED.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(text, ensure_ascii=False))


def _front(card: Mapping[str, Any]) -> str:
    total = card["records"]["total"]
    size = next((name for limit, name in _SIZES if total < limit), "n>1M")
    category = "text-classification" if card["task"]["kind"] == "label" else "text-generation"
    licence = card["licence"] if _LICENCE_ID.fullmatch(card["licence"]) else "other"
    return "\n".join(
        [
            "---",
            f"pretty_name: {yaml_text(card['name'])}",
            f"license: {yaml_text(licence)}",
            f"task_categories:\n- {yaml_text(category)}",
            f"size_categories:\n- {yaml_text(size)}",
            "tags:\n- distillcalc\n- synthetic",
            "---",
        ]
    )


def _facts(card: Mapping[str, Any]) -> str:
    records, spend, tokens = card["records"], card["spend"], card["tokens"]
    rows: list[tuple[str, Any]] = [
        ("records", f"{records['total']:,} answers to {records['inputs']:,} inputs, {records['valid']:,} valid"),
        ("answers", {"label": "labels", "json": "JSON", "text": "text"}[card["task"]["kind"]]),
    ]
    if records["with_reasoning"]:
        rows.append(("with a chain of thought", f"{records['with_reasoning']:,}"))
    if records["with_logprobs"]:
        rows.append(("with log-probabilities", f"{records['with_logprobs']:,}"))
    if card["from"]:
        rows.append(("answered", f"{card['from']} to {card['to']}"))
    if tokens:
        rows.append(("tokens", ", ".join(f"{kind} {count:,}" for kind, count in tokens.items())))
    for what, key in (("forecast spend", "forecast_usd"), ("actual spend", "actual_usd")):
        if spend[key] is not None:
            rows.append((what, _usd(spend[key])))
    rows.append(("spend on these records", _usd(spend["of_these_records_usd"])))
    if card["redacted"]:
        rows.append(("masked before sending", ", ".join(f"{kind} {n:,}" for kind, n in card["redacted"].items())))
    return _table(("", ""), rows)


def _task(task: Mapping[str, Any]) -> Iterator[str]:
    yield "## What the teacher was asked"
    if task["system"]:
        yield "System message:"
        yield fenced(task["system"])
    yield "Prompt:"
    yield fenced(task["prompt"])
    if task["examples"]:
        yield f"With {task['examples']} worked examples."
    if task["output_schema"] is not None:
        yield "Answers fit this schema:"
        yield fenced(_json(task["output_schema"]), "json")


def _terms(terms: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    rows = []
    for term in terms:
        verdict = _VERDICTS.get(str(term["verdict"]), str(term["verdict"]))
        words = f"{plain(term['id'])}: **{plain(verdict)}**. {plain(term['says'])}"
        if term["requirements"]:
            words += f" Required: {plain(term['requirements'])}"
        rows.append(f"- {words} (source: {plain(term['source'])}, checked {plain(term['checked'])})")
    yield "\n".join(rows) or "None are known. Read the terms of the teacher's provider before training on this."
    if rows:
        yield "This is not legal advice."


def _filters(filters: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """How many each read and kept, then why: the records that they took out are listed in filters.json alone."""
    rows, why = [], []
    for one in filters:
        if not {"name", "read", "kept"} <= one.keys():  # a report of another make
            why.append(fenced(_json(one), "json"))
            continue
        name = str(one["name"]).replace("_", " ")
        rows.append((name, options_in_words(one.get("settings") or {}), one["read"], one["kept"]))
        lines = [f"{name}: {count:,} x {reason}" for reason, count in (one.get("by_reason") or {}).items()]
        for detail, value in (one.get("details") or {}).items():
            lines.append(f"{name}: {detail.replace('_', ' ')}: {in_words(value)}")
        if lines:
            why.append(_list(lines))
    if rows:
        yield _table(("filter", "settings", "read", "kept"), rows)
    yield from why


def _usd(amount: float) -> str:
    """Dollars, with more digits below one."""
    return f"{amount:,.2f} USD" if amount >= 1 or amount == 0 else f"{amount:.4f} USD"


def _limits(card: Mapping[str, Any]) -> Iterator[str]:
    agreed = card["human_agreement"]
    if agreed["judged"]:
        share = f"{agreed['right']:,} of {agreed['judged']:,} ({agreed['share']:.1%})"
        yield f"Of these records, people agreed with the teacher on {share}."
    else:
        yield "No answer was judged by a person: how often the teacher is right is not known."
    yield from card["limits"]


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {plain(line)}" for line in lines)


def _dicts(rows: list[dict[str, Any]]) -> str:
    """Rows of the same keys as a table, without the columns that say nothing."""
    names = [name for name in (rows[0] if rows else ()) if any(row[name] not in (None, "") for row in rows)]
    return _table(names, [["" if row[name] is None else row[name] for name in names] for row in rows]) if names else ""


def _table(names: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = [plain(name) for name in names]
    lines = [head, ["---"] * len(head)]
    lines += [[f"{cell:,}" if type(cell) is int else plain(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
