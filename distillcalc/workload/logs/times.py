"""The SQL that reads a time, however it is written, as UTC."""

from __future__ import annotations

# Of RFC 5322, and those that stand for one offset only; BST, IST, CST and CDT stand for several. In DuckDB such words
# would be zones of Java's, where BST is Bangladesh, or no zones at all. CET, EST and their like are IANA names too.
OFFSETS = {
    "EDT": "-04:00",
    "MDT": "-06:00",
    "PST": "-08:00",
    "PDT": "-07:00",
    "CEST": "+02:00",
    "EEST": "+03:00",
    "WEST": "+01:00",
    "JST": "+09:00",
}
SHORT_NAMES = ("CET", "EET", "MET", "WET", "EST", "MST", "HST", "UCT", "ZULU")
FORMS = "ISO 8601, 2026-01-31 1:30 PM, RFC 1123, the Common Log Format, or seconds, ms, us or ns since 1970"


def written_time(t: str, zone: str) -> tuple[str, str]:
    """A text in UTC, and the zone it was written with (empty: none, ``?``: not known), as SQL.

    Parameters
    ----------
    t : an expression; ``tail`` must be its last six characters, since substrings of long text are slow
    zone : the time zone of times written without one
    """
    word = rf"regexp_extract({t}, '[A-Za-z_]+([/+-][A-Za-z0-9_+-]+)*$')"
    written = (
        f"CASE WHEN strlen({t}) <= 20 AND NOT contains({t}, '-') AND TRY_CAST({t} AS DOUBLE) IS NOT NULL THEN 'Z' "
        "WHEN ends_with(tail, 'Z') AND tail[5] < 'A' THEN 'Z' "
        "WHEN (ends_with(tail, 'UTC') OR ends_with(tail, 'GMT')) AND tail[3] < 'A' THEN 'Z' "
        f"WHEN strlen({t}) > 15 AND tail[1] IN ('+', '-') THEN tail "
        f"WHEN strlen({t}) > 15 AND tail[2] IN ('+', '-') THEN tail[2:] "
        f"WHEN strlen({t}) > 15 AND tail[4] IN ('+', '-') THEN tail[4:] "
        "WHEN translate(tail, '0123456789:.,- T', '') = '' THEN '' "
        f"ELSE coalesce(nullif({word}, ''), '?') END"
    )
    names = ", ".join(f"'{name}'" for name in (*OFFSETS, *SHORT_NAMES))
    bare = f"rtrim(left({t}, strlen({t}) - strlen(zone)))"
    offsets = " ".join(f"WHEN '{name}' THEN {bare} || '{offset}'" for name, offset in OFFSETS.items())
    at = (
        f"coalesce(CASE WHEN zone = '' THEN {in_utc(f'TRY_CAST({t} AS TIMESTAMP)', zone)} "
        f"WHEN zone = 'Z' THEN TRY_CAST({t} AS TIMESTAMP) "
        f"WHEN upper(zone) IN ('AM', 'PM') THEN {in_utc(_of_twelve_hours(t), zone)} "
        f"WHEN zone[1] IN ('+', '-') THEN timezone('UTC', TRY_CAST({t} AS TIMESTAMPTZ)) "
        f"WHEN regexp_full_match(zone, '[A-Za-z]{{1,4}}') AND upper(zone) NOT IN ({names}) THEN NULL "
        f"ELSE timezone('UTC', TRY_CAST(CASE upper(zone) {offsets} ELSE {t} END AS TIMESTAMPTZ)) END, "
        f"{from_epoch(f'TRY_CAST({t} AS DOUBLE)')}, {_from_other_forms(t, zone)})"
    )
    return at, written


def _of_twelve_hours(t: str) -> str:
    formats = ", ".join(
        f"'%Y-%m-%d{between}%I:%M{seconds} %p'" for between in (" ", "T") for seconds in (":%S", ":%S.%f", "")
    )
    return f"try_strptime(regexp_replace({t}, '\\s*([AaPp][Mm])$', ' \\1'), [{formats}])"


def _from_other_forms(t: str, zone: str) -> str:
    """Times as logging libraries write them that no cast reads: tried only where all else failed.

    A comma before the fraction (Python), no separators (ISO 8601 basic), a blank before the offset (Go), RFC 1123 and
    the Common Log Format.
    """
    iso = rf"regexp_replace(replace({t}, ',', '.'), ' ([+-]\d\d:?\d\d)( [A-Z]+)?( m=\S+)?$', '\1')"
    iso = rf"regexp_replace({iso}, '^(\d{{4}})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)', '\1-\2-\3 \4:\5:\6')"
    named = f"try_strptime({t}, ['%a, %d %b %Y %H:%M:%S %Z', '%d/%b/%Y:%H:%M:%S %z'])"
    return (
        rf"CASE WHEN regexp_matches({iso}, '(\dZ| Z|UTC|GMT|[+-]\d\d(:?\d\d)?)$') "
        f"THEN timezone('UTC', TRY_CAST({iso} AS TIMESTAMPTZ)) "
        f"WHEN zone = '' THEN {in_utc(f'TRY_CAST({iso} AS TIMESTAMP)', zone)} END, "
        f"CASE WHEN regexp_matches({t}, '(GMT|UTC|[+-]\\d{{4}})$') THEN timezone('UTC', {named}) END"
    )


def in_utc(sql: str, zone: str) -> str:
    """A time without a zone, as it is in a zone, in UTC."""
    return sql if zone == "UTC" else f"timezone('UTC', timezone('{zone}', {sql}))"


def from_epoch(n: str) -> str:
    """Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size, as a time."""
    micros = (
        f"CASE WHEN abs({n}) < 1e11 THEN {n} * 1e6 WHEN abs({n}) < 1e14 THEN {n} * 1e3 "
        f"WHEN abs({n}) < 1e17 THEN {n} WHEN abs({n}) < 9e18 THEN {n} / 1e3 END"
    )
    return f"make_timestamp(TRY_CAST(round({micros}) AS BIGINT))"
