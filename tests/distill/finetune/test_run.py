"""From upload to a model that answers, with both services, and with all that may go wrong between."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from distillcalc.distill.finetune import JobFailed, Progress, ProviderError, StillRunning, finetune
from distillcalc.distill.finetune.forecast import Notice
from distillcalc.errors import InputError
from tests.distill.finetune.common import (
    KEY,
    SECRET,
    TODAY,
    Clock,
    Facts,
    events_of,
    journal,
    service,
    spec,
    training_file,
    tune,
    words,
)
from tests.distill.server import Server


def test_from_upload_to_a_model_that_answers(server: Server, tmp_path: Path, api: str) -> None:
    steps: list[Progress] = []
    done = tune(spec(server, tmp_path, api, suffix="mail"), tmp_path, steps=steps)
    assert done.job.status == "succeeded"
    assert done.model
    assert "mail" in done.model
    assert done.usable
    assert server.served[-1].body["model"] == done.model  # a chat completion, answered
    stages = [step.stage for step in steps if step.stage not in ("event", "status", "estimate")]
    assert stages == ["plan", "upload-intent", "uploaded", "create-intent", "created", "usable"]
    statuses = [step.job.status for step in steps if step.stage == "status" and step.job]
    assert statuses == ["validating" if api == "openai" else "queued", "queued", "running", "succeeded"]
    messages = [step.event.message for step in steps if step.event]
    assert messages == [
        "Created fine-tuning job", "The job is queued", "The job is running", "The job is succeeded",
    ]  # fmt: skip
    assert server.keys == {f"Bearer {SECRET}"}


def test_the_request_is_as_each_api_wants_it(server: Server, tmp_path: Path) -> None:
    tune(spec(server, tmp_path, batch_size=4, learning_rate_multiplier=1.5, suffix="mail"), tmp_path)
    (job,) = server.jobs.values()
    mark = job["body"]["metadata"].pop("distillcalc_run")
    (file,) = server.files.values()
    assert job["body"] == {
        "model": "gpt-4o-mini",
        "training_file": file["id"],
        "metadata": {},
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.5}},
        },
        "suffix": "mail",
        "seed": 7,
    }
    assert file["filename"] == f"distillcalc_run-{mark}-training.jsonl"
    assert file["content"] == (tmp_path / "train.jsonl").read_bytes()


def test_older_servers_have_hyperparameters_at_the_top(server: Server, tmp_path: Path) -> None:
    tune(spec(server, tmp_path, settings="hyperparameters"), tmp_path)
    (job,) = server.jobs.values()
    assert job["body"]["hyperparameters"] == {"n_epochs": 3}
    assert "method" not in job["body"]


def test_togethers_request(server: Server, tmp_path: Path) -> None:
    made = spec(server, tmp_path, "together", validation_file=training_file(tmp_path), evaluations=2, suffix="m" * 64)
    tune(made, tmp_path)
    (job,) = server.jobs.values()
    body = job["body"]
    assert len(body["suffix"]) == 40
    assert body["suffix"].startswith("mmmm")
    assert body["training_type"] == {
        "type": "Lora", "lora_r": 8, "lora_alpha": 16, "lora_trainable_modules": "all-linear",
    }  # fmt: skip
    assert body["training_method"] == {"method": "sft", "train_on_inputs": "auto"}
    assert (body["n_epochs"], body["n_evals"], body["batch_size"], body["random_seed"]) == (3, 2, "max", 7)
    assert body["validation_file"] != body["training_file"]


def test_a_finished_run_is_not_made_again(server: Server, tmp_path: Path, api: str) -> None:
    made = spec(server, tmp_path, api)
    first = tune(made, tmp_path)
    second = tune(made, tmp_path, check=None)  # the file is not even looked at
    assert second == first
    assert len(server.jobs) == len(server.files) == 1
    assert events_of(tmp_path).count("done") == 1


def test_forecast_and_bill_stand_side_by_side(server: Server, tmp_path: Path) -> None:
    # 12 lines of 10 words, such as {"messages": or "yes"}]}; 12 x 10 x 3 epochs = 360 tokens at 3.00 USD/Mtok.
    done = tune(spec(server, tmp_path), tmp_path)
    assert done.forecast.tokens == 360
    assert done.forecast.usd == pytest.approx(0.00108)
    assert done.job.trained_tokens == 360
    assert done.bill.usd == pytest.approx(0.00108)
    assert done.bill.forecast_usd == done.forecast.usd


def test_together_says_its_own_price(server: Server, tmp_path: Path) -> None:
    # 360 tokens at the server's 0.50 USD/Mtok = 180 000 billionths; the catalog's 0.48 forecasts 0.0001728.
    done = tune(spec(server, tmp_path, "together"), tmp_path)
    assert done.bill.usd == pytest.approx(360 * 0.5e-6)
    assert done.forecast.usd == pytest.approx(360 * 0.48e-6)
    assert "own price" in done.bill.source


def test_events_after_one_that_is_known(server: Server, tmp_path: Path, api: str) -> None:
    made = spec(server, tmp_path, api)
    done = tune(made, tmp_path)
    with service(made) as found:
        log = found.events(done.job.id)
        assert log[0].message == "Created fine-tuning job"
        assert list(found.events(done.job.id, log[1].id)) == list(log[2:])
        assert [checkpoint.step for checkpoint in found.checkpoints(done.job.id)] == [10, 20]
        assert [job.id for job in found.list()] == [done.job.id]


def test_long_lists_are_read_to_their_end(server: Server, tmp_path: Path) -> None:
    made = spec(server, tmp_path)
    tune(made, tmp_path)
    (job,) = server.jobs.values()
    for i in range(250):
        server.jobs[f"copy-{i}"] = {**job, "id": f"copy-{i}"}
    with service(made) as found:
        assert len(list(found.list())) == 251


@pytest.mark.parametrize("misdeed", ["job_lost", "job_cut"])
def test_a_job_whose_answer_was_lost_is_adopted(server: Server, tmp_path: Path, api: str, misdeed: str) -> None:
    server.order(misdeed)
    done = tune(spec(server, tmp_path, api), tmp_path)
    assert list(server.jobs) == [done.job.id]
    assert next(line for line in journal(tmp_path) if line["event"] == "created")["adopted"] is True
    assert next(line for line in journal(tmp_path) if line["event"] == "creation-failed")["lost"] is True


def test_a_lost_job_that_is_listed_late_is_adopted(server: Server, tmp_path: Path, api: str) -> None:
    server.order("job_hidden", seconds=2)
    server.order("job_lost")
    done = tune(spec(server, tmp_path, api), tmp_path)
    assert list(server.jobs) == [done.job.id]


def test_a_lost_job_is_known_by_its_file_where_the_mark_is_not_given_back(
    server: Server, tmp_path: Path, api: str
) -> None:
    server.order("job_unmarked")
    server.order("job_lost")
    done = tune(spec(server, tmp_path, api), tmp_path)
    assert list(server.jobs) == [done.job.id]


def test_anothers_job_is_not_adopted(server: Server, tmp_path: Path, api: str) -> None:
    made = spec(server, tmp_path, api)
    first = tune(made, tmp_path)
    server.order("job_500")
    second = tune(made.model_copy(update={"name": "two"}), tmp_path)
    assert second.job.id != first.job.id
    assert len(server.jobs) == 2


@pytest.mark.parametrize("misdeed", ["job_429", "job_500"])
def test_a_creation_that_was_not_taken_is_asked_again(server: Server, tmp_path: Path, api: str, misdeed: str) -> None:
    server.order(misdeed, 2, retry_after="17")
    clock = Clock()
    done = tune(spec(server, tmp_path, api), tmp_path, clock=clock)
    assert list(server.jobs) == [done.job.id]
    assert clock.slept.count(17.0) == 2


def test_a_creation_that_is_never_taken_is_told(server: Server, tmp_path: Path, api: str) -> None:
    server.order("job_500", 99)
    with pytest.raises(ProviderError, match="500"):
        tune(spec(server, tmp_path, api), tmp_path)
    assert server.jobs == {}
    server.faults.clear()
    assert tune(spec(server, tmp_path, api), tmp_path).usable  # and can be taken up
    assert len(server.files) == len(server.jobs) == 1


@pytest.mark.parametrize("misdeed", ["job_401", "job_quota"])
def test_what_no_waiting_mends_is_told_at_once(server: Server, tmp_path: Path, api: str, misdeed: str) -> None:
    server.order(misdeed)
    with pytest.raises(ProviderError, match=r"401|429") as told:
        tune(spec(server, tmp_path, api), tmp_path)
    assert SECRET not in str(told.value)
    assert server.jobs == {}


def test_an_upload_in_trouble_is_sent_again(server: Server, tmp_path: Path, api: str) -> None:
    server.order("upload_500", 2)
    tune(spec(server, tmp_path, api), tmp_path)
    assert len(server.files) == 1


def test_an_upload_whose_answer_was_lost_is_adopted(server: Server, tmp_path: Path) -> None:
    server.order("upload_lost")
    tune(spec(server, tmp_path, "together"), tmp_path)
    assert len(server.files) == 1


def test_an_upload_that_is_refused_is_told(server: Server, tmp_path: Path, api: str) -> None:
    server.order("upload_401")
    with pytest.raises(ProviderError, match="invalid_api_key"):
        tune(spec(server, tmp_path, api), tmp_path)


@pytest.mark.parametrize("misdeed", ["poll_429", "poll_500", "events_500"])
def test_reading_is_repeated(server: Server, tmp_path: Path, api: str, misdeed: str) -> None:
    server.order(misdeed, 3, retry_after="9")
    clock = Clock()
    assert tune(spec(server, tmp_path, api), tmp_path, clock=clock).usable
    assert clock.slept.count(9.0) == 3


def test_a_service_that_is_away_for_long_holds_up_and_ends_nothing(server: Server, tmp_path: Path, api: str) -> None:
    server.order("poll_500", 15)
    assert tune(spec(server, tmp_path, api), tmp_path).usable
    assert "poll-failed" in events_of(tmp_path)


def test_a_failed_job_is_told_with_its_reason(server: Server, tmp_path: Path, api: str) -> None:
    server.order("job_failed")
    made = spec(server, tmp_path, api)
    with pytest.raises(JobFailed, match="server_error: The job failed due to an internal error") as told:
        tune(made, tmp_path)
    assert told.value.job.error is not None
    with pytest.raises(JobFailed):  # and stays failed: no second job under this name
        tune(made, tmp_path)
    assert len(server.jobs) == 1


def test_a_training_file_that_the_service_refuses(server: Server, tmp_path: Path, api: str) -> None:
    server.order("job_invalid")
    with pytest.raises(JobFailed, match="invalid_training_file"):
        tune(spec(server, tmp_path, api), tmp_path)


def test_a_slow_queue_is_waited_for_and_polled_less_often(server: Server, tmp_path: Path, api: str) -> None:
    server.order("job_slow", seconds=20)
    clock = Clock()
    assert tune(spec(server, tmp_path, api), tmp_path, clock=clock).usable
    assert clock.slept[0] == 5.0
    assert max(clock.slept) == 60.0


def test_a_stuck_job_ends_the_call_at_its_deadline_and_goes_on(server: Server, tmp_path: Path, api: str) -> None:
    server.order("job_stuck")
    made, clock = spec(server, tmp_path, api, deadline_hours=0.05), Clock()
    with pytest.raises(StillRunning, match="still queued"):
        tune(made, tmp_path, clock=clock)
    assert clock.now == pytest.approx(180.0)
    next(iter(server.jobs.values()))["misdeed"] = ""
    assert tune(made, tmp_path).usable
    assert len(server.jobs) == 1


def test_a_success_without_a_model_is_told(server: Server, tmp_path: Path, api: str) -> None:
    server.order("job_nameless")
    made = spec(server, tmp_path, api)
    with pytest.raises(ProviderError, match="names no model"):
        tune(made, tmp_path)
    next(iter(server.jobs.values()))["misdeed"] = ""
    assert tune(made, tmp_path).model


def test_a_cancelled_job_is_told(server: Server, tmp_path: Path, api: str) -> None:
    server.order("job_stuck")
    made = spec(server, tmp_path, api, deadline_hours=0.01)
    with pytest.raises(StillRunning) as told:
        tune(made, tmp_path)
    with service(made) as found:
        assert found.cancel(told.value.job.id).status == "cancelled"
    with pytest.raises(JobFailed, match="cancelled"):
        tune(made, tmp_path)


def test_a_model_that_does_not_answer_yet_is_not_called_usable(server: Server, tmp_path: Path, api: str) -> None:
    server.order("404", 99)
    done = tune(spec(server, tmp_path, api), tmp_path)
    assert done.model
    assert done.usable is False


def test_nothing_is_sent_where_the_plan_is_refused(server: Server, tmp_path: Path, api: str) -> None:
    def bad(path: Path, *, epochs: int) -> Facts:
        return Facts(3, 30, False, ("line 2: no messages", "fewer than 10 examples"))

    with pytest.raises(InputError, match="line 2: no messages; fewer than 10"):
        tune(spec(server, tmp_path, api), tmp_path, check=bad)
    with pytest.raises(InputError, match="not made: the terms say no"):
        tune(spec(server, tmp_path, api), tmp_path, terms=lambda spec, catalog: [Notice("refuse", "the terms say no")])
    with pytest.raises(InputError, match="not confirmed"):
        tune(spec(server, tmp_path, api), tmp_path, confirm=lambda plan: False)
    with pytest.raises(InputError, match="more than budget_usd = 0"):
        tune(spec(server, tmp_path, api, budget_usd=0), tmp_path)
    assert server.files == server.jobs == {}


def test_the_services_own_price_is_held_to_the_budget_too(server: Server, tmp_path: Path) -> None:
    # Forecast 360 x 0.48e-6 = 0.00017 USD; the server asks 360 x 1e-6 = 0.00036.
    made = spec(server, tmp_path, "together", budget_usd=0.0003)
    with pytest.raises(InputError, match="says that the job costs"):
        tune(made, tmp_path)
    assert server.jobs == {}
    assert tune(made.model_copy(update={"budget_usd": 1.0}), tmp_path).usable


def test_a_job_that_was_made_is_waited_for_whatever_todays_plan_says(server: Server, tmp_path: Path, api: str) -> None:
    def killed(step: Progress) -> None:
        if step.stage == "creation-failed":
            raise KeyboardInterrupt

    made = spec(server, tmp_path, api)
    server.order("job_lost")
    with pytest.raises(KeyboardInterrupt):
        tune(made, tmp_path, progress=killed)
    assert "created" not in events_of(tmp_path)
    late = {"today": date(2027, 2, 1), "confirm": lambda plan: False}  # refused, if it were not made
    assert tune(made.model_copy(update={"budget_usd": 0.0}), tmp_path, **late).usable
    assert len(server.jobs) == 1


def test_other_settings_need_another_name(server: Server, tmp_path: Path, api: str) -> None:
    tune(spec(server, tmp_path, api), tmp_path)
    with pytest.raises(InputError, match="other settings"):
        tune(spec(server, tmp_path, api, epochs=4), tmp_path)


def test_another_training_file_needs_another_name(server: Server, tmp_path: Path, api: str) -> None:
    server.order("job_401")
    with pytest.raises(ProviderError):
        tune(spec(server, tmp_path, api), tmp_path)
    made = spec(server, tmp_path, api)
    training_file(tmp_path, rows=20)
    with pytest.raises(InputError, match="not those that"):
        tune(made, tmp_path)


def test_two_processes_do_not_work_in_one_folder(server: Server, tmp_path: Path, api: str) -> None:
    made = spec(server, tmp_path, api)

    def again(step: Progress) -> None:
        with pytest.raises(InputError, match="another process"):
            finetune(made, folder=tmp_path / "runs", check=words, today=TODAY)

    tune(made, tmp_path, progress=again)
    assert len(server.jobs) == 1


def test_a_line_that_was_cut_off_is_passed_over(server: Server, tmp_path: Path, api: str) -> None:
    made = spec(server, tmp_path, api)
    server.order("job_401")
    with pytest.raises(ProviderError):
        tune(made, tmp_path)
    with (tmp_path / "runs" / "one" / "journal.jsonl").open("a") as stream:
        stream.write('{"at": "2026-11-24T00:00:00", "event": "crea')
    assert tune(made, tmp_path).usable
    assert len(server.jobs) == len(server.files) == 1


def test_nothing_that_is_written_holds_the_key(server: Server, tmp_path: Path, api: str) -> None:
    tune(spec(server, tmp_path, api), tmp_path)
    for file in (tmp_path / "runs" / "one").iterdir():
        assert SECRET not in file.read_text()


def test_without_a_key_nothing_is_tried(
    server: Server, tmp_path: Path, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY)
    with pytest.raises(InputError, match=f"{KEY} is not set"):
        finetune(spec(server, tmp_path, api), folder=tmp_path / "runs", check=words, today=TODAY)
    assert server.files == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"key_env": SECRET}, "never a key"),
        ({"base_url": "http://user:secret@host/v1"}, "Take it out"),
        ({"base_url": None, "self_hosted": True}, "self_hosted needs base_url"),
        ({"provider": "fireworks", "base_url": None}, "set base_url"),
        ({"learning_rate": 1e-5}, "learning_rate is no setting of the openai API"),
        ({"provider": "together", "learning_rate_multiplier": 2.0}, "no setting of the together API"),
        ({"provider": "together", "evaluations": 2}, "evaluations need a validation_file"),
        ({"epochs": 0}, "epochs"),
        ({"name": "../out"}, "name"),
    ],
)
def test_specs_that_cannot_be_right(server: Server, tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as told:
        spec(server, tmp_path, **given)
    assert SECRET not in str(told.value)
