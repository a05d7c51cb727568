"""The Batch API as an engine for the same plan: polling, expiry, lines that fail, a lost creation, a kill."""

from __future__ import annotations

import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from distillcalc.catalog import Catalog
from distillcalc.distill.batch import run_batches
from distillcalc.distill.journal import entries
from distillcalc.errors import InputError, MissingPrice
from tests.distill.making_runs import PRICE, run, teacher
from tests.distill.server import Server, running
from tests.distill.test_labelling import asked, journal_usd, start, wait_for


def yes(body: dict[str, Any]) -> str:
    return "yes"


def half_price(server: Server) -> Decimal:
    tokens = [(s.usage["prompt_tokens"], s.usage["completion_tokens"]) for s in server.served]
    return sum((Decimal(a) / 2 + Decimal(b) for a, b in tokens), Decimal(0)) / 1_000_000


def test_a_batch_labels_every_row_at_the_batch_price(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        made = run(server, tmp_path, 30, engine="batch")
        assert made.is_done
        assert server.requests == 0  # not one live call
        assert len(server.batches) == 1
        (batch,) = server.batches.values()
        assert batch["metadata"]["distillcalc_chunk"] == "0"
        assert made.spent_usd == journal_usd(made) == half_price(server)
        again = run(server, tmp_path, 30, engine="batch")
        assert len(server.batches) == 1
        assert again.dataset() == made.dataset()
    record = made.dataset().records[3]
    assert record.input["text"] == "question number 3"  # answers come in an order of their own
    assert record.answer == "yes"
    assert record.origin.processing == "batch"
    assert record.origin.latency_s is None


def test_what_a_batch_did_not_get_to_goes_into_another(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("batch_expired")
        server.order("batch_line", 2)
        made = run(server, tmp_path, 30, engine="batch")
        assert made.is_done
        assert len(server.batches) == 2
        assert set(asked(server).values()) == {1}
        assert made.failures == {"batch_expired": 15, "500": 2}
        assert made.spent_usd == half_price(server)


def test_a_batch_whose_creation_was_never_answered_is_taken_up_not_made_again(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("batch_lost")
        made = run(server, tmp_path, 10, engine="batch")
        assert made.is_done
        assert len(server.batches) == 1
        assert len(server.served) == 10


def test_a_batch_that_the_provider_refuses_stops_with_its_words_and_costs_nothing(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("batch_failed")
        made = run(server, tmp_path, 10, engine="batch")
        assert "invalid_json_line: bad" in made.stopped
        assert made.spent_usd == 0
        assert run(server, tmp_path, 10, engine="batch").is_done


def test_uploads_are_tried_again_and_a_refused_key_is_not(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("upload_500", 2)
        assert run(server, tmp_path, 5, engine="batch").is_done
    with running(answer=yes) as server:
        server.order("upload_401", 10)
        made = run(server, tmp_path / "other", 5, engine="batch")
        assert "Incorrect API key" in made.stopped
        assert sum(fault.times for fault in server.faults) == 9


def test_a_budget_cuts_batches_and_is_kept(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        made = run(server, tmp_path, 60, engine="batch", budget_usd="0.0006")
        assert "budget" in made.stopped
        assert made.spent_usd == half_price(server) <= Decimal("0.0006")
        assert made.most_in_flight_usd <= Decimal("0.0006")
        assert 0 < made.answers < 60
        done = run(server, tmp_path, 60, engine="batch")
        assert done.is_done
        assert set(asked(server).values()) == {1}


def test_large_plans_go_out_in_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run_batches.__kwdefaults__, "most_requests", 7)
    with running(answer=yes) as server:
        made = run(server, tmp_path, 20, engine="batch")
        assert made.is_done
        assert [b["request_counts"]["total"] for b in server.batches.values()] == [7, 7, 6]


def test_lines_that_cannot_be_read_are_booked_at_the_most_and_asked_again(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.order("batch_garbage")
        made = run(server, tmp_path, 10, engine="batch")
        assert made.is_done
        assert made.failures == {"batch-missing": 1}
        assert made.possibly_billed == 1
        assert made.spent_usd >= half_price(server)


def test_a_batch_that_runs_is_collected_whatever_the_budget_is_now(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.polls = 10**6
        process = start(server, tmp_path, 12, "batch")
        wait_for(lambda: any(batch["polls"] > 2 for batch in server.batches.values()))
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.polls = 1
        made = run(server, tmp_path, 12, engine="batch", budget_usd="0.000001")
        assert made.answers == 12


def test_samples_in_one_call_share_a_line(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        who = teacher(server, samples=3, one_call=True, temperature=1.0)
        made = run(server, tmp_path, 4, engine="batch", teacher=who)
        assert made.answers == 12
        assert len(server.served) == 4
        server.honours_n = False
        alone = teacher(server, samples=3, one_call=True, temperature=0.9)
        made = run(server, tmp_path, 4, engine="batch", teacher=alone)
        assert made.answers == 12  # asked again for what was missing


def test_a_teacher_without_a_batch_price_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    plain = {name: value for name, value in PRICE.items() if not name.startswith("batch")}
    rows_of = {"token_prices": {"test/model": plain}}
    with running(answer=yes) as server:
        with pytest.raises(MissingPrice, match="no batch price"):
            run(server, tmp_path, 3, engine="batch", catalog=Catalog.load().with_overrides(rows_of),
                accept_unclear_terms=True)  # fmt: skip
        assert not server.files


def test_killed_while_a_batch_runs_the_same_command_collects_it(tmp_path: Path) -> None:
    with running(answer=yes) as server:
        server.polls = 10**6
        process = start(server, tmp_path, 12, "batch")
        wait_for(lambda: any(batch["polls"] > 2 for batch in server.batches.values()))
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(InputError, match="a batch of this run is at the provider"):
            run(server, tmp_path, 12)
        server.polls = 1
        made = run(server, tmp_path, 12, engine="batch")
        assert made.is_done
        assert len(server.batches) == 1
        assert set(asked(server).values()) == {1}


@pytest.mark.parametrize("point", range(6))
def test_killed_at_any_step_no_batch_is_made_twice(tmp_path: Path, point: int) -> None:
    """The journal of a finished run, cut after each of its first entries, is what a kill there leaves."""
    with running(answer=yes) as server:
        made = run(server, tmp_path, 10, engine="batch")
        file = made.folder / "journal.jsonl"
        places = [place for place, _ in entries(file)] + [file.stat().st_size]
        file.write_bytes(file.read_bytes()[: places[point]])
        again = run(server, tmp_path, 10, engine="batch")
        assert again.is_done
        uploaded = sum(f["purpose"] == "batch" for f in server.files.values())
        # Cut before the id of the upload: it is uploaded again, which costs nothing, and makes a batch of its own only
        # where the journal does not know of the first (a kill cannot lose what was synced before the batch was made).
        assert len(server.batches) == (1 if point >= 3 else 2)
        assert uploaded == (1 if point >= 3 else 2)
        assert again.spent_usd == made.spent_usd
