"""Shadow mode against two servers on loopback: the caller is never harmed, and pairs are read again."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from distillcalc.errors import InputError
from distillcalc.route.calls import Answer
from distillcalc.route.confidence import Confidence
from distillcalc.route.given import UserScore
from distillcalc.route.live_log import read_log
from distillcalc.route.reading import read_pairs
from distillcalc.route.router import Router
from distillcalc.route.rules import Length, Rules
from distillcalc.route.shadow import ShadowClient
from tests.route.live import PRICES, STUDENT, TEACHER, api, cascade, fresh, logprob_cascade, pair, user
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


@contextlib.asynccontextmanager
async def shadowed(router: Router, servers: Pair, file: Path, **options: Any) -> AsyncIterator[ShadowClient]:
    clients = {STUDENT: (api(servers[0]), "student-1"), TEACHER: (api(servers[1]), "teacher-1")}
    async with ShadowClient(router, clients, file, **{"prices": PRICES, **options}) as client:
        yield client


def run(servers: Pair, file: Path, texts: list[str], router: Router | None = None, **options: Any) -> tuple[Any, Any]:
    """Ask one after the other; the answers, and the client after everything was drained."""

    async def main() -> tuple[Any, Any]:
        async with shadowed(router or cascade(), servers, file, **options) as client:
            answers = [await client.chat.completions.create(model="m", messages=user(text)) for text in texts]
            await client.drain()
        return answers, client

    return asyncio.run(main())


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def test_the_caller_gets_the_teacher_and_the_pair_is_written(servers: Pair, tmp_path: Path) -> None:
    file = tmp_path / "new" / "shadow.jsonl"
    (answer,), client = run(servers, file, ["an easy one"], logprob_cascade(-1.0), keep_texts=True)
    assert answer.choices[0].message.content == "from the teacher"
    assert "distillcalc_route" not in (answer.model_extra or {})
    (told,) = lines(file)
    assert told["text"] == "an easy one"
    assert (told["student_answer"], told["teacher_answer"], told["agreement"]) == (
        "from the student", "from the teacher", 0,
    )  # fmt: skip
    assert told["score"] == told["score_mean_logprob"] == pytest.approx(np.log(0.7))
    assert told["escalated"] is False
    assert told["served"] == TEACHER
    assert len(told["student_logprobs"]) == 3
    # 3 words in, 3 out: 3 x 1 + 3 x 2, and 3 x 10 + 3 x 20, millionths of a dollar.
    assert (told["student_usd"], told["teacher_usd"]) == (pytest.approx(9e-6), pytest.approx(90e-6))
    assert (told["student_prompt_tokens"], told["teacher_completion_tokens"]) == (3, 3)
    assert client.counts.written == client.counts.requests == 1
    assert (client.totals[STUDENT].calls, client.totals[TEACHER].calls) == (1, 1)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert "logprobs" not in servers[1].served[0].body


def test_prompts_are_not_in_the_file_unless_they_may_be(servers: Pair, tmp_path: Path) -> None:
    secret = "my card 4929 is lost"
    rules = Rules(rules=(Length(above=50, then="teacher"),))
    run(servers, tmp_path / "a.jsonl", [secret], cascade(rules=rules))
    content = (tmp_path / "a.jsonl").read_bytes()
    assert b"4929" not in content
    assert lines(tmp_path / "a.jsonl")[0]["text_sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    # The answer repeats the prompt: keep_answers is what keeps it out.
    hard = f"hard: {secret}"
    run(servers, tmp_path / "b.jsonl", [hard], cascade(Confidence("self_consistency")), keep_answers=False)
    (told,) = lines(tmp_path / "b.jsonl")
    assert b"4929" not in (tmp_path / "b.jsonl").read_bytes()
    assert "student_answer" not in told
    assert told["agreement"] == 0


def test_an_error_that_repeats_the_prompt_is_counted_by_its_kind(servers: Pair, tmp_path: Path) -> None:
    def breaks(request: Any) -> float:
        raise ValueError(request.text)

    router = cascade(UserScore("breaks", breaks, "after"))
    run(servers, tmp_path / "a.jsonl", ["4929"], router)
    (told,) = lines(tmp_path / "a.jsonl")
    assert (told["escalated"], told["score"], told["score_breaks"]) == (True, None, None)
    assert b"4929" not in (tmp_path / "a.jsonl").read_bytes()


@pytest.mark.parametrize("kind", ["500", "401", "html", "no_choices", "empty"])
def test_a_shadow_that_fails_is_counted_and_nobody_hears_of_it(servers: Pair, tmp_path: Path, kind: str) -> None:
    servers[0].order(kind, times=2)
    answers, client = run(servers, tmp_path / "a.jsonl", ["one", "two", "three"])
    assert [answer.choices[0].message.content for answer in answers] == ["from the teacher"] * 3
    assert client.counts.failed.total() == 2
    assert client.counts.written == len(lines(tmp_path / "a.jsonl")) == 1


def test_the_caller_never_waits_for_the_shadow(servers: Pair, tmp_path: Path) -> None:
    async def never(messages: Any, options: Any) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> ShadowClient:
        clients = {STUDENT: never, TEACHER: api(servers[1])}
        async with ShadowClient(cascade(), clients, tmp_path / "a.jsonl", most_in_flight=2, timeout_s=2) as client:
            answers = [await client.chat.completions.create(messages=user("x")) for _ in range(6)]
            assert len(answers) == 6
            assert client.counts.failed.total() == 0  # both shadows are still waiting
            return client

    counts = asyncio.run(main()).counts
    assert (counts.skipped, counts.failed["TimeoutError"], counts.written) == (4, 2, 0)


def test_todays_model_failing_is_the_callers_own_and_leaves_no_pair(servers: Pair, tmp_path: Path) -> None:
    servers[1].order("500")
    with pytest.raises(openai.InternalServerError):
        run(servers, tmp_path / "a.jsonl", ["one"])
    assert lines(tmp_path / "a.jsonl") == []
    assert servers[0].requests == 0


def test_a_seeded_share_is_shadowed(servers: Pair, tmp_path: Path) -> None:
    texts = [f"t{i}" for i in range(40)]
    chosen = []
    for name in ("a.jsonl", "b.jsonl"):
        run(servers, tmp_path / name, texts, share=0.25, seed=3, keep_texts=True, most_in_flight=99)
        chosen.append([one["text"] for one in lines(tmp_path / name)])
    assert sorted(chosen[0]) == sorted(chosen[1])
    assert 0 < len(chosen[0]) < 25


def test_a_pair_is_of_the_messages_at_the_time(servers: Pair, tmp_path: Path) -> None:
    async def main() -> None:
        async with shadowed(cascade(), servers, tmp_path / "a.jsonl", keep_texts=True) as client:
            messages = user("first")
            answer = await client.chat.completions.create(messages=messages)
            messages[0]["content"] = "changed"
            messages.append(answer.choices[0].message)

    asyncio.run(main())
    assert lines(tmp_path / "a.jsonl")[0]["text"] == "first"
    assert servers[0].served[0].body["messages"] == user("first")


def test_a_student_that_serves_is_asked_as_the_caller_asked(servers: Pair, tmp_path: Path) -> None:
    (answer,), _ = run(servers, tmp_path / "a.jsonl", ["x"], logprob_cascade(-1.0), serves=STUDENT)
    assert answer.choices[0].message.content == "from the student"
    assert "logprobs" not in servers[0].served[0].body
    (told,) = lines(tmp_path / "a.jsonl")
    assert (told["served"], told["score"], told["teacher_answer"]) == (STUDENT, None, "from the teacher")

    async def local(messages: Any, options: Any) -> Answer:
        return Answer("from the teacher", probabilities=[0.9, 0.1])

    async def main() -> None:
        clients = {STUDENT: local, TEACHER: api(servers[1])}
        router = cascade(Confidence("max_probability"), 0.95)
        async with ShadowClient(router, clients, tmp_path / "b.jsonl", serves=STUDENT) as client:
            stream = await client.chat.completions.create(messages=user("x"), stream=True)
            assert [c.choices[0].delta.content async for c in stream] == ["", "from the teacher", None]

    asyncio.run(main())
    (told,) = lines(tmp_path / "b.jsonl")
    assert (told["score"], told["escalated"], told["agreement"]) == (0.9, True, 1)
    assert told["student_probabilities"] == [0.9, 0.1]


def test_samples_of_a_served_student_are_asked_in_the_background(servers: Pair, tmp_path: Path) -> None:
    router = cascade(Confidence("self_consistency"), 0.9)
    run(servers, tmp_path / "a.jsonl", ["x"], router, serves=STUDENT, samples=3)
    (told,) = lines(tmp_path / "a.jsonl")
    assert (told["score"], told["student_samples"]) == (1.0, ["from the student"] * 3)


def test_streams_are_passed_through_and_paired_at_their_end(servers: Pair, tmp_path: Path) -> None:
    async def main() -> ShadowClient:
        async with shadowed(cascade(), servers, tmp_path / "a.jsonl") as client:
            stream = await client.chat.completions.create(messages=user("hard"), stream=True)
            assert "".join([c.choices[0].delta.content or "" async for c in stream]) == "from the teacher"
            left = await client.chat.completions.create(messages=user("hard"), stream=True)
            await anext(left)
            await left.close()
            servers[1].order("stream_cut")
            cut = await client.chat.completions.create(messages=user("hard"), stream=True)
            with pytest.raises(openai.APIError):
                [chunk async for chunk in cut]
            return client

    client = asyncio.run(main())
    (told,) = lines(tmp_path / "a.jsonl")
    assert (told["teacher_answer"], told["escalated"], told["teacher_usd"]) == ("from the teacher", True, None)
    assert client.counts.unfinished == 2


def test_pairs_and_the_live_log_are_read_from_the_file(servers: Pair, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rules = Rules(rules=(Length(above=5, then="teacher"),))
    texts = ["easy", "hard", "a long one of more than five words"]
    run(servers, file, texts, cascade(Confidence("mean_logprob"), -1.0, rules=rules))
    log = read_log(file)
    assert log.unreadable == ()
    np.testing.assert_array_equal(log.escalated, [0, 0, 1])
    np.testing.assert_array_equal(log.agreement, [0, 0, 0])
    assert np.isnan(log.score[2])  # a rule's
    with pytest.raises(InputError, match="must be compared with what people say is right"):
        read_pairs(file)
    file.write_text("".join(json.dumps({**one, "label": "From the  teacher"}) + "\n" for one in lines(file)))
    pairs = read_pairs(file)
    np.testing.assert_array_equal(pairs.right, [[0, 1]] * 3)
    np.testing.assert_array_equal(pairs.agreement, [0, 0, 0])
    assert pairs.scores["mean_logprob"].shape == (3, 1)
    assert pairs.usd is not None
    assert pairs.requests[0].logprobs is not None
    assert pairs.rejected == ()


def test_a_torn_end_is_not_joined_to_the_next_line(servers: Pair, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"time": 1')
    run(servers, file, ["x"])
    first, second = file.read_text().splitlines()
    assert first == '{"time": 1'
    assert json.loads(second)["served"] == TEACHER


def test_a_disk_that_takes_nothing_harms_nobody(servers: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distillcalc.route.shadow_log.os.write", full)
    (answer,), client = run(servers, tmp_path / "a.jsonl", ["x"])
    assert answer.choices[0].message.content == "from the teacher"
    assert (client.counts.failed["OSError"], client.counts.written) == (1, 0)


def test_many_at_once_are_bounded_in_flight(servers: Pair, tmp_path: Path) -> None:
    servers[0].most_in_flight = 0

    async def main() -> ShadowClient:
        async with shadowed(cascade(), servers, tmp_path / "a.jsonl", most_in_flight=5) as client:
            create = client.chat.completions.create
            await asyncio.gather(*(create(messages=user(f"t{i}")) for i in range(60)))
            return client

    counts = asyncio.run(main()).counts
    assert counts.requests == counts.written + counts.skipped == 60
    assert servers[0].most_in_flight <= 5
    assert len(lines(tmp_path / "a.jsonl")) == counts.written > 0


def test_settings_that_do_not_fit(servers: Pair, tmp_path: Path) -> None:
    clients = {STUDENT: api(servers[0]), TEACHER: api(servers[1])}
    file = tmp_path / "a.jsonl"
    for router, given, options, why in (
        (cascade(models=("a", "b", "c")), clients, {}, "of a student and a teacher"),
        (cascade(), {STUDENT: clients[STUDENT]}, {}, "clients are of student, teacher"),
        (cascade(), clients, {"serves": "x"}, "serves is one of"),
        (cascade(), clients, {"share": 1.5}, r"share is in \[0, 1\]"),
        (cascade(), clients, {"most_in_flight": 0}, "most_in_flight 1 or more"),
    ):
        with pytest.raises(InputError, match=why):
            ShadowClient(router, given, file, **options)
    with pytest.raises(InputError, match="a shadow writes"):
        ShadowClient(cascade(), clients, tmp_path / "a.csv")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        ShadowClient(cascade(), clients, tmp_path / "file" / "a.jsonl")
