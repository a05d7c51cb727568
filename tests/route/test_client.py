"""The drop-in client against two servers on loopback: kept, sent on, failing, streaming, many at once, cancelled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from distillcalc.errors import InputError
from distillcalc.route.calls import Answer, last_user_message
from distillcalc.route.client import RoutedClient
from distillcalc.route.confidence import Confidence
from distillcalc.route.given import UserScore
from distillcalc.route.router import Router
from distillcalc.route.rules import Length, Rules
from tests.route.live import (
    STUDENT,
    TEACHER,
    api,
    by_answer,
    cascade,
    fresh,
    logprob_cascade,
    pair,
    routed,
    short_router,
    user,
)  # fmt: skip
from tests.route.streaming_server import StreamingServer

Pair = tuple[StreamingServer, StreamingServer]


@pytest.fixture(scope="module")
def running_pair() -> Iterator[Pair]:
    with pair() as both:
        yield both


@pytest.fixture
def servers(running_pair: Pair) -> Pair:
    fresh(running_pair)
    return running_pair


@pytest.fixture
def slow_servers() -> Iterator[Pair]:
    """Servers of a test's own: what they are slow with must not be seen by the next test."""
    with pair() as both:
        yield both


def ask(servers: Pair, router: Router, text: str = "an easy one", **options: Any) -> tuple[Any, RoutedClient]:
    """One call, with what the client counted."""
    own = {name: options.pop(name) for name in list(options) if name in OWN}

    async def main() -> tuple[Any, RoutedClient]:
        async with routed(router, *servers, **own) as client:
            return await client.chat.completions.create(model="any", messages=user(text), **options), client

    return asyncio.run(main())


OWN = ("samples", "student_timeout_s", "on_teacher_failure", "prices")


def test_an_answer_that_the_router_keeps_is_the_students(servers: Pair) -> None:
    answer, client = ask(servers, cascade())
    assert isinstance(answer, ChatCompletion)
    assert answer.choices[0].message.content == "from the student"
    route = answer.model_extra and answer.model_extra["distillcalc_route"]
    assert route is not None
    assert (route["model"], route["score"], route["router"]) == (STUDENT, 1.0, cascade().version)
    assert route["reason"] == "sure 1 is not below 0.5"
    # 3 words in, 3 out: 3 x 1 + 3 x 2 millionths of a dollar.
    assert route["usd"] == pytest.approx(9e-6)
    assert [(one["model"], one["purpose"], one["error"]) for one in route["attempts"]] == [(STUDENT, "answer", None)]
    assert json.loads(answer.model_dump_json())["distillcalc_route"]["model"] == STUDENT
    assert servers[1].requests == 0
    assert (client.totals[STUDENT].calls, client.totals[TEACHER].calls) == (1, 0)
    assert servers[0].served[0].body["model"] == "student-1"
    assert "logprobs" not in servers[0].served[0].body


def test_an_answer_that_is_not_sure_is_sent_on_and_both_are_billed(servers: Pair) -> None:
    answer, client = ask(servers, cascade(), "a hard one", temperature=0.25)
    assert answer.choices[0].message.content == "from the teacher"
    route = answer.distillcalc_route
    assert (route["model"], route["reason"], route["score"]) == (TEACHER, "sure 0 is below 0.5", 0.0)
    # Student: 3 in, 5 out ("I guess a hard one"): 3 + 10. Teacher: 3 in, 3 out: 30 + 60.
    assert route["usd"] == pytest.approx(103e-6)
    assert [server.served[0].body["temperature"] for server in servers] == [0.25, 0.25]
    total = client.totals[STUDENT]
    assert (total.calls, total.prompt_tokens, total.completion_tokens, total.failed) == (1, 3, 5, 0)
    assert client.totals[TEACHER].usd == pytest.approx(90e-6)


def test_without_a_price_dollars_are_unknown_and_never_zero(servers: Pair) -> None:
    answer, client = ask(servers, cascade(), prices={})
    assert answer.distillcalc_route["usd"] is None
    assert client.totals[STUDENT].unpriced == 1


@pytest.mark.parametrize(("threshold", "model"), [(-1.0, STUDENT), (-0.1, TEACHER)])
def test_logprobs_are_asked_of_the_student_alone_and_not_shown_to_who_did_not_ask(
    servers: Pair, threshold: float, model: str
) -> None:
    answer, _ = ask(servers, logprob_cascade(threshold), "one")
    assert answer.distillcalc_route["model"] == model
    assert answer.distillcalc_route["score"] == pytest.approx(-0.35667, abs=1e-5)  # ln 0.7
    assert answer.choices[0].logprobs is None
    assert servers[0].served[0].body["logprobs"] is True
    assert all("logprobs" not in one.body for one in servers[1].served)
    asked, _ = ask(servers, logprob_cascade(-1.0), "one", logprobs=True)
    assert asked.choices[0].logprobs.content[0].token == "from"


def test_a_server_that_gives_no_logprobs_cannot_be_judged(servers: Pair) -> None:
    servers[0].honours_logprobs = False
    answer, _ = ask(servers, logprob_cascade(-1.0))
    route = answer.distillcalc_route
    assert route["model"] == TEACHER
    assert route["score"] is None
    assert route["reason"].startswith("student's answer could not be judged: this score reads the log-probabilities")


@pytest.mark.parametrize("honours_n", [True, False])
def test_several_samples_are_several_calls_where_the_server_ignores_n(servers: Pair, honours_n: bool) -> None:
    servers[0].honours_n = honours_n
    answer, client = ask(servers, cascade(Confidence("self_consistency"), 0.9), samples=4, max_tokens=9)
    assert answer.distillcalc_route["score"] == 1.0
    purposes = sorted(one["purpose"] for one in answer.distillcalc_route["attempts"])
    assert purposes == ["answer", *["sample"] * (1 if honours_n else 4)]
    assert client.totals[STUDENT].completion_tokens == 3 + 4 * 3
    sampled = [one.body for one in servers[0].served if one.body.get("temperature") == 1.0]
    assert all(body["max_tokens"] == 9 for body in sampled)


def test_a_server_that_refuses_n_is_asked_one_by_one_and_no_sample_at_all_is_sent_on(servers: Pair) -> None:
    servers[0].order("400", of='"n":4')
    router = cascade(Confidence("self_consistency"), 0.9)
    answer, client = ask(servers, router, samples=4)
    assert answer.distillcalc_route["model"] == STUDENT
    assert (client.totals[STUDENT].calls, client.totals[STUDENT].failed) == (6, 1)
    servers[0].order("500", of='"n":4')
    answer, client = ask(servers, router, samples=4)
    assert answer.distillcalc_route["model"] == TEACHER
    assert "could not be judged" in answer.distillcalc_route["reason"]


@pytest.mark.parametrize("kind", ["500", "429", "400", "401", "html", "invalid_json", "no_choices"])
def test_a_student_that_fails_is_sent_on_with_the_reason(servers: Pair, kind: str) -> None:
    servers[0].order(kind)
    answer, client = ask(servers, logprob_cascade(-1.0))
    route = answer.distillcalc_route
    assert answer.choices[0].message.content == "from the teacher"
    assert route["model"] == TEACHER
    assert route["reason"].startswith("student failed (")
    assert "an easy one" not in json.dumps(route)
    assert client.totals[STUDENT].calls == 1


def test_a_student_that_is_late_is_sent_on_and_may_have_been_billed(slow_servers: Pair) -> None:
    servers = slow_servers
    servers[0].order("slow", seconds=5)
    answer, client = ask(servers, cascade(), student_timeout_s=0.2)
    assert answer.distillcalc_route["reason"] == "student failed (TimeoutError)"
    first = answer.distillcalc_route["attempts"][0]
    assert (first["error"], first["usd"]) == ("cancelled", None)
    assert answer.distillcalc_route["usd"] is None
    assert (client.totals[STUDENT].failed, client.totals[STUDENT].unpriced) == (1, 1)
    servers[0].order("slow", seconds=5)
    answer, _ = ask(servers, cascade(), timeout=0.2)  # the call's own: the openai client's error
    assert answer.distillcalc_route["reason"] == "student failed (APITimeoutError)"


def test_a_teacher_that_fails_raises_its_own_error_or_the_students_answer_is_served(servers: Pair) -> None:
    servers[1].order("500", times=2)
    with pytest.raises(openai.InternalServerError):
        ask(servers, cascade(), "a hard one")
    answer, client = ask(servers, cascade(), "a hard one", on_teacher_failure="student")
    assert answer.choices[0].message.content == "I guess a hard one"
    route = answer.distillcalc_route
    assert (route["model"], route["score"]) == (STUDENT, 0.0)
    assert route["reason"] == (
        "sure 0 is below 0.5; teacher failed (InternalServerError 500), so the answer of student is served"
    )
    assert client.totals[TEACHER].failed == 1
    servers[0].order("500")
    servers[1].order("503")
    with pytest.raises(openai.InternalServerError):  # nobody answered
        ask(servers, cascade(), on_teacher_failure="student")


def test_retries_are_the_wrapped_clients_own(servers: Pair) -> None:
    servers[0].order("500", times=2)

    async def main() -> Any:
        async with routed(cascade(), *servers) as client:
            patient = client.with_options(max_retries=2, timeout=30)
            answer = await patient.chat.completions.create(model="m", messages=user("x"))
            assert patient.totals is client.totals
            with pytest.raises(InputError, match="base_url belongs to one client"):
                client.with_options(base_url="http://localhost")
            return answer

    assert asyncio.run(main()).distillcalc_route["model"] == STUDENT
    assert servers[0].requests == 3


def test_a_router_chooses_before_and_asks_one_model_alone(servers: Pair) -> None:
    answer, _ = ask(servers, short_router(), "three short words")
    assert answer.distillcalc_route["model"] == STUDENT
    answer, _ = ask(servers, short_router(), "this one has more than four words")
    assert answer.distillcalc_route["model"] == TEACHER
    assert [server.requests for server in servers] == [1, 1]
    servers[0].order("500")
    answer, _ = ask(servers, short_router(), "three short words")
    assert answer.distillcalc_route["reason"].endswith("; student failed (InternalServerError 500)")
    assert answer.choices[0].message.content == "from the teacher"


def test_a_rule_sends_on_before_the_student_is_paid(servers: Pair) -> None:
    router = cascade(rules=Rules(rules=(Length(above=5, then="teacher"),)))
    answer, client = ask(servers, router, "one two three four five six")
    assert answer.distillcalc_route["model"] == TEACHER
    assert answer.distillcalc_route["score"] is None
    assert client.totals[STUDENT].calls == 0
    answer, _ = ask(servers, router, "one two")
    assert answer.distillcalc_route["model"] == STUDENT


def test_a_score_that_breaks_never_takes_the_answer_away(servers: Pair) -> None:
    def broken(request: Any) -> float:
        raise RuntimeError("an easy one")

    after, before = (UserScore("broken", broken, "after"), UserScore("broken", broken, "before"))
    answer, _ = ask(servers, cascade(after))
    assert answer.distillcalc_route["reason"] == "student's answer could not be judged: RuntimeError"
    router = Router(models=(STUDENT, TEACHER), kind="router", scores=(before,), thresholds=(0,))
    answer, _ = ask(servers, router)
    assert answer.distillcalc_route["reason"] == "the router could not choose: RuntimeError"


def test_a_chain_of_three_goes_step_by_step(servers: Pair) -> None:
    async def unsure(messages: Any, options: Any) -> Answer:
        return Answer("a guess")

    async def main() -> Any:
        router = cascade(models=("tiny", STUDENT, TEACHER))
        clients = {"tiny": unsure, STUDENT: api(servers[0]), TEACHER: api(servers[1])}
        async with RoutedClient(router, clients) as client:
            return [await client.chat.completions.create(messages=user(text)) for text in ("easy", "hard")]

    easy, hard = asyncio.run(main())
    assert (easy.distillcalc_route["model"], hard.distillcalc_route["model"]) == (STUDENT, TEACHER)
    assert [one["model"] for one in hard.distillcalc_route["attempts"]] == ["tiny", STUDENT, TEACHER]


def test_a_student_of_this_process_needs_no_server(servers: Pair) -> None:
    async def classifier(messages: Any, options: Any) -> Answer:
        sure = 0.95 if "easy" in messages[-1]["content"] else 0.6
        return Answer("card lost", probabilities=[sure, 1 - sure], prompt_tokens=3, completion_tokens=1)

    async def main() -> Any:
        router = cascade(Confidence("max_probability"), 0.9)
        async with RoutedClient(router, {STUDENT: classifier, TEACHER: api(servers[1])}) as client:
            answers = [await client.chat.completions.create(model="m", messages=user(t)) for t in ("easy", "hard")]
            assert (await client.models.list()).data[0].id == "fake-model"  # the teacher's client
            stream = await client.chat.completions.create(model="m", messages=user("easy"), stream=True)
            return answers, [chunk async for chunk in stream]

    (easy, hard), chunks = asyncio.run(main())
    assert isinstance(easy, ChatCompletion)
    assert easy.choices[0].message.content == "card lost"
    assert (easy.usage and easy.usage.total_tokens) == 4
    assert easy.model_extra["distillcalc_route"]["score"] == 0.95  # type: ignore[index]
    assert hard.distillcalc_route["model"] == TEACHER
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "card lost"


# Code written for AsyncOpenAI, which knows nothing of routing.


async def summary(client: Any, text: str) -> str:
    answer = await client.chat.completions.create(model="gpt", messages=user(text), temperature=0)
    return f"{answer.choices[0].message.content} ({answer.usage.total_tokens} tokens)"


async def typed(client: Any, text: str, **options: Any) -> tuple[str, list[ChatCompletionChunk]]:
    found, chunks = "", []
    stream = await client.chat.completions.create(model="gpt", messages=user(text), stream=True, **options)
    async with stream:
        async for chunk in stream:
            chunks.append(chunk)
            if chunk.choices and chunk.choices[0].delta.content:
                found += chunk.choices[0].delta.content
    return found, chunks


@pytest.mark.parametrize("text", ["easy", "hard"])
def test_code_for_openais_client_works_unchanged(servers: Pair, text: str) -> None:
    async def main() -> None:
        plain = api(servers[1 if text == "hard" else 0])
        async with routed(cascade(), *servers) as client, plain:
            assert await summary(client, text) == await summary(plain, text)
            for options in ({}, {"stream_options": {"include_usage": True}}):
                mine, others = await typed(client, text, **options), await typed(plain, text, **options)
                assert mine[0] == others[0]
                for chunks in (mine[1], others[1]):
                    assert all(isinstance(chunk, ChatCompletionChunk) for chunk in chunks)
                    assert chunks[0].choices[0].delta.role == "assistant"
                    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
                usage = [chunks[-1].usage and chunks[-1].usage.total_tokens for chunks in (mine[1], others[1])]
                assert usage[0] == usage[1]
                assert (usage[0] is None) == (not options)

    asyncio.run(main())


def test_a_stream_is_held_back_until_it_is_judged_and_its_route_is_told(servers: Pair) -> None:
    async def main() -> None:
        async with routed(cascade(), *servers) as client:
            kept = await client.chat.completions.create(messages=user("easy"), stream=True)
            assert kept.distillcalc_route["model"] == STUDENT
            assert kept.response is None
            sent = await client.chat.completions.create(messages=user("hard"), stream=True)
            assert sent.distillcalc_route["model"] == TEACHER
            assert sent.response.status_code == 200
            assert len(sent.distillcalc_route["attempts"]) == 1  # the teacher's has not ended
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in sent]) == "from the teacher"
            told = sent.distillcalc_route
            assert [one["completion_tokens"] for one in told["attempts"]] == [3, 3]
            assert told["usd"] is not None

    asyncio.run(main())
    assert "stream" not in servers[0].served[0].body
    assert "stream_options" not in servers[0].served[0].body


def test_a_chosen_models_stream_is_passed_through_and_failing_to_open_is_sent_on(servers: Pair) -> None:
    async def main() -> None:
        async with routed(short_router(), *servers) as client:
            assert (await typed(client, "short"))[0] == "from the student"
            servers[0].order("500")
            assert (await typed(client, "short"))[0] == "from the teacher"
            assert client.totals[STUDENT].failed == 1
            assert client.totals[STUDENT].completion_tokens == 3

    asyncio.run(main())


def test_a_stream_that_breaks_off_raises_and_one_that_is_left_is_told(servers: Pair) -> None:
    async def main() -> None:
        async with routed(cascade(), *servers, on_teacher_failure="student") as client:
            servers[1].order("stream_cut")
            with pytest.raises(openai.APIError):
                await typed(client, "hard")
            assert client.totals[TEACHER].failed == 1
            stream = await client.chat.completions.create(messages=user("hard"), stream=True)
            await anext(stream)
            await stream.close()
            assert stream.distillcalc_route["attempts"][-1]["error"] == "left before its end"
            servers[1].order("500")
            assert (await typed(client, "hard"))[0] == "I guess hard"

    asyncio.run(main())


def test_two_hundred_at_once(servers: Pair) -> None:
    async def main() -> RoutedClient:
        async with routed(cascade(), *servers) as client:
            texts = [f"{'hard' if i % 4 == 0 else 'easy'} {i}" for i in range(200)]
            create = client.chat.completions.create
            answers = await asyncio.gather(*(create(model="m", messages=user(text)) for text in texts))
            for text, answer in zip(texts, answers, strict=True):
                assert answer.distillcalc_route["model"] == (TEACHER if "hard" in text else STUDENT)
                assert answer.choices[0].message.content == f"from the {answer.distillcalc_route['model']}"
            return client

    totals = asyncio.run(main()).totals
    assert (totals[STUDENT].calls, totals[TEACHER].calls) == (200, 50)
    assert (servers[0].requests, servers[1].requests) == (200, 50)


@pytest.mark.parametrize("score", [None, Confidence("self_consistency")])
def test_cancelling_leaves_nothing_behind(slow_servers: Pair, score: Any) -> None:
    servers = slow_servers
    servers[0].latency_s = 5

    async def main() -> RoutedClient:
        async with routed(cascade(score), *servers) as client:
            task = asyncio.create_task(client.chat.completions.create(messages=user("x")))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return client

    total = asyncio.run(main()).totals[STUDENT]
    assert total.calls == total.failed > 0


def test_what_is_not_routed_is_the_teachers_client(servers: Pair) -> None:
    async def main() -> None:
        async with routed(cascade(), *servers) as client:
            assert str(client.base_url) == f"{servers[1].base_url}/"
            raw = await client.chat.completions.with_raw_response.create(model="t", messages=user("x"))
            assert raw.status_code == 200
            with pytest.raises(AttributeError):
                _ = client.nothing_of_the_sort

    asyncio.run(main())


def test_the_text_that_is_routed_is_the_last_of_the_user(servers: Pair) -> None:
    parts = [{"type": "text", "text": "two"}, {"type": "image_url"}, {"type": "text", "text": "parts"}]
    messages = [*user("first"), {"role": "user", "content": parts}, {"role": "assistant"}]
    assert last_user_message(messages) == "two\nparts"
    assert last_user_message([{"role": "system", "content": "x"}]) == ""

    async def main() -> Any:
        async with routed(short_router(), *servers, text=lambda messages: "one two three four five") as client:
            return await client.chat.completions.create(messages=user("short"))

    assert asyncio.run(main()).distillcalc_route["model"] == TEACHER


def test_settings_that_do_not_fit(servers: Pair) -> None:
    async def local(messages: Any, options: Any) -> Answer:
        return Answer("x")

    both = {STUDENT: local, TEACHER: local}
    for clients, options, why in (
        ({STUDENT: local}, {}, "clients are of student, teacher"),
        ({STUDENT: by_answer, TEACHER: local}, {}, "needs an AsyncOpenAI client or an async function"),
        (both, {"prices": {"x": None}}, "prices are of student, teacher"),
        (both, {"on_teacher_failure": "shrug"}, "on_teacher_failure is"),
        (both, {"samples": 1}, "samples must be 2 or more"),
        (both, {"student_timeout_s": 0}, "student_timeout_s must be above 0"),
    ):
        with pytest.raises(InputError, match=why):
            RoutedClient(cascade(), clients, **options)
