"""Each known schema as its maker writes it, the user's mapping, and what is said of a log that fits none."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from distillcalc.errors import InputError
from distillcalc.workload.logs import ingest, profile_logs
from distillcalc.workload.logs.schemas import KNOWN, flatten, from_mapping, recognise, split, unknown_schema

NOON = dt.datetime(2024, 5, 1, 12)
ALL = '"at", input_tokens, output_tokens, cached_tokens, reasoning_tokens, model, request_id, failed, cost_usd, prompt'


def write(file: Path, lines: list[Any]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def rows(file: Path, lines: list[Any], columns: str = ALL, **options: Any) -> tuple[str, list[tuple[Any, ...]]]:
    with ingest(write(file, lines), **options) as log:
        return log.schema, log.connection.execute(f"SELECT {columns} FROM requests").fetchall()


CHAT_RESPONSE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1714564800,
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 19,
        "completion_tokens": 10,
        "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 4},
    },
}
CHAT_REQUEST = {
    "model": "gpt-4o",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
}


def test_openai_chat_pairs(tmp_path: Path) -> None:
    schema, found = rows(tmp_path / "a", [{"request": CHAT_REQUEST, "response": CHAT_RESPONSE}])
    assert schema == "openai-chat"
    assert found == [
        (NOON, 19, 10, 8, 4, "gpt-4o-2024-08-06", "chatcmpl-1", None, None, "Be brief.\nHello"),
    ]  # fmt: skip


def test_openai_chat_responses_alone_and_the_responses_api(tmp_path: Path) -> None:
    responses = {
        "id": "resp_1", "object": "response", "created_at": 1714564800, "model": "gpt-5",
        "usage": {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 9,
                  "output_tokens_details": {"reasoning_tokens": 5}},
    }  # fmt: skip
    schema, found = rows(tmp_path / "a", [CHAT_RESPONSE, responses], "input_tokens, cached_tokens, reasoning_tokens")
    assert schema == "openai-chat"
    assert found == [(19, 8, 4), (7, 0, 5)]


def batch(i: int, **response: Any) -> dict[str, Any]:
    body = {**CHAT_RESPONSE, "id": f"chatcmpl-{i}"}
    whole = {"status_code": 200, "request_id": f"q{i}", "body": body, **response}
    return {"id": f"batch_req_{i}", "custom_id": f"row-{i}", "response": whole, "error": None}


def test_openai_batch_output(tmp_path: Path) -> None:
    late = {**batch(2), "response": None, "error": {"code": "batch_expired", "message": "too late"}}
    failed = batch(3, status_code=500, body={"created": 1714564801, "error": {"message": "overloaded"}})
    file = tmp_path / "a"
    file.write_text("".join(json.dumps(line) + "\n" for line in [batch(1), late, failed]))
    with ingest(file) as log:
        assert log.schema == "openai-batch"
        assert log.reject_reasons == {"a failed request without a time": 1}
        assert log.connection.execute(f"SELECT {ALL} FROM requests").fetchall() == [
            (NOON, 19, 10, 8, 4, "gpt-4o-2024-08-06", "batch_req_1", False, None, None),
            (NOON + dt.timedelta(seconds=1), None, None, None, None, None, "batch_req_3", True, None, None),
        ]


def litellm(i: int, **changes: Any) -> dict[str, Any]:
    return {
        "request_id": f"chatcmpl-{i}", "call_type": "acompletion", "api_key": "hashed", "spend": 0.0012,
        "total_tokens": 30, "prompt_tokens": 20, "completion_tokens": 10, "startTime": "2024-05-01T12:00:00.000Z",
        "endTime": "2024-05-01T12:00:02.500Z", "model": "gpt-4o", "model_group": "gpt-4o", "cache_hit": "False",
        "metadata": {"status": "success", "usage_object": {"prompt_tokens_details": {"cached_tokens": 12}}},
        "messages": {}, "response": {}, "status": "success", **changes,
    }  # fmt: skip


def test_litellm_spend_logs(tmp_path: Path) -> None:
    schema, found = rows(
        tmp_path / "a", [litellm(1), litellm(2, status="failure", prompt_tokens=0, completion_tokens=0, metadata={})]
    )
    assert schema == "litellm-spend"
    assert found[0][:9] == (NOON, 20, 10, 12, None, "gpt-4o", "chatcmpl-1", False, 0.0012)
    assert found[1][7] is True
    table = pd.DataFrame(
        [{**litellm(1), "metadata": json.dumps(litellm(1)["metadata"]), "messages": "{}", "response": "{}"}]
    )
    table.to_csv(tmp_path / "b", index=False)
    with ingest(tmp_path / "b") as log:
        assert log.schema == "litellm-spend"
        assert log.connection.execute(f"SELECT {ALL} FROM requests").fetchall()[0][:9] == found[0][:9]


def test_a_custom_id_comes_again_in_the_next_batch(tmp_path: Path) -> None:
    again = {**batch(2), "custom_id": "row-1"}
    assert [row[0] for row in rows(tmp_path / "a", [batch(1), again], "request_id")[1]] == [
        "batch_req_1",
        "batch_req_2",
    ]


def test_litellm_keeps_prompts_in_the_request_of_the_proxy(tmp_path: Path) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
    redacted = {"messages": [{"role": "user", "content": "redacted-by-litellm"}]}
    lines = [
        litellm(1, proxy_server_request=body),
        litellm(2, proxy_server_request="{}"),
        litellm(3, proxy_server_request=redacted),
        litellm(4, messages="{}", proxy_server_request=json.dumps(body)),
    ]
    kept = "input_tokens, prompt"
    # In JSON lines only an object inside is looked into, in a table text that is JSON too.
    assert rows(tmp_path / "a", lines, kept)[1] == [(20, "Hello"), (20, None), (20, None), (20, None)]
    table = pd.DataFrame(
        [
            {key: json.dumps(value) if isinstance(value, dict) else value for key, value in line.items()}
            for line in lines
        ]
    )
    table.to_csv(tmp_path / "b", index=False)
    with ingest(tmp_path / "b") as log:
        found = log.connection.execute(f"SELECT {kept} FROM requests").fetchall()
        assert found == [(20, "Hello"), (20, None), (20, None), (20, "Hello")]


@pytest.mark.parametrize("nothing", [{}, [], None, "", "{}", "[]", "null"])
def test_what_stands_for_no_text_is_no_text(tmp_path: Path, nothing: Any) -> None:
    """LiteLLM writes ``{}`` where prompts are not kept; that is no prompt that repeats."""
    lines = [{"time": 1714564800 + i, "input_tokens": 100, "output_tokens": 2, "prompt": nothing} for i in range(50)]
    profile = profile_logs(write(tmp_path / "a", lines))
    assert (profile.repeats.exact, profile.prefixes, profile.lengths is not None) == (None, None, True)
    table = pd.DataFrame(lines).assign(time=NOON, prompt=None if nothing is None else str(nothing))
    assert profile_logs(table).repeats.exact is None
    assert profile.workload().cacheable_prefix_tokens == 0


def test_opentelemetry_spans_flat_and_nested_and_others_between_them(tmp_path: Path) -> None:
    attributes = {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.response.model": "m-1",
        "gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 3,
    }  # fmt: skip
    spans = [
        {"name": "chat m", "spanId": "s1", "startTimeUnixNano": "1714564800000000000", "attributes": attributes,
         "status": {"code": 1}},
        {"name": "chat m", "spanId": "s2", "startTimeUnixNano": 1714564801000000000,
         "attributes": {**attributes, "gen_ai.usage.input_tokens": None, "error.type": "timeout"},
         "status": {"code": 2}},
        {"name": "GET /", "spanId": "s3", "startTimeUnixNano": 1714564801000000000,
         "attributes": {"http.method": "GET"}},
        {"name": "agent", "spanId": "s4", "startTimeUnixNano": 1714564801000000000,
         "attributes": {**attributes, "gen_ai.operation.name": "invoke_agent"}},
    ]  # fmt: skip
    file = tmp_path / "a"
    file.write_text("".join(json.dumps(span) + "\n" for span in spans))
    with ingest(file) as log:
        assert log.schema == "otel-genai"
        assert log.rows_read == 4
        assert list(log.reject_reasons.values()) == [2]
        assert log.connection.execute(f"SELECT {ALL} FROM requests").fetchall() == [
            (NOON, 11, 3, None, None, "m-1", "s1", False, None, None),
            (NOON + dt.timedelta(seconds=1), None, 3, None, None, "m-1", "s2", True, None, None),
        ]
    flat = [{"timestamp": "2024-05-01T12:00:00Z", "span_id": f"s{i}", **attributes} for i in range(2)]
    assert rows(tmp_path / "b", flat)[1][1][:7] == (NOON, 11, 3, None, None, "m-1", "s1")


def test_opentelemetry_lines_of_the_collector(tmp_path: Path) -> None:
    """The Collector's file exporter writes OTLP: many spans a line, attributes as a list."""

    def span(i: int, **attributes: Any) -> dict[str, Any]:
        kinds = {int: "intValue", str: "stringValue"}
        listed = [
            {"key": "gen_ai." + key.replace("__", "."), "value": {kinds[type(value)]: str(value)}}
            for key, value in attributes.items()
        ]
        return {"spanId": f"s{i}", "startTimeUnixNano": str(1714564800_000_000_000 + i), "attributes": listed}

    call = {"usage__input_tokens": 11, "usage__output_tokens": 3, "request__model": "m"}
    lines = [
        {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [span(1, **call), span(2, **call)]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [span(3, **call)]}, {"spans": [span(4)]}]}]},
    ]
    file = tmp_path / "a"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"resourceSpans": [{"scope\n')
    with ingest(file, max_rejected_share=0.5) as log:
        assert log.schema == "otel-genai"
        assert (log.rows_read, log.rows_used) == (5, 3)
        found = log.connection.execute("SELECT input_tokens, output_tokens, model, request_id FROM requests").fetchall()
        assert found == [(11, 3, "m", f"s{i}") for i in (1, 2, 3)]
        assert log.rejects_file is not None
        told = [json.loads(line) for line in log.rejects_file.read_text().splitlines()]
        assert [one["line"] for one in told] == [2, 3]


def langfuse(i: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"o{i}", "traceId": "t", "type": "GENERATION", "startTime": "2024-05-01T12:00:00.000Z", "model": "m",
        "level": "DEFAULT", "usageDetails": {"input": 20, "output": 10, "total": 35, "input_cached_tokens": 5},
        "calculatedTotalCost": 0.01, "input": [{"role": "user", "content": "Hello"}], "output": {"content": "Hi"},
        **changes,
    }  # fmt: skip


def test_langfuse_observations(tmp_path: Path) -> None:
    lines = [langfuse(1), langfuse(2, type="SPAN", usageDetails={}), langfuse(3, level="ERROR", usageDetails={})]
    file = tmp_path / "a"
    file.write_text(json.dumps(lines))  # the export is one array
    with ingest(file) as log:
        assert log.schema == "langfuse"
        assert log.rows_rejected == 1
        assert log.connection.execute(f"SELECT {ALL} FROM requests").fetchall() == [
            (NOON, 25, 10, 5, None, "m", "o1", False, 0.01, "Hello"),
            (NOON, None, None, None, None, "m", "o3", True, 0.01, "Hello"),
        ]


def test_langfuse_details_do_not_overlap(tmp_path: Path) -> None:
    """Its integrations take what is cached or reasoning out of ``input`` and ``output``; its ``total`` has all."""
    details = {"input": 20, "output": 10}
    lines = [
        langfuse(1, usageDetails={**details, "input_cache_read": 60, "input_cache_creation": 7, "total": 97}),
        langfuse(2, usageDetails={**details, "output_reasoning": 90, "total": 120}),
        langfuse(3, usageDetails={**details, "output_reasoning_tokens": 90, "total": 120}),
        langfuse(4, usageDetails={**details, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 7}),
        langfuse(5, usageDetails={**details, "input_audio_tokens": 5, "output_accepted_prediction_tokens": 3}),
        langfuse(6, usageDetails={}, usage={"input": 80, "output": 10}),  # sums of all, as its older interface gives
        langfuse(7, type="EMBEDDING", usageDetails={"input": 5}),
    ]
    file = write(tmp_path / "a", lines)
    with ingest(file) as log:
        kept = "input_tokens, output_tokens, cached_tokens, reasoning_tokens"
        assert log.connection.execute(f"SELECT {kept} FROM requests").fetchall() == [
            (87, 10, 60, None), (20, 100, None, 90), (20, 100, None, 90), (87, 10, 60, None), (25, 13, None, None),
            (80, 10, None, None),
        ]  # fmt: skip
        assert (log.rows_read, log.rows_rejected) == (7, 1)


def test_langfuse_export_as_a_table(tmp_path: Path) -> None:
    lines = [{**langfuse(i), "input": json.dumps(langfuse(i)["input"]), "output": '{"content": "Hi"}'} for i in (1, 2)]
    for line in lines:
        line["usageDetails"] = json.dumps({"input": 20, "output": 10, "input_cached_tokens": 5})
    pd.DataFrame(lines).to_csv(tmp_path / "a", index=False)
    with ingest(tmp_path / "a") as log:
        assert log.schema == "langfuse"
        assert log.connection.execute("SELECT input_tokens, cached_tokens, prompt FROM requests").fetchall() == [
            (25, 5, "Hello"), (25, 5, "Hello"),
        ]  # fmt: skip


def test_embeddings_are_no_requests_to_a_model_that_answers(tmp_path: Path) -> None:
    spans = [
        {"timestamp": "2024-05-01T12:00:00Z", "span_id": f"s{i}", "gen_ai.operation.name": kind,
         "gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 3 if kind == "chat" else None}
        for i, kind in enumerate(("chat", "embeddings", "embeddings"))
    ]  # fmt: skip
    with ingest(write(tmp_path / "a", spans)) as log:
        assert (log.rows_read, log.rows_used) == (3, 1)
        assert "not a request" in next(iter(log.reject_reasons))


def test_anthropic_messages_between_others_read_the_same_in_any_order(tmp_path: Path) -> None:
    """Whether or not a schema shows among the first lines, its lines mean the same."""
    usage = {"input_tokens": 10, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 5, "output_tokens": 7}
    theirs = [
        {"timestamp": "2024-05-01T12:00:00Z", "response": {"id": f"msg_{i}", "model": "claude", "usage": usage}}
        for i in range(3)
    ]
    # A proxy's own usage has both names, and its prompt_tokens are complete.
    proxied = {**CHAT_RESPONSE, "id": "p", "usage": {**CHAT_RESPONSE["usage"], "cache_read_input_tokens": 8}}
    ours = [{"request": CHAT_REQUEST, "response": {**CHAT_RESPONSE, "id": f"chatcmpl-{i}"}} for i in range(1_200)]
    ours.append({"request": CHAT_REQUEST, "response": proxied})
    for i, lines in enumerate(([*ours, *theirs], [*theirs, *ours])):
        found = rows(tmp_path / f"{i}", lines, "model, input_tokens, cached_tokens")[1]
        assert sorted(set(found)) == [("claude", 105, 90), ("gpt-4o-2024-08-06", 19, 8)]


@pytest.mark.parametrize("bad", [-1, 2e9, 1e300])
def test_tokens_left_out_that_cannot_be(tmp_path: Path, bad: float) -> None:
    usage = {"input_tokens": 10, "cache_creation_input_tokens": bad, "output_tokens": 7}
    good = {"input_tokens": 10, "cache_read_input_tokens": 0, "output_tokens": 7}
    lines = [
        {"timestamp": "2024-05-01T12:00:00Z", "response": {"id": f"m{i}", "usage": one}}
        for i, one in enumerate([good, usage])
    ]
    with ingest(write(tmp_path / "a", lines), max_rejected_share=0.5) as log:
        assert (log.rows_used, log.rows_rejected) == (1, 1)
        assert "left out of input_tokens" in next(iter(log.reject_reasons))


def test_a_mapping_may_say_what_the_count_leaves_out(tmp_path: Path) -> None:
    mapping = {"at": "t", "input_tokens": "prompt_tokens", "added_input_tokens": "hit", "output_tokens": "n",
               "added_output_tokens": "thought"}  # fmt: skip
    lines = [{"t": "2024-05-01T12:00:00Z", "prompt_tokens": 10, "hit": 90, "n": 7, "thought": 5}]
    with ingest(write(tmp_path / "a", lines), columns=mapping) as log:
        assert log.connection.execute("SELECT input_tokens, output_tokens FROM requests").fetchall() == [(100, 12)]


def test_anthropic_input_tokens_leave_the_cached_ones_out(tmp_path: Path) -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 5, "output_tokens": 7}
    line = {"timestamp": "2024-05-01T12:00:00Z", "response": {"id": "msg_1", "model": "claude", "usage": usage}}
    schema, found = rows(tmp_path / "a", [line])
    assert (schema, found[0][1:4]) == ("anthropic-messages", (105, 7, 90))


def test_burstgpt_requests(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n"
    )
    with ingest(file) as log:
        assert log.schema == "burstgpt"
        assert log.connection.execute("SELECT input_tokens, output_tokens, model FROM requests").fetchall() == [
            (472, 18, "ChatGPT")
        ]
        assert any("start of the log" in note for note in log.notes)


@pytest.mark.parametrize(
    ("column", "values", "failed"),
    [
        ("status_code", [200, 429, "500", None], [False, True, True, None]),
        ("status", ["success", "ERROR", "timeout", "odd"], [False, True, True, None]),
        ("success", [True, False, "true", 1], [False, True, False, False]),
        ("failed", [True, False, "no", 1], [True, False, False, True]),
        ("error", ["boom", "", None, "null"], [True, False, False, False]),
    ],
)
def test_what_failed(tmp_path: Path, column: str, values: list[Any], failed: list[bool | None]) -> None:
    lines = [{"time": 1714564800 + i, "input_tokens": 1, "output_tokens": 2, column: v} for i, v in enumerate(values)]
    assert [row[0] for row in rows(tmp_path / "a", lines, "failed")[1]] == failed


def test_absent_stays_unknown(tmp_path: Path) -> None:
    _, found = rows(tmp_path / "a", [{"time": 1714564800, "input_tokens": 1, "output_tokens": 2}])
    assert found == [(NOON, 1, 2, None, None, None, None, None, None, None)]


# The user's mapping


def test_a_mapping_over_json_and_tables(tmp_path: Path) -> None:
    mapping = {"at": "meta.when", "input_tokens": "meta.n.in", "output_tokens": "gen"}
    line = {"meta": {"when": "2024-05-01T12:00:00Z", "n": {"in": 4}}, "gen": 5, "model": "m"}
    (tmp_path / "a").write_text(json.dumps(line) + "\n")
    with ingest(tmp_path / "a", columns=mapping) as log:
        assert log.schema == "mapping"
        assert log.connection.execute(f"SELECT {ALL} FROM requests").fetchall()[0][:6] == (NOON, 4, 5, None, None, "m")
    table = pd.DataFrame({"When": [NOON], "IN": [4], "out tok": [5]})
    with ingest(table, columns={"at": "When", "input_tokens": "in", "output_tokens": "out tok"}) as log:
        assert log.connection.execute("SELECT input_tokens, output_tokens FROM requests").fetchall() == [(4, 5)]
    with ingest(table, columns={"at": "when", "requests": "in"}) as log:
        assert log.kind == "counts"
        assert log.connection.execute('SELECT "at", requests FROM counts').fetchall() == [(NOON, 4)]


def test_a_mapping_that_cannot_be() -> None:
    columns = flatten({"when": 1, "tokens_a": 2})
    with pytest.raises(InputError, match="Did you mean 'input_tokens'"):
        from_mapping({"input_token": "tokens_a"}, columns, "log", all_keys=False)
    with pytest.raises(InputError, match=r"'tokens_b', which log does not have. Did you mean 'tokens_a'"):
        from_mapping({"at": "when", "input_tokens": "tokens_b"}, columns, "log", all_keys=False)
    with pytest.raises(InputError, match="must also map output_tokens or response"):
        from_mapping({"at": "when", "input_tokens": "tokens_a"}, columns, "log", all_keys=False)


def test_an_unknown_schema_lists_its_columns_and_a_mapping_to_write(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("called_when,tok_prompt_n,tok_generated_n\n1,2,3\n")
    with pytest.raises(InputError) as error:
        ingest(file)
    assert "Its columns: called_when, tok_prompt_n, tok_generated_n." in str(error.value)
    expected = "columns={'at': 'called_when', 'input_tokens': 'tok_prompt_n', 'output_tokens': 'tok_generated_n'}"
    assert expected in str(error.value)
    assert all(schema.name in str(unknown_schema({}, "x")) for schema in KNOWN)


# Keys


def test_keys_with_dots_of_their_own() -> None:
    assert split("attributes.gen_ai.usage.input_tokens") == ("attributes", "gen_ai.usage.input_tokens")
    assert split("gen_ai.usage.input_tokens") == ("gen_ai.usage.input_tokens",)
    assert split("a.b[0].c") == ("a", "b[0]", "c")


def test_flatten() -> None:
    found = flatten({"A b": {"c-d": 1}, "l": [{"x": 1}], "j": '{"k": 2}', "no": "{"})
    assert found == {
        "a_b": ("A b",), "a_b.c_d": ("A b", "c-d"), "l": ("l",), "l[0].x": ("l[0]", "x"), "j": ("j",),
        "j.k": ("j", "k"), "no": ("no",),
    }  # fmt: skip


def test_recognition_does_not_depend_on_the_order_of_keys() -> None:
    line = litellm(1)
    backwards = dict(reversed(line.items()))
    for keys in (flatten(line), flatten(backwards)):
        found = recognise(keys, all_keys=True)
        assert found is not None
        assert found.name == "litellm-spend"
