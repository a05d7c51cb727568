"""What prompts have in common: repeats, shared prefixes, retries. Texts are compared inside DuckDB and not kept."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

from distillcalc.workload.logs.profile import Failures, Prefixes, Repeats

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ANSWERED = "failed IS NOT TRUE"
FAMILY_CHARACTERS = 200
MOST_FAMILIES = 1000
RETRY_S = 60
SHOWN = 5
PART_REQUESTS = 2_000_000
CUT = "litellm_truncated"  # what LiteLLM writes where it has cut a text out of the middle
CHARACTERS_PER_TOKEN = 4.0  # of English, where no prompt is whole

# md5, not DuckDB's hash(): that takes long texts that differ in two numbers, as templated prompts do, for the same.
# Letters and digits stay: "order 17" and "order 18" have different answers. Listed, as a regular expression over
# character classes takes more than twice the time.
_DROPPED = " \t\r\n\u00a0" + string.punctuation + "’‘“”«»…–—¿¡。、，！？：；（）"  # noqa: RUF001
_NORMAL = "coalesce(nullif(translate(lower(prompt), '{}', ''), ''), prompt)".format(_DROPPED.replace("'", "''"))


def measure_repeats(connection: DuckDBPyConnection, *, hashed: bool, texts: bool) -> Repeats:
    """Shares of the answered requests whose prompt came before (a failed one leaves no answer to reuse)."""
    if not hashed:
        return Repeats()
    # In parts by hash, so that what has to be held does not grow with the log.
    (total,) = _row(connection, "SELECT count(prompt_hash) FROM requests")
    parts = -(-total // PART_REQUESTS)
    found = [_repeated(connection, "prompt_hash", f"prompt_hash % {parts} = {part}") for part in range(parts)]
    exact, rows = (sum(column) for column in zip(*found, strict=True))
    if not texts or not rows:
        return Repeats(exact / rows if rows else None)
    near, with_text = _repeated(connection, f"md5_number({_NORMAL})", "prompt IS NOT NULL")
    same = exact if with_text == rows else _repeated(connection, "prompt_hash", "prompt IS NOT NULL")[0]
    return Repeats(exact / rows, max(near - same, 0) / with_text)


def _repeated(connection: DuckDBPyConnection, key: str, where: str) -> tuple[int, int]:
    """Requests beyond the first of each key, and requests."""
    groups, rows = _row(
        connection,
        f"SELECT count(*), coalesce(sum(n), 0)::BIGINT FROM "
        f"(SELECT count(*) AS n FROM requests WHERE {where} AND {ANSWERED} GROUP BY {key})",
    )
    return rows - groups, rows


def measure_prefixes(connection: DuckDBPyConnection) -> Prefixes | None:
    """The longest common prefix of each family of prompts with the same first 200 characters.

    Of the texts between the least and the greatest of a family in byte order each begins with what those two
    share, so two texts a family are enough. Tokens are at the family's own tokens per character, of the prompts that
    were logged whole, and at most one per character: images and tools have tokens too, and are no text.
    """
    key = f"md5_number(left(prompt, {FAMILY_CHARACTERS}))"
    texts = f"requests WHERE prompt IS NOT NULL AND prompt <> '' AND {ANSWERED}"
    whole = f"input_tokens IS NOT NULL AND NOT contains(prompt, '{CUT}')"
    (total,) = _row(connection, f"SELECT count(*) FROM {texts}")
    if not total:
        return None
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE prompt_families AS
        SELECT *, count(*) OVER () AS families FROM (
            SELECT {key} AS family, count(*) AS n,
                   sum(input_tokens) FILTER ({whole})::DOUBLE / sum(length(prompt)) FILTER ({whole}) AS rate
            FROM {texts} GROUP BY 1 HAVING count(*) > 1
        ) ORDER BY n DESC, family LIMIT {MOST_FAMILIES}
        """
    )
    try:
        found = connection.execute(
            f"""
            SELECT f.n, f.rate, f.families, r.least, r.greatest
            FROM (SELECT {key} AS family, min(prompt) AS least, max(prompt) AS greatest FROM {texts}
                  AND {key} IN (SELECT family FROM prompt_families) GROUP BY 1) r
            JOIN prompt_families f USING (family) ORDER BY f.n DESC, f.family
            """
        ).fetchall()
    finally:
        connection.execute("DROP TABLE IF EXISTS prompt_families")
    sized = []
    for n, rate, _, least, greatest in found:
        characters = _common(least, greatest)
        per_character = 1 / CHARACTERS_PER_TOKEN if rate is None else min(float(rate), 1.0)
        sized.append((int(n), characters, characters * per_character))
    tokens = sum(n * t for n, _, t in sized)
    squares = sum((n * t) ** 2 for n, _, t in sized)
    return Prefixes(
        families=int(found[0][2]) if found else 0,
        share=sum(n for n, _, _ in sized) / total,
        mean_characters=sum(n * characters for n, characters, _ in sized) / total,
        mean_tokens=tokens / total,
        effective=tokens**2 / squares if squares else 1.0,
        largest=tuple(sized[:SHOWN]),
    )


def measure_failures(
    connection: DuckDBPyConnection, *, requests: int, failed: int, known: int, hashed: bool, undated: int = 0
) -> Failures:
    """Share that failed among the requests with a logged outcome, and of retries among all.

    Parameters
    ----------
    undated : requests that failed and have no time, so they are not among the others
    """
    if not known + undated:
        return Failures()
    share, dated = (failed + undated) / (known + undated), failed / known if known else 0.0
    if not failed:
        return Failures(share, 0.0, dated, undated)
    if not hashed:
        return Failures(share, None, dated, undated)
    (retries,) = _row(
        connection,
        f"""
        SELECT count(*) FROM (
            SELECT "at" - lag("at") OVER same AS since, lag(failed) OVER same AS after_failure
            FROM requests
            WHERE prompt_hash IN (SELECT prompt_hash FROM requests WHERE failed AND prompt_hash IS NOT NULL)
            WINDOW same AS (PARTITION BY prompt_hash ORDER BY "at", failed DESC NULLS LAST)
        ) WHERE after_failure AND since <= INTERVAL {RETRY_S} SECOND
        """,
    )
    return Failures(share, retries / requests, dated, undated)


def _common(one: str, other: str) -> int:
    """Characters that two texts share at their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _row(connection: DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row
