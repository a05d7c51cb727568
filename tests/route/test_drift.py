"""What a watched router is said to need: where nothing changes, other requests come, or the student gets worse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, binom

from distillcalc.errors import InputError
from distillcalc.route.drift import Drift
from distillcalc.route.reference import Reference
from distillcalc.route.watch import Watch

THRESHOLD = 0.6
MANY = 3_000  # audited of each calibration where the advice is tested


def drawn(
    n: int, rng: np.random.Generator, *, shift: float = 0.0, worse: float = 0.0, digits: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, whether sent on, and whether the student is right: as likely as its score says, less ``worse``."""
    score = rng.beta(3 - shift, 1.2 + shift, n)
    if digits is not None:
        score = np.round(score, digits)
    return score, score < THRESHOLD, (rng.random(n) < score - worse).astype(float)


def calibrated(n: int, rng: np.random.Generator, *, digits: int | None = None, floor: float = 0.8) -> Reference:
    score, sent, good = drawn(n, rng, digits=digits)
    return Reference.of(score, sent, agreement=good, right=good, floor=floor, seed=int(rng.integers(1_000_000)))


def feed(
    watch: Watch, n: int, rng: np.random.Generator, *, audit: float = 0.3, shift: float = 0.0, worse: float = 0.0,
    teacher_moves: float = 0.0,
) -> None:  # fmt: skip
    """Live rows: a share audited and labelled; the teacher is right in 0.9 of what it is sent."""
    score, sent, good = drawn(n, rng, shift=shift, worse=worse)
    same = np.where(rng.random(n) < teacher_moves, 0.0, good)
    right = np.where(sent, rng.random(n) < 0.9, good)
    seen = rng.random(n) < audit
    watch.extend(
        score, sent, agreement=np.where(seen, same, np.nan), right=np.where(seen, right, np.nan),
        time=1.7e9 + 10.0 * (watch.rows + np.arange(n)),
    )  # fmt: skip


def test_false_alarms_over_streams_where_nothing_changes() -> None:
    """400 streams of 2,000 rows, each against a calibration of 200 of its own: half continuous, half with ties."""
    alpha, streams = 0.2, 400
    fired: dict[str, int] = {}
    any_of_them = 0
    for i in range(streams):
        rng = np.random.default_rng([11, i])
        digits = (None, 1)[i % 2]
        watch = Watch(calibrated(200, rng, digits=digits), alpha=alpha)
        score, sent, same = drawn(2000, rng, digits=digits)
        watch.extend(score, sent, agreement=same, right=np.where(sent, np.nan, same))
        hit = [name for name, one in watch.wealth.items() if one.alarmed_at is not None and name != "quality"]
        any_of_them += bool(hit)
        for name in hit:
            fired[name] = fired.get(name, 0) + 1
    assert any_of_them <= binom.ppf(0.999, streams, alpha * 4 / 5)
    assert all(count <= binom.ppf(0.999, streams, alpha / 5) for count in fired.values()), fired
    assert any_of_them > 0  # tests that never alarm at a level of 0.2 would hold back what they know


def test_a_quality_exactly_at_its_floor_is_no_alarm_more_often_than_its_level() -> None:
    alpha, streams, alarms = 0.4, 300, 0
    for i in range(streams):
        rng = np.random.default_rng([12, i])
        watch = Watch(Reference.of(rng.random(50), np.zeros(50), floor=0.8), alpha=alpha)  # three tests
        watch.extend(rng.random(2000), np.zeros(2000), right=rng.random(2000) < 0.8)
        alarms += watch.wealth["quality"].alarmed_at is not None
    assert 0 < alarms <= binom.ppf(0.999, streams, alpha / 3)


def test_other_requests_are_no_worse_student() -> None:
    for i in range(8):
        rng = np.random.default_rng([13, i])
        watch = Watch(calibrated(MANY, rng))
        feed(watch, 3000, rng)
        feed(watch, 6000, rng, shift=0.5)
        told = watch.report()
        assert told.advice == "recalibrate", str(told)
        assert told["scores"].alarmed
        assert told["escalation rate"].alarmed
        assert not told["agreement"].alarmed
        assert 3000 < (told["scores"].alarmed_at or 0) < 4000
        assert abs((told["scores"].changed_at or 0) - 3000) < 600
        assert 0 < (told["scores"].delay or 0) < 1500
        # kept requests agree less than they did, for their scores are lower; at the scores that came they do not
        assert told["agreement"].recent_calibrated == pytest.approx(told["agreement"].recent, abs=0.04)
        # of Beta(2.5, 1.7) a share of 0.486 lies below 0.6
        assert told["escalation rate"].recent_low < float(beta(2.5, 1.7).cdf(0.6)) < told["escalation rate"].recent_high


def test_a_student_that_got_worse_is_not_taken_for_other_requests() -> None:
    for i in range(8):
        rng = np.random.default_rng([14, i])
        watch = Watch(calibrated(MANY, rng))
        feed(watch, 3000, rng)
        feed(watch, 6000, rng, worse=0.2)
        told = watch.report()
        assert told.advice == "re-distill", str(told)
        assert not told["scores"].alarmed
        assert not told["escalation rate"].alarmed
        assert 3000 < (told["agreement"].alarmed_at or 0) < 5000
        fall = told["agreement"].recent_calibrated - told["agreement"].recent
        assert fall == pytest.approx(0.2, abs=0.06)
        assert 0 <= told.since - 2500 < 1500


def test_both_at_once_ask_for_a_new_student() -> None:
    rng = np.random.default_rng(15)
    watch = Watch(calibrated(MANY, rng))
    feed(watch, 8000, rng, worse=0.2, shift=0.5)
    told = watch.report()
    assert told.advice == "re-distill"
    assert told["scores"].alarmed
    assert any("Scores moved" in reason for reason in told.reasons)


def test_a_teacher_that_changed_is_no_worse_student() -> None:
    rng = np.random.default_rng(16)
    watch = Watch(calibrated(MANY, rng))
    feed(watch, 12_000, rng, teacher_moves=0.2)
    told = watch.report()
    assert told["agreement"].alarmed
    assert not told["student's quality"].alarmed
    assert told.advice == "recalibrate"
    assert "the teacher changed" in str(told)


def test_what_moved_without_audits_is_not_judged() -> None:
    rng = np.random.default_rng(17)
    watch = Watch(calibrated(MANY, rng))
    feed(watch, 3000, rng, audit=0, shift=0.8)
    told = watch.report()
    assert told.advice == "not-enough-yet"
    assert "0 kept requests were audited since; about" in str(told)
    assert not told["agreement"].started
    assert "not started" in str(told)

    bare = Watch(Reference.of(*drawn(500, rng)[:2]))
    bare.extend(*drawn(3000, rng, shift=0.8)[:2])
    assert bare.report().advice == "not-enough-yet"
    assert "cannot be told from a worse student" in str(bare.report())


def test_too_few_rows_and_a_quiet_stream() -> None:
    rng = np.random.default_rng(18)
    watch = Watch(calibrated(MANY, rng))
    assert watch.report().advice == "not-enough-yet"
    feed(watch, 150, rng)
    assert watch.report().advice == "not-enough-yet"
    feed(watch, 5000, rng)
    told = watch.report()
    assert (told.advice, told.reasons) == ("nothing", ("No test alarms.",))
    assert told.requests_per_day == pytest.approx(8640, rel=1e-3)  # one in ten seconds
    blind = Watch(calibrated(200, rng))
    feed(blind, 500, rng, audit=0.1)
    assert "too few kept requests were audited" in str(blind.report())


def test_a_quality_below_its_floor_alarms() -> None:
    rng = np.random.default_rng(19)
    watch = Watch(calibrated(MANY, rng, floor=0.9))
    feed(watch, 6000, rng)  # the mixture is right in about 0.83
    told = watch.report()
    assert told["quality"].alarmed
    assert told["quality"].high < 0.9
    assert told.advice == "recalibrate"  # the student is what it was: the threshold promised too much


def same_report(a: Drift, b: Drift) -> None:
    left, right = json.loads(json.dumps(a.to_dict())), json.loads(json.dumps(b.to_dict()))
    assert left.keys() == right.keys()
    assert {k: v for k, v in left.items() if k != "tests"} == {k: v for k, v in right.items() if k != "tests"}
    for one, other in zip(left["tests"], right["tests"], strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), name


def test_row_by_row_is_the_same_as_all_at_once_and_as_saved_between(tmp_path: Path) -> None:
    rng = np.random.default_rng(20)
    reference = calibrated(300, rng, digits=2)
    n = 1500
    score, sent, good = drawn(n, rng, digits=2, worse=0.25, shift=0.2)
    score[::50] = np.nan  # a rule decided
    score[1::70] = np.inf
    same, right = np.where(rng.random(n) < 0.5, good, np.nan), np.where(rng.random(n) < 0.5, good, np.nan)
    time = np.where(rng.random(n) < 0.9, 1.7e9 + 60.0 * np.arange(n), np.nan)

    whole = Watch(reference)
    whole.extend(score, sent, agreement=same, right=right, time=time)
    told = whole.report()
    assert sum(test.alarmed for test in told.tests) >= 2
    assert told.ruled == 30

    rows = Watch(reference)
    for i in range(n):
        if i == 700:
            rows = Watch.load(rows.save(tmp_path / "watch.json"))
        rows.update(
            float(score[i]), bool(sent[i]), agreement=None if np.isnan(same[i]) else float(same[i]),
            right=None if np.isnan(right[i]) else float(right[i]), time=float(time[i]),
        )  # fmt: skip
    assert rows.update(0.9, False)  # something has alarmed
    whole.update(0.9, False)
    told = whole.report()
    same_report(told, rows.report())
    same_report(told, Watch.load(whole.save(tmp_path / "watch.json")).report())
    assert reference.scores.live.sum() == 0  # a reference is not changed by those who watch


def test_blocks_that_were_merged_tell_the_same_sums() -> None:
    rng = np.random.default_rng(21)
    watch = Watch(calibrated(300, rng))
    score, sent, good = drawn(200_000, rng)
    watch.extend(score, sent, agreement=good)
    told = watch.report()
    assert len(watch.blocks.sums) <= 1024
    assert told["escalation rate"].estimate == pytest.approx(sent.mean(), rel=1e-12)
    assert told["agreement"].estimate == pytest.approx(good[~sent].mean(), rel=1e-12)
    assert told["agreement"].n == int((~sent).sum())


def test_a_report_reads_advice_first_and_a_line_for_each_test() -> None:
    rng = np.random.default_rng(22)
    watch = Watch(calibrated(MANY, rng))
    feed(watch, 4000, rng, shift=0.6)
    told = watch.report()
    lines = str(told).splitlines()
    assert lines[0].startswith("Recalibrate: choose the threshold again")
    assert [line.split("  ")[1] for line in lines[1:]] == [test.name for test in told.tests]
    assert "ALARM at row" in lines[1]
    assert "2023-11-14" in lines[1]
    assert "no alarm" in lines[3]
    assert repr(told) == str(told)
    with pytest.raises(KeyError, match="no test of 'x'"):
        told["x"]


def test_what_cannot_be_a_reference_a_row_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 20 calibrated scores"):
        Reference.of([0.1, 0.2, 0.3], [0, 1, 0])
    with pytest.raises(InputError, match="true or false for each of 2"):
        Reference.of([0.1, 0.2], [0.5, 1])
    with pytest.raises(InputError, match="floor must be"):
        Reference.of(np.arange(30), np.zeros(30), floor=1.0)
    with pytest.raises(InputError, match="agreement must be between 0 and 1"):
        Reference.of(np.arange(30), np.zeros(30), agreement=np.full(30, 2.0))
    reference = Reference.of(np.arange(30), np.zeros(30))
    with pytest.raises(InputError, match="alpha must be"):
        Watch(reference, alpha=1.0)
    watch = Watch(reference)
    with pytest.raises(InputError, match="one value for each of 2"):
        watch.extend([1, 2], [0, 1], agreement=[1])
    assert watch.rows == 0
    file = tmp_path / "watch.json"
    file.write_text("{}")
    with pytest.raises(InputError, match="no saved watch"):
        Watch.load(file)
    file.write_text(json.dumps(watch.to_dict() | {"schema_version": 99}))
    with pytest.raises(InputError, match="version 99"):
        Watch.load(file)
    with pytest.raises(InputError, match="cannot be read"):
        Watch.load(tmp_path / "none.json")


def test_rates_of_none_and_of_all_and_a_constant_score() -> None:
    for sent in (0.0, 1.0):
        watch = Watch(Reference.of(np.ones(100), np.full(100, sent)))
        watch.extend(np.ones(3000), np.full(3000, sent))
        assert watch.report().advice == "nothing"
        watch.extend(np.ones(3000), np.full(3000, 1 - sent))
        assert watch.report()["escalation rate"].alarmed
        assert not watch.report()["scores"].alarmed
