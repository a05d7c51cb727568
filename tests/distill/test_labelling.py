"""Labelling against a server that misbehaves: what is paid for is kept, and nothing is paid for twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from distillcalc.distill.journal import entries
from distillcalc.distill.labelling import LabelRun
from distillcalc.distill.ledger import CallPrices
from distillcalc.distill.records import Dataset
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.teacher import Privacy
from distillcalc.distill.terms import TermsProhibited, TermsUnclear
from distillcalc.errors import InputError
from tests.distill.making_runs import CATALOG, TASK, rows, run, teacher
from tests.distill.server import Server, running

ROOT = Path(__file__).resolve().parents[2]


def yes(body: dict[str, Any]) -> str:
    return "yes"


def journal_usd(made: LabelRun) -> Decimal:
    return sum(
        (Decimal(entry["usd"]) for _, entry in entries(made.folder / "journal.jsonl") if entry["t"] in
         ("response", "failure")),
        Decimal(0),
    )  # fmt: skip


def billed(server: Server) -> Decimal:
    """What the server would put on the bill."""
    tokens = [(s.usage.get("prompt_tokens", 0), s.usage.get("completion_tokens", 0)) for s in server.served]
    return sum((Decimal(read) + 2 * Decimal(written) for read, written in tokens), Decimal(0)) / 1_000_000


def asked(server: Server) -> Counter[str]:
    """How often each prompt was answered."""
    return Counter(str(served.body["messages"][-1]["content"]) for served in server.served)


def test_every_row_is_labelled_once_and_the_ledger_is_the_bill(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        made = run(server, tmp_path, 30, rows=rows(30, lambda i: "yes" if i % 3 else "no"))
        assert made.is_done
        assert not made.stopped
        assert set(asked(server).values()) == {1}
        assert made.spent_usd == journal_usd(made) == billed(server)
        assert (made.accuracy.count, made.accuracy.total) == (20, 30)
    dataset = made.dataset()
    assert [record.id for record in dataset] == [str(i) for i in range(1, 31)]
    record = dataset.records[4]
    assert (record.answer, record.value, record.problems) == ("yes", "yes", ())
    assert record.origin.version == "fake-model-2026-11-01"
    assert record.origin.host == "127.0.0.1"
    assert record.origin.temperature == 0
    assert record.origin.response_id.startswith("chatcmpl-")
    assert record.origin.latency_s is not None
    assert Decimal(record.origin.usd) == (record.origin.input_tokens + 2 * record.origin.output_tokens) / Decimal(10**6)
    assert record.messages[-1]["content"] == "question number 4"
    assert dataset.card["terms"][0]["id"] == "ours"
    assert dataset.card["spend"]["actual_usd"] == pytest.approx(float(made.spent_usd))
    report = json.loads((made.folder / "report.json").read_text())
    assert Decimal(report["spent_usd"]) == made.spent_usd


def test_a_second_run_of_the_same_plan_asks_nothing(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        first = run(server, tmp_path)
        again = run(server, tmp_path)
        assert len(server.served) == 20
        assert again.spent_usd == first.spent_usd
        assert again.dataset() == first.dataset()


def test_a_changed_plan_is_another_run(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        first = run(server, tmp_path)
        other = run(server, tmp_path, teacher=teacher(server, temperature=0.5))
        assert other.folder != first.folder
        assert len(server.served) == 40


def test_more_rows_are_another_plan_but_another_budget_is_not(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        short = run(server, tmp_path, budget_usd="0.0004", concurrency=1)
        assert "budget" in short.stopped
        assert 0 < short.answers < 20
        paid = len(server.served)
        done = run(server, tmp_path, budget_usd="1")
        assert done.folder == short.folder
        assert done.is_done
        assert len(server.served) == 20 > paid


MISDEEDS = ["429", "500", "503", "cut", "invalid_json", "no_choices", "wrong_usage", "no_usage", "duplicate_id", "slow"]


@pytest.mark.parametrize("kind", MISDEEDS)
def test_every_row_is_labelled_whatever_the_server_does(tmp_path: Path, kind: str) -> None:
    with running(answer=yes) as server:
        server.order(kind, 3, seconds=0.2)
        made = run(server, tmp_path)
        assert made.is_done
        assert not made.stopped
        assert {record.answer for record in made.dataset()} == {"yes"}
        assert made.spent_usd == journal_usd(made)
        # Never less than the bill: what nobody can know is booked at the most.
        assert made.spent_usd >= billed(server) or kind == "wrong_usage"
        if kind in ("429", "500", "503", "slow", "duplicate_id", "no_choices"):
            assert made.spent_usd == billed(server)
            assert made.possibly_billed == 0
        if kind in ("cut", "invalid_json"):
            assert made.possibly_billed == 3
            assert made.possibly_billed_usd > 0
        if kind in ("wrong_usage", "no_usage"):
            assert made.charged_at_most == 3
        if kind == "duplicate_id":
            assert made.repeated_response_ids == 2


def test_a_call_that_times_out_is_booked_at_the_most_and_asked_again(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("timeout", 1, seconds=2.0)
        made = run(server, tmp_path, 5, teacher=teacher(server, timeout_s=0.5))
        assert made.is_done
        assert made.failures == {"timeout": 1}
        assert made.possibly_billed == 1
        assert sorted(asked(server).values()) == [1, 1, 1, 1, 2]
        assert made.spent_usd >= billed(server)


def test_a_server_that_is_not_there_bills_nothing(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        who = teacher(server)
    made = run(server, tmp_path, 3, teacher=who, attempts=2)
    assert made.answers == 0
    assert "3 answers failed too often" in made.stopped
    assert made.failures == {"no-connection": 6}
    assert made.spent_usd == 0
    assert made.possibly_billed == 0


def test_429_without_end_stops_with_what_to_do(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("429", 10**6, retry_after="0.05")
        made = run(server, tmp_path, patience_s=0.5)
        assert "answered nothing for 0.5 s" in made.stopped
        assert made.spent_usd == 0
        server.faults.clear()
        assert run(server, tmp_path).is_done


def test_retry_after_is_kept_and_concurrency_falls(tmp_path: Path) -> None:
    with running(answer=yes, latency_s=0.02) as server:
        server.order("429", 2, retry_after="0.4")
        began = time.monotonic()
        made = run(server, tmp_path, 40, concurrency=16)
        assert time.monotonic() - began >= 0.4
        assert made.is_done
        assert made.least_concurrency < 16
        assert server.most_in_flight <= 16


@pytest.mark.parametrize(
    ("kind", "said"),
    [("401", "Incorrect API key"), ("404", "does not exist"), ("quota", "quota"), ("redirect", "redirect")],
)
def test_what_no_retry_can_mend_stops_the_run_at_once(tmp_path: Path, kind: str, said: str) -> None:
    with running(answer=yes) as server:
        server.order(kind, 10**6)
        made = run(server, tmp_path, concurrency=2)
        assert said in made.stopped
        assert server.requests <= 2
        assert made.spent_usd == 0
        assert made.given_up == 0  # the rows are not to blame
        server.faults.clear()
        assert run(server, tmp_path).is_done


def test_a_row_that_the_server_refuses_is_given_up_and_told(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("400", 1, of="question number 7")
        made = run(server, tmp_path)
        assert (made.answers, made.given_up) == (19, 1)
        assert made.is_done
        assert made.failures == {"400": 1}
        assert "7" not in [record.input["text"][-1:] for record in made.dataset() if len(record.input["text"]) == 17]
        run(server, tmp_path)
        assert len(server.served) == 19  # not asked again


def test_when_every_request_is_refused_the_rows_are_not_given_up_one_by_one(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("400", 10**6)
        made = run(server, tmp_path, 200)
        assert "maximum context length" in made.stopped
        assert server.requests < 60
        server.faults.clear()  # it was the server's fault: every row is asked for again
        again = run(server, tmp_path, 200)
        assert (again.answers, again.given_up) == (200, 0)


def test_answers_and_inputs_that_are_no_unicode_do_no_harm(tmp_path: Path) -> None:
    replies = iter(["half a pair \ud83d", "line\u2028separator", '{"x": NaN}'])
    found = Rows([{"text": "a"}, {"text": "b\ud800"}, {"text": "c"}, {"text": "d"}])
    with running(answer=lambda body: next(replies)) as server:
        who = teacher(server, max_output_tokens=50)
        made = run(server, tmp_path, rows=found, task=Task(name="text"), concurrency=1, teacher=who)
        assert made.plan.rows_rejected == 1
        assert "half of a character" in made.plan.rejects[0].reason
    answers = [record.answer for record in made.dataset()]
    assert answers == ["half a pair \ufffd", "line\u2028separator", '{"x": NaN}']
    replies = iter(['{"x": NaN}'])
    with running(answer=lambda body: next(replies)) as server:
        task = Task(name="json", output_schema={"type": "object"})
        made = run(server, tmp_path, 1, task=task, teacher=teacher(server, max_output_tokens=50))
    assert "not JSON" in made.dataset().records[0].problems[0]


@pytest.mark.parametrize("in_flight", [1, 64])
def test_the_budget_is_never_exceeded(tmp_path: Path, in_flight: int) -> None:
    """The server sees its own bill: with what is in flight it stays within the ceiling at every moment."""
    with running(latency_s=0.01, answer=lambda body: "word " * 8) as server:
        most = CallPrices.of(CATALOG, "test/model", date.today()).most(10**3, 8)
        made = run(server, tmp_path, 300, task=Task(name="text"), budget_usd="0.005", concurrency=in_flight)
        assert "budget" in made.stopped
        assert made.most_in_flight_usd <= Decimal("0.005")
        assert billed(server) <= made.spent_usd <= Decimal("0.005")
        assert Decimal("0.005") - made.spent_usd < most  # and it is used up to less than a call
        assert 0 < made.answers < 300


def test_a_server_that_bills_beyond_its_limit_stops_the_run(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("huge_usage", 1)
        made = run(server, tmp_path, concurrency=1)
        assert "does not keep to the limit of 8 output tokens" in made.stopped
        assert len(server.served) == 1
        assert made.spent_usd == journal_usd(made)


def test_a_row_that_is_barred_does_not_end_the_run_and_all_of_them_do(tmp_path: Path) -> None:
    """Some providers say 403 or 404 to one text that they will not have."""
    with running(answer=yes) as server:
        server.order("404", 10**6, of="question number 7")
        made = run(server, tmp_path, concurrency=1)
        assert (made.answers, made.given_up, made.stopped) == (19, 1, "")
        server.order("404", 10**6)
        made = run(server, tmp_path, 40, concurrency=1)
        assert "does not exist" in made.stopped


def test_a_row_that_is_always_too_much_is_left_for_later_and_the_others_are_not(tmp_path: Path) -> None:
    with running(answer=yes, latency_s=0.01) as server:
        server.order("429", 10**6, of='number 3"', retry_after="0.001")
        made = run(server, tmp_path, 100, attempts=1, concurrency=2)
        assert made.answers == 99
        assert "failed too often" in made.stopped
        server.faults.clear()
        assert run(server, tmp_path, 100).is_done


def test_what_is_no_setting_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        for wrong in ({"engine": "Batch"}, {"probe": -1}, {"attempts": 0}, {"patience_s": -1.0}):
            with pytest.raises(InputError, match="|".join(wrong)):
                run(server, tmp_path, **wrong)
        assert server.requests == 0


def test_a_body_that_is_nested_too_deep_is_one_more_unreadable_answer(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("deep", 1)
        made = run(server, tmp_path, 3)
        assert made.is_done
        assert made.failures == {"invalid-json": 1}


def test_a_gateway_that_gave_up_may_have_been_billed(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("502", 2)
        made = run(server, tmp_path)
        assert made.is_done
        assert made.failures == {"502": 2}
        assert made.possibly_billed == 2
        assert made.spent_usd > billed(server)


def test_a_portal_that_answers_everything_with_a_page_stops_the_run(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("html", 10**6)
        made = run(server, tmp_path, 200)
        assert "is base_url right?" in made.stopped
        assert "Welcome to our portal" in made.stopped
        assert server.requests < 60


def test_rows_that_cannot_be_read_any_more_lose_nothing_that_is_in_flight(tmp_path: Path) -> None:
    class Failing(list[dict[str, str]]):
        passes = 0

        def __iter__(self) -> Any:
            self.passes += 1
            for place, row in enumerate(list.__iter__(self)):
                if self.passes == 2 and place == 12:  # planned once; lost while they are asked for
                    raise OSError("the disk is gone")
                yield row

    found = Failing({"text": f"question number {i}"} for i in range(40))
    with running(answer=yes, latency_s=0.1) as server:
        with pytest.raises(OSError, match="the disk is gone"):
            run(server, tmp_path, rows=Rows(found))
        assert len(response_ids(tmp_path)) == len(server.served) == 12
        made = run(server, tmp_path, rows=Rows(found))
        assert made.is_done
        assert made.possibly_billed == 0
        assert set(asked(server).values()) == {1}


def test_n_samples_in_one_call_and_one_by_one(tmp_path: Path) -> None:
    replies = iter(range(10_000))

    def counted(body: dict[str, Any]) -> str:
        return f"answer {next(replies)}"

    with running(answer=counted) as server:
        text = Task(name="text")
        apart = run(server, tmp_path, 4, task=text, teacher=teacher(server, samples=3, temperature=1.0))
        assert len(server.served) == 12
        together = run(
            server, tmp_path, 4, task=text, teacher=teacher(server, samples=3, temperature=1.0, one_call=True)
        )
        assert len(server.served) == 16
        server.honours_n = False  # as transformers serve: one answer, whatever n says
        alone = run(server, tmp_path, 4, task=text, teacher=teacher(server, samples=3, temperature=0.9, one_call=True))
        assert len(server.served) == 28
    for made in (apart, together, alone):
        found = made.dataset().records
        assert [record.key for record in found] == [(str(i), k) for i in range(1, 5) for k in range(3)]
        assert len({record.answer for record in found}) == 12
        assert sum(Decimal(record.origin.usd) / record.origin.choices for record in found) == made.spent_usd


def test_reasoning_and_logprobs_are_kept(tmp_path: Path) -> None:
    with running(answer=yes, reasoning="because I say so") as server:
        made = run(server, tmp_path, 2, teacher=teacher(server, top_logprobs=3))
        record = made.dataset().records[0]
    assert record.reasoning == "because I say so"
    assert record.answer == "yes"
    assert record.logprobs is not None
    assert record.logprobs.tokens == ("yes",)
    # 0.7 to the token, 0.15 and 0.075 to two others: 0.075 is left.
    assert record.logprobs.tail_mass[0] == pytest.approx(0.075)
    assert record.logprobs.tokenizer.startswith("fake-model-2026-11-01#")
    assert record.origin.reasoning_tokens == 4
    own = tmp_path / "tokenizer.json"
    own.write_text(Tokenizer(WordLevel({"yes": 0, "[UNK]": 1}, unk_token="[UNK]")).to_str())
    with running(answer=yes) as server:
        named = run(server, tmp_path / "b", 1, teacher=teacher(server, top_logprobs=3), tokenizer=str(own))
    logprobs = named.dataset().records[0].logprobs
    assert logprobs is not None
    assert logprobs.tokenizer.startswith("tokenizer.json#")


def test_json_answers_are_asked_for_and_held_against_their_schema(tmp_path: Path) -> None:
    schema = {
        "type": "object", "properties": {"city": {"type": "string"}, "rooms": {"type": "integer"}},
        "required": ["city", "rooms"], "additionalProperties": False,
    }  # fmt: skip
    replies = iter(
        ['{"city": "Bern", "rooms": 3}', '```json\n{"city": "Ulm", "rooms": 2}\n```', '{"city": "Rom"}', "{"]
    )
    task = Task(name="flats", output_schema=schema, use=TASK.use)
    with running(answer=lambda body: next(replies)) as server:
        made = run(server, tmp_path, 4, task=task, concurrency=1, teacher=teacher(server, max_output_tokens=50))
        asked_for = server.served[0].body["response_format"]
    assert asked_for["type"] == "json_schema"
    assert asked_for["json_schema"]["schema"] == schema
    found = made.dataset().records
    assert [record.value for record in found] == [
        {"city": "Bern", "rooms": 3}, {"city": "Ulm", "rooms": 2}, None, None,
    ]  # fmt: skip
    assert "does not fit the schema" in found[2].problems[0]
    assert "not JSON" in found[3].problems[0]
    assert made.valid.count == 2


def test_a_chain_of_thought_is_kept_apart_from_the_answer(tmp_path: Path) -> None:
    replies = iter(["First this.\nAnswer: yes", "<think>hm</think>Answer: no", "no idea"])
    with running(answer=lambda body: next(replies)) as server:
        task = Task(name="thought", labels=("yes", "no"), reasoning="visible", use=TASK.use)
        made = run(server, tmp_path, 3, task=task, concurrency=1, teacher=teacher(server, max_output_tokens=50))
    found = made.dataset().records
    assert [(record.reasoning, record.value) for record in found] == [
        ("First this.", "yes"),
        ("hm", "no"),
        (None, None),
    ]
    assert found[2].problems == ("no 'Answer:' before an answer",)


def test_the_probe_says_what_does_not_hold(tmp_path: Path) -> None:
    seen: list[Any] = []

    def confirm(plan: Any, report: Any) -> bool:
        seen.append(report)
        return False

    replies = iter(range(10_000))
    with running(answer=lambda body: "perhaps" if next(replies) % 2 else "yes") as server:
        server.honours_n = server.honours_logprobs = False
        who = teacher(server, samples=2, one_call=True, top_logprobs=5, temperature=1.0)
        made = run(server, tmp_path, 40, rows=rows(40, lambda i: "yes"), teacher=who, probe=5, confirm=confirm)
        (report,) = seen
        assert made.stopped == "not confirmed"
        assert made.answers == 10
        assert report.samples_in_one_call == 1
        assert report.logprobs is False
        assert report.valid.total == 10
        assert report.agreement.total == 5
        assert report.accuracy.total == 10
        told = " ".join(report.warnings(made.plan))
        assert "in one call" in told
        assert "no log-probabilities" in told
        calls = len(server.served)
        assert calls == 20  # 5 rows x 2 samples one by one, and 5 pairs at temperature 0
        done = run(server, tmp_path, 40, rows=rows(40, lambda i: "yes"), teacher=who, probe=5)
        assert done.is_done
        assert len(server.served) == 20 + 70  # what the probe paid for counts; the pairs are not bought again


def test_the_probe_s_agreement_at_temperature_0(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        made = run(server, tmp_path, 12, probe=4)
        assert made.probe is not None
        assert (made.probe.agreement.count, made.probe.agreement.total) == (4, 4)
        assert len(server.served) == 12 + 4  # the plan's own answers are at temperature 0: one more makes a pair


def test_prohibited_terms_stop_before_anything_is_sent(tmp_path: Path) -> None:
    row = {"test": {"provider": "test", "surface": "api", "says": "No.", "position": "prohibited",
                    "private_classifier": "fail", "not_competing": "fail", "competing": "fail"}}  # fmt: skip
    barred = CATALOG.with_overrides({"terms": row})
    with running(answer=yes) as server:
        with pytest.raises(TermsProhibited, match="given by the user"):
            run(server, tmp_path, catalog=barred, accept_unclear_terms=True)
        row["test"] |= dict.fromkeys(("private_classifier", "not_competing", "competing"), "unknown")
        unclear = CATALOG.with_overrides({"terms": row})
        with pytest.raises(TermsUnclear, match="accept-unclear-terms"):
            run(server, tmp_path, catalog=unclear)
        assert server.requests == 0
        assert not (tmp_path / "runs").exists()
        made = run(server, tmp_path, catalog=unclear, accept_unclear_terms=True)
        assert {term["verdict"] for term in made.dataset().card["terms"]} == {"pass", "unknown"}


def test_what_is_masked_never_leaves_and_is_put_back(tmp_path: Path) -> None:
    mail = "ann.lee@example.org"
    with running() as server:  # echoes the prompt
        found = run(
            server, tmp_path, task=Task(name="text"), rows=Rows([{"text": f"write to {mail} now"}]),
            privacy=Privacy(redact=("email",)), teacher=teacher(server, max_output_tokens=50),
        )  # fmt: skip
        assert mail not in json.dumps([served.body for served in server.served])
        assert "[EMAIL_1]" in json.dumps([served.body for served in server.served])
    assert mail not in (found.folder / "journal.jsonl").read_text()
    (record,) = found.dataset().records
    assert record.answer == f"write to {mail} now"
    assert record.messages[-1]["content"] == f"write to {mail} now"


def test_the_key_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-" + "s3cret" * 5
    monkeypatch.setenv("OUR_KEY", secret)
    with running(answer=yes) as server:
        made = run(server, tmp_path, 3, teacher=teacher(server, key_env="OUR_KEY"))
        assert server.keys == {f"Bearer {secret}"}
    for file in made.folder.iterdir():
        assert secret not in file.read_text()


def test_another_process_on_the_same_run_is_refused(tmp_path: Path) -> None:
    with running(answer=yes, latency_s=0.3) as server:
        first = start(server, tmp_path, 40)
        wait_for(lambda: any(tmp_path.glob("runs/*/journal.jsonl")) and len(server.served) > 0)
        with pytest.raises(InputError, match="another process is working on this run"):
            run(server, tmp_path, 40)
        first.kill()
        first.wait()


def start(server: Server, tmp_path: Path, count: int, engine: str = "live") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.distill.label_once", server.base_url, str(tmp_path / "runs"), str(count), engine],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def wait_for(holds: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_at_20_random_points_nothing_is_lost_and_nothing_paid_twice(tmp_path: Path) -> None:
    """One run of 400 rows, killed 20 times: every journaled answer is in the dataset, and none was bought again.

    The server knows what it answered. A prompt that it answered twice must be one that was in flight at a kill, whose
    answer is not in the journal: at most 8 a kill, each booked as possibly billed.
    """
    chance = random.Random(20_261_124)
    count, kills = 400, 0
    known: set[str] = set()  # response ids in the journal at some kill
    with running(answer=yes, latency_s=0.03) as server:
        while kills < 20:
            before = len(server.served)
            process = start(server, tmp_path, count)
            more = before + chance.randrange(12)
            wait_for(partial(reached, server, more, process))
            time.sleep(chance.random() * 0.06)
            if process_ended(process):
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            known |= response_ids(tmp_path)
        assert kills == 20
        made = run(server, tmp_path, count)
        assert made.is_done
        assert not made.stopped
        ids = {record.origin.response_id for record in made.dataset()}
        assert known <= ids  # no answer that was journaled is lost
        assert known <= response_ids(tmp_path)
        answered = asked(server)
        assert len(answered) == count  # every row
        twice = sum(times - 1 for times in answered.values())
        assert twice <= made.possibly_billed <= 20 * 8  # only what was in flight
        assert made.spent_usd == journal_usd(made)
        assert made.spent_usd >= billed(server)
        # Of each prompt that was answered again, no earlier answer is in the journal: it was never bought twice.
        in_journal = Counter(
            entry["row"] for _, entry in entries(made.folder / "journal.jsonl") if entry["t"] == "response"
        )
        assert set(in_journal.values()) == {1}


def reached(server: Server, answers: int, process: subprocess.Popen[bytes]) -> bool:
    return len(server.served) > answers or process_ended(process)


def process_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def response_ids(tmp_path: Path) -> set[str]:
    return {
        entry["body"]["id"]
        for file in tmp_path.glob("runs/*/journal.jsonl")
        for _, entry in entries(file)
        if entry["t"] == "response"
    }


def test_ctrl_c_reads_what_is_in_flight_and_goes_on_later(tmp_path: Path) -> None:
    with running(answer=yes, latency_s=0.05) as server:
        process = start(server, tmp_path, 200)
        wait_for(lambda: len(server.served) > 5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        sent = server.requests
        assert sent < 200
        assert len(response_ids(tmp_path)) == sent  # nothing in flight was lost
        made = run(server, tmp_path, 200)
        assert made.is_done
        assert made.possibly_billed == 0
        assert len(server.served) == 200


def test_it_runs_where_a_loop_runs_already_as_in_a_notebook(tmp_path: Path) -> None:
    import asyncio

    async def cell() -> LabelRun:
        return run(server, tmp_path, 3)

    with running(answer=yes) as server:
        assert asyncio.run(cell()).is_done


def test_parquet_csv_and_jsonl_inputs_make_the_same_plan(tmp_path: Path) -> None:
    import pandas as pd

    from distillcalc.distill.planning import plan_labels

    table = pd.DataFrame({"text": ["ä question", "another, with a comma", 'and "quotes"\nand a line']})
    table.to_csv(tmp_path / "x.csv", index=False)
    table.to_parquet(tmp_path / "x.parquet")
    table.to_json(tmp_path / "x.jsonl", orient="records", lines=True)
    with running(answer=yes) as server:
        prints = {
            plan_labels(TASK, teacher(server), Rows(source), catalog=CATALOG).fingerprint
            for source in (table, tmp_path / "x.csv", tmp_path / "x.parquet", tmp_path / "x.jsonl")
        }
    assert len(prints) == 1


def test_the_dataset_is_read_back_equal(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        made = run(server, tmp_path, 3, teacher=teacher(server, top_logprobs=2))
    dataset = made.dataset()
    for name in ("copy.jsonl", "copy.parquet"):
        assert Dataset.load(dataset.save(tmp_path / name)) == dataset
