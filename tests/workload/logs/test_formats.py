"""What vendors and libraries write beside the plain case: counts, caches, tool calls, images, statuses, zones."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import tiktoken

from distillcalc.errors import InputError
from distillcalc.workload.logs import ingest, profile_logs

NOON = dt.datetime(2024, 5, 1, 12)
START = 1714564800
BYTES = tiktoken.Encoding("bytes", pat_str=r"[^\n]+|\n", mergeable_ranks={bytes([b]): b for b in range(256)},
                          special_tokens={})  # fmt: skip
SYSTEM = "You are a helpful support agent of a shop. " * 10
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 4_000}}


def write(file: Path, lines: list[Any]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def found(file: Path, lines: list[Any], columns: str, **options: Any) -> list[tuple[Any, ...]]:
    with ingest(write(file, lines), **options) as log:
        return log.connection.execute(f"SELECT {columns} FROM requests").fetchall()


def plain(i: int, **changes: Any) -> dict[str, Any]:
    return {"time": START + i, "input_tokens": 100, "output_tokens": 2, **changes}


# Times


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2026-01-01 01:00:00 PM", "2026-01-01 12:00:00"),
        ("2026-01-01 01:00:00.250 pm", "2026-01-01 12:00:00.25"),
        ("2026-01-01T01:00PM", "2026-01-01 12:00:00"),
        ("2026-01-01 12:30:00 AM", "2025-12-31 23:30:00"),
        ("2026-01-01 13:00:00 EST", "2026-01-01 18:00:00"),
        ("2026-07-01 13:00:00 PDT", "2026-07-01 20:00:00"),
        ("2026-07-01 13:00:00 CEST", "2026-07-01 11:00:00"),
        ("2026-01-01 13:00:00 CET", "2026-01-01 12:00:00"),
        ("2026-01-01 13:00:00 America/New_York", "2026-01-01 18:00:00"),
        ("2026-01-01 13:00:00 Etc/GMT+5", "2026-01-01 18:00:00"),
        *((f"2026-01-01 13:00:00 {word}", None) for word in ("BST", "IST", "CST", "XYZ", "Uhr", "Europe/Berln")),
        *((f"2026-01-01 13:00:00 {word}", None) for word in ("(CET)", "[CET]", "BSTZ", "PM", "o'clock")),
    ],
)
def test_half_days_and_words_for_zones(tmp_path: Path, written: str, utc: str | None) -> None:
    for write_one in (write, lambda file, rows: pd.DataFrame(rows).to_csv(file, index=False) or file):
        rows = [plain(0, time="2026-01-01T00:00:00Z"), plain(1, time=written, input_tokens=7)]
        with ingest(write_one(tmp_path / "a", rows), time_zone="Europe/Berlin", max_rejected_share=1) as log:
            query = 'SELECT CAST("at" AS VARCHAR) FROM requests WHERE input_tokens = 7'
            assert log.connection.execute(query).fetchall() == ([(utc,)] if utc else [])
            assert log.reject_reasons == ({} if utc else {"the time cannot be read": 1})


# Counts


@pytest.mark.parametrize(
    ("schema", "header", "line"),
    [
        (
            "openai-usage",
            "start_time,end_time,start_time_iso,num_model_requests,model,batch,input_tokens,output_tokens,"
            "input_cached_tokens",
            "{s},{e},{d}T00:00:00+00:00,2000,gpt-4o,false,1000000,50000,200000",
        ),
        (
            "litellm-daily-spend",
            "id,user_id,date,model,prompt_tokens,completion_tokens,spend,api_requests,successful_requests,created_at",
            "{s},u,{d},gpt-4o,1000000,50000,3.0,2000,1990,{d}",
        ),
        ("plain-counts", "date,request_count,input_tokens,output_tokens", "{d},2000,1000000,50000"),
    ],
)
def test_usage_by_the_day_is_no_log_of_requests(tmp_path: Path, schema: str, header: str, line: str) -> None:
    days = [NOON.date() + dt.timedelta(days=i) for i in range(30)]
    seconds = [int(dt.datetime(d.year, d.month, d.day, tzinfo=dt.UTC).timestamp()) for d in days]
    rows = [line.format(s=s, e=s + 86_400, d=d) for s, d in zip(seconds, days, strict=True)]
    (tmp_path / "a").write_text("\n".join([header, *rows]) + "\n")
    profile = profile_logs(tmp_path / "a")
    assert (profile.source.schema, profile.source.kind, profile.volume.requests) == (schema, "counts", 60_000)
    assert profile.volume.requests_per_day == pytest.approx(2_000)
    made = profile.workload()
    assert (made.mean_input_tokens, made.mean_output_tokens) == pytest.approx((500, 25))
    assert "all of one length" in profile.provenance["input_tokens"].source
    assert profile.workload(input_tokens=7, output_tokens=3).mean_input_tokens == 7


# Rows that are no requests


def litellm(i: int, **changes: Any) -> dict[str, Any]:
    return {
        "request_id": f"c{i}", "call_type": "acompletion", "spend": 0.001, "prompt_tokens": 100,
        "completion_tokens": 20, "startTime": f"2024-05-01T12:00:{i:02d}Z", "model": "gpt-4o", "cache_hit": "False",
        "metadata": {}, "messages": {}, "response": {}, "status": "success", **changes,
    }  # fmt: skip


@pytest.mark.parametrize("table", [False, True])
def test_embeddings_and_cached_answers_of_litellm(tmp_path: Path, table: bool) -> None:
    kinds = ("aembedding", "image_generation", "amoderation", "atranscription", "arerank", "speech", "aretrieve_batch")
    asked = ("completion", "acompletion", "atext_completion", "anthropic_messages", "aresponses")
    lines = [litellm(i, call_type=kind) for i, kind in enumerate((*kinds, *asked))]
    lines += [litellm(20 + i, cache_hit=hit) for i, hit in enumerate(("True", "true", "None", ""))]
    file = tmp_path / "a"
    pd.DataFrame(lines).to_csv(file, index=False) if table else write(file, lines)
    with ingest(file) as log:
        assert (log.rows_read, log.rows_used) == (16, len(asked) + 2)
        assert sorted(log.reject_reasons.values()) == [2, len(kinds)]
        assert any("2 rows were answered from a cache" in note for note in log.notes)


# Texts


def test_a_system_prompt_beside_the_messages_is_part_of_the_prompt(tmp_path: Path) -> None:
    usage = {"input_tokens": 20, "cache_read_input_tokens": 400, "output_tokens": 30}
    anthropic = [
        {"timestamp": START + i, "request": {"system": system, "messages": [{"role": "user", "content": f"q{i // 2}"}]},
         "response": {"id": f"m{i}", "content": [{"type": "text", "text": "a"}], "usage": usage}}
        for i, system in enumerate(["A" + SYSTEM, [{"type": "text", "text": "B" + SYSTEM}]] * 20)
    ]  # fmt: skip
    prompts = [prompt for (prompt,) in found(tmp_path / "a", anthropic, "prompt")]
    assert prompts[:2] == ["A" + SYSTEM + "\nq0", "B" + SYSTEM + "\nq0"]
    profile = profile_logs(tmp_path / "a")
    assert (profile.repeats.exact, profile.prefixes and profile.prefixes.families) == (0, 2)
    assert profile.workload().cacheable_prefix_tokens >= 400 * (1 - 1e-6)  # what the cache already gives
    responses = [
        {"request": {"instructions": SYSTEM, "input": "q"},
         "response": {"created_at": START, "usage": {"input_tokens": 20, "output_tokens": 3}}}
    ]  # fmt: skip
    assert found(tmp_path / "b", responses, "prompt") == [(SYSTEM + "\nq",)]


CHAT = {"created": START, "request": {"messages": [{"role": "user", "content": "hello"}]}}


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        (  # Anthropic
            {"timestamp": START, "request": {"system": "sys", "messages": [{"role": "user", "content": "hello"}]},
             "response": {"content": [{"type": "text", "text": "abc"}, {"type": "tool_use", "input": {"x": 1}}],
                          "stop_reason": "tool_use"}},
            (3 + 1 + 5, 3 + 1 + 7),
        ),
        (  # OpenTelemetry
            {"startTimeUnixNano": START * 10**9, "attributes": {
                "gen_ai.operation.name": "chat",
                "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [
                    {"type": "text", "content": "hello"}, {"type": "blob", "content": "AAAA"}]}]),
                "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [
                    {"type": "text", "content": "abc"}]}])}},
            (5, 3),
        ),
        (  # parts, one of them an image
            {"created": START, "request": {"messages": [
                {"role": "user", "content": [{"type": "text", "text": "hello"}, IMAGE]}]},
             "choices": [{"message": {"content": "abc"}}]},
            (5, 3),
        ),
        (  # a call of a tool
            {**CHAT, "choices": [{"message": {"content": None, "tool_calls": [
                {"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]}}]},
            (5, 8),
        ),
        (  # the Responses API, an item of reasoning first
            {"created": START, "request": {"input": "hello"}, "response": {"output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "content": [{"type": "output_text", "text": "abc"}]},
                {"type": "function_call", "name": "f", "arguments": "{}"}]}},
            (5, 3 + 1 + 2),
        ),
        (  # Bedrock, Converse
            {"schemaType": "ModelInvocationLog", "timestamp": "2024-05-01T12:00:00Z", "modelId": "m", "requestId": "r",
             "input": {"inputBodyJson": {"system": [{"text": "sys"}],
                                         "messages": [{"role": "user", "content": [{"text": "hello"}]}]}},
             "output": {"outputBodyJson": {"output": {"message": {"content": [{"text": "abc"}]}}}}},
            (3 + 1 + 5, 3),
        ),
    ],
)  # fmt: skip
def test_only_words_are_counted(tmp_path: Path, line: dict[str, Any], tokens: tuple[int, int]) -> None:
    assert found(tmp_path / "a", [line], "input_tokens, output_tokens", tokenizer=BYTES) == [tokens]


def test_images_that_were_left_out_are_noted(tmp_path: Path) -> None:
    asked = {"messages": [{"role": "user", "content": [{"type": "text", "text": "what is this"}, IMAGE]}]}
    lines = [{"created": START, "request": asked, "choices": [{"message": {"content": "a cat"}}]}]
    with ingest(write(tmp_path / "a", lines), tokenizer=BYTES) as log:
        assert "1 prompts have images or other files, whose tokens are not counted" in log.notes


def test_an_answer_without_words_is_missing(tmp_path: Path) -> None:
    lines = [{**CHAT, "choices": [{"message": {"content": None}}]}] * 2
    with pytest.raises(InputError, match="output_tokens is missing"):
        ingest(write(tmp_path / "a", lines), tokenizer=BYTES)


def test_an_object_is_no_text(tmp_path: Path) -> None:
    lines = [plain(i, prompt={"order": i, "text": "x"}) for i in range(3)]
    assert found(tmp_path / "a", lines, "prompt") == [(None,)] * 3
    written = [plain(i, prompt=json.dumps({"order": i})) for i in range(2)]  # JSON that is the prompt
    assert found(tmp_path / "b", written, "prompt") == [('{"order": 0}',), ('{"order": 1}',)]
    asked = [plain(0, request={"model": "m", "messages": [{"role": "user", "content": "hi"}]})]
    assert found(tmp_path / "c", asked, "prompt") == [("hi",)]
    duckdb.execute(f"COPY (SELECT * FROM read_ndjson('{tmp_path / 'a'}')) TO '{tmp_path / 'd'}' (FORMAT parquet)")
    with ingest(tmp_path / "d") as log:
        assert log.connection.execute("SELECT count(prompt), count(*) FROM requests").fetchall() == [(0, 3)]


# Bedrock


def test_bedrock_invocations(tmp_path: Path) -> None:
    def call(i: int, **changes: Any) -> dict[str, Any]:
        return {
            "schemaType": "ModelInvocationLog", "schemaVersion": "1.0", "timestamp": "2024-05-01T12:00:00Z",
            "accountId": "1", "requestId": f"r{i}", "operation": "InvokeModel", "modelId": "anthropic.claude-x",
            "input": {"inputContentType": "application/json", "inputTokenCount": 10, "cacheReadInputTokenCount": 90,
                      "cacheWriteInputTokenCount": 5, "inputBodyJson": {"messages": [
                          {"role": "user", "content": [{"type": "text", "text": "hi"}]}], "system": "sys"}},
            "output": {"outputTokenCount": 7, "outputBodyJson": {}}, **changes,
        }  # fmt: skip

    failed = call(2, errorCode="ThrottlingException", output={})
    failed["input"] = {"inputContentType": "application/json"}
    embedded = call(3, modelId="amazon.titan-embed-text-v2:0", output={})
    columns = "input_tokens, output_tokens, cached_tokens, model, request_id, failed, prompt"
    assert found(tmp_path / "a", [call(1), failed, embedded], columns) == [
        (105, 7, 90, "anthropic.claude-x", "r1", False, "sys\nhi"),
        (None, None, None, "anthropic.claude-x", "r2", True, None),
    ]
    assert profile_logs(write(tmp_path / "b", [call(1), call(4)])).failures.failed == 0


# Outcomes


@pytest.mark.parametrize(
    ("word", "failed"),
    [
        *((word, True) for word in ("429 Too Many Requests", "rate_limited", "Throttled", "ReadTimeout", "503: down")),
        *((word, True) for word in ("ThrottlingException", "RateLimitError", "expired")),
        *((word, False) for word in ("200 OK", "incomplete", "STATUS_CODE_UNSET", "length")),
        *((word, None) for word in ("content_filter", "4290", "in_progress")),
    ],
)
def test_statuses_in_words(tmp_path: Path, word: str, failed: bool | None) -> None:
    assert found(tmp_path / "a", [plain(0, status=word)], "failed") == [(failed,)]


@pytest.mark.parametrize("staged", [True, False], ids=["staged", "read where it lies"])
def test_statuses_that_are_not_understood_are_noted(tmp_path: Path, staged: bool) -> None:
    table = pd.DataFrame({"time": pd.date_range(NOON, periods=9, freq="s"), "input_tokens": 5, "output_tokens": 6})
    table["status"] = ["ok"] * 5 + ["Weird"] * 3 + ["odd"]
    if staged:
        table.to_csv(tmp_path / "a", index=False)
    with ingest(tmp_path / "a" if staged else table) as log:
        note = "status words that are not understood, so their outcome is unknown: 'weird' (3 rows), 'odd' (1 rows)"
        assert log.notes == [note]


def test_a_batch_fails_without_times_and_says_nothing_of_when(tmp_path: Path) -> None:
    def line(i: int) -> dict[str, Any]:
        body = {"created": START + i, "usage": {"prompt_tokens": 5, "completion_tokens": 6}}
        answer: dict[str, Any] = {"status_code": 200, "body": body}
        if i % 10 == 1:
            answer = {"status_code": 400, "body": {"error": {"message": "bad"}}}
        expired = {"response": None, "error": {"code": "batch_expired"}}
        return {"id": f"b{i}", "custom_id": f"c{i}", **(expired if i % 10 == 0 else {"response": answer})}

    profile = profile_logs(write(tmp_path / "a", [line(i) for i in range(100)]))
    assert (profile.source.rows_used, profile.failures.undated) == (80, 20)
    assert profile.failures.failed == pytest.approx(0.2)
    # None of those with a time has failed, and only they are in the volume.
    assert profile.workload().requests_per_day == pytest.approx(profile.volume.requests_per_day)
    assert any("do not say when requests came" in note for note in profile.source.notes)


# Tables


def test_categories_are_text(tmp_path: Path) -> None:
    table = pd.DataFrame({"time": pd.date_range(NOON, periods=4, freq="s"), "input_tokens": 5, "output_tokens": 6})
    table["model"] = pd.Categorical(["gpt-4o"] * 4)
    table["status"] = pd.Categorical(["ok", "error", "ok", "ok"])
    with ingest(table) as log:
        assert log.connection.execute("SELECT model, failed FROM requests").fetchall()[:2] == [
            ("gpt-4o", False), ("gpt-4o", True),
        ]  # fmt: skip
    made = "SELECT time, input_tokens, output_tokens, 'gpt-4o'::ENUM('gpt-4o') AS model FROM given"
    with duckdb.connect() as connection:
        connection.register("given", table)
        connection.execute(f"COPY ({made}) TO '{tmp_path / 'a'}' (FORMAT parquet)")
    with ingest(tmp_path / "a") as log:
        assert log.connection.execute("SELECT DISTINCT model FROM requests").fetchall() == [("gpt-4o",)]


def test_a_cost_that_is_no_number_is_unknown(tmp_path: Path) -> None:
    lines = [plain(0, cost="$0.01"), plain(1, cost="0,5"), plain(2, cost="free"), plain(3, cost=0.5)]
    assert found(tmp_path / "a", lines, "cost_usd") == [(0.01,), (None,), (None,), (0.5,)]


# What follows


def test_growth_and_a_start_after_the_log_are_told() -> None:
    hours = 24 * 42
    rate = [20 * 1.2 ** (hour / 24 / 30.4375) for hour in range(hours)]
    times = [hour + i / round(n) for hour, n in enumerate(rate) for i in range(round(n))]
    at = pd.Timestamp("2026-08-31") + pd.to_timedelta(times, unit="h")
    profile = profile_logs(pd.DataFrame({"time": at, "input_tokens": 5, "output_tokens": 6}))
    made = profile.workload(start=dt.date(2026, 12, 1), horizon_months=12)
    growth, late = profile.remarks(made)
    assert "compounded over the horizon" in growth
    assert late.startswith("the workload starts on 2026-12-01, 51 days after the end of the log")
    assert "compounded over the horizon" in profile.provenance["growth_per_month"].source
    assert profile.remarks(profile.workload(start=dt.date(2026, 10, 20), growth_per_month=0.0)) == []


# Errors


def test_ids_that_are_not_unique_can_be_left_out(tmp_path: Path) -> None:
    file = write(tmp_path / "a", [plain(i, id=i % 10) for i in range(100)])
    with pytest.raises(InputError, match=r"leave them out: columns=\{'request_id': ''\}"):
        ingest(file)
    for given in (file, pd.read_json(file, lines=True)):
        with ingest(given, columns={"request_id": ""}) as log:
            assert (log.schema, log.rows_used) == ("plain", 100)
            assert log.connection.execute("SELECT count(request_id) FROM requests").fetchall() == [(0,)]
    with pytest.raises(InputError, match="Did you mean 'request_id'"):
        ingest(file, columns={"request_ids": ""})


def test_a_time_that_cannot_be_read_is_shown_with_the_forms_that_are(tmp_path: Path) -> None:
    file = write(tmp_path / "a", [plain(0), *(plain(i, time="9/1/2026 1:00:00 PM") for i in range(3))])
    with pytest.raises(InputError, match=r"The time '9/1/2026 1:00:00 PM' is in none of the forms .*ISO 8601"):
        ingest(file)


def test_what_is_no_log_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [plain(i) for i in range(5)])
    (tmp_path / "export.py").write_text("import json, sys\nprint(json.dumps(1), 2)\n")
    (tmp_path / "other.csv").write_text("colour,size\nred,5\n")
    with ingest(tmp_path) as log:
        assert log.rows_used == 5
        assert sum(note.startswith("passed over") for note in log.notes) == 2
        assert any("Its columns: colour, size" in note for note in log.notes)
        assert [source.path and source.path.name for source in log.sources] == ["a.jsonl"]
    for one in (tmp_path / "other.csv", [tmp_path / "a.jsonl", tmp_path / "other.csv"]):
        with pytest.raises(InputError, match="no schema that is known"):
            ingest(one)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(InputError, match="no schema that is known"):
        ingest(tmp_path)


def test_a_log_without_a_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "header.csv").write_text("timestamp,input_tokens,output_tokens\n")
    with pytest.raises(InputError, match=r"no row in .*header\.csv"):
        ingest(tmp_path / "header.csv")


@pytest.mark.parametrize("limit", ["1MiB", "16MiB"])
def test_too_little_memory_says_how_much_is_enough(tmp_path: Path, limit: str) -> None:
    file = write(tmp_path / "a", [plain(i) for i in range(5)])
    with pytest.raises(InputError, match=rf"memory_limit {limit} is too small .* JSON 512MiB"):
        profile_logs(file, memory_limit=limit)


def test_long_prompts_fit_into_the_memory_that_is_there_by_default(tmp_path: Path) -> None:
    long = {"role": "system", "content": "word " * 4_000}
    rows = [plain(i, messages=[long, {"role": "user", "content": f"q{i}"}]) for i in range(3_000)]
    rows[4]["messages"][1]["content"] = "x" * 3_000_000
    with ingest(write(tmp_path / "a", rows), threads=4) as log:
        query = "SELECT count(DISTINCT prompt), max(strlen(prompt)) FROM requests"
        assert log.connection.execute(query).fetchall() == [(3_000, 20_000 + 1 + 3_000_000)]
    (tmp_path / "b").write_text(json.dumps({"data": rows[:1_500]}))
    with ingest(tmp_path / "b") as log:
        assert log.rows_used == 1_500
