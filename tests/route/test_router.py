"""A router: what it decides, how it is kept, and whom it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.confidence import Confidence
from distillcalc.route.given import Given, UserScore
from distillcalc.route.pairs import Pairs
from distillcalc.route.probability import Calibration
from distillcalc.route.requests import Request
from distillcalc.route.router import Router
from distillcalc.route.rules import Rules

SURE = Request("where is my card", "card", probabilities=[0.9, 0.05, 0.05])
UNSURE = Request("hm", "card", probabilities=[0.4, 0.35, 0.25])


def cascade(**more: object) -> Router:
    given: dict[str, object] = {
        "models": ("small", "big"), "kind": "cascade", "scores": (Confidence("max_probability"),), "thresholds": (0.8,),
    } | more  # fmt: skip
    return Router(**given)  # type: ignore[arg-type]


def test_a_cascade_keeps_what_is_sure_and_sends_on_the_rest() -> None:
    kept, sent = cascade().decide(SURE), cascade().decide(UNSURE)
    assert (kept.model, kept.score) == ("small", 0.9)
    assert kept.reason == "max_probability 0.9 is not below 0.8"
    assert (sent.model, sent.score) == ("big", 0.4)
    assert sent.reason == "max_probability 0.4 is below 0.8"
    assert math.isnan(kept.probability)


def test_a_score_at_the_threshold_is_kept() -> None:
    assert cascade(thresholds=(0.9,)).decide(SURE).model == "small"
    assert cascade(thresholds=(math.nextafter(0.9, 1),)).decide(SURE).model == "big"


def test_a_calibration_says_how_likely_the_student_is_right() -> None:
    calibration = Calibration.fit([0.1, 0.4, 0.6, 0.9], [0, 0, 1, 1], "isotonic")
    found = cascade(calibrations=(calibration,)).decide(SURE)
    assert found.probability == calibration.one(0.9) == 1.0


def test_rules_decide_before_any_score() -> None:
    rules = Rules.model_validate(
        {"rules": [{"kind": "topic", "words": ["refund"]}, {"kind": "length", "below": 2, "then": "student"}]}
    )
    router = cascade(rules=rules)
    refused = router.decide(Request("I want a refund", probabilities=[1.0, 0.0]))
    assert refused.model == "big"
    assert "refund" in refused.reason
    assert math.isnan(refused.score)
    assert router.decide(UNSURE).model == "small"  # one word
    assert router.decide(SURE).model == "small"


def test_a_router_chooses_the_first_model_that_is_good_enough() -> None:
    scores = tuple(Given(name, "before") for name in ("a", "b"))
    router = Router(("small", "middle", "big"), "router", scores, (0.8, 0.6))
    assert router.decide(Request(values={"a": 0.9, "b": 0.0})).model == "small"
    assert router.decide(Request(values={"a": 0.7, "b": 0.7})).model == "middle"
    assert router.decide(Request(values={"a": 0.7, "b": 0.5})).model == "big"


def test_a_cascade_of_three_goes_step_by_step() -> None:
    scores = (Confidence("max_probability"),) * 2
    chain = Router(("small", "middle", "big"), "cascade", scores, (0.8, 0.5))
    assert chain.decide(UNSURE).model == "middle"  # the next one is asked
    assert chain.decide(SURE, at=1).model == "middle"  # its answer is kept
    assert chain.decide(UNSURE, at=1).model == "big"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="a score and a threshold for each but the teacher"):
        cascade(thresholds=(0.5, 0.5))
    with pytest.raises(InputError, match="chooses before has none"):
        cascade(kind="router")
    with pytest.raises(InputError, match="must be finite"):
        cascade(thresholds=(math.inf,))


def test_it_is_read_back_as_it_was(tmp_path: Path) -> None:
    calibration = Calibration.fit([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1], "platt")
    router = cascade(
        calibrations=(calibration,), facts={"made": "2026-12-01"}, seen=np.array([3, 2**63], dtype=np.uint64),
        rules=Rules.model_validate({"rules": [{"kind": "length", "above": 500}]}),
    )  # fmt: skip
    again = Router.load(router.save(tmp_path / "router"))
    assert again.version == router.version
    assert again.decide(SURE) == router.decide(SURE)
    assert again.facts == router.facts
    assert again.seen.tolist() == [3, 2**63]
    assert again.rules == router.rules
    assert sorted(path.name for path in (tmp_path / "router").iterdir()) == ["router.json", "router.safetensors"]
    router.save(tmp_path / "router")  # over itself


def test_another_threshold_is_another_version() -> None:
    assert cascade().version == cascade().version
    assert cascade().version != cascade(thresholds=(0.81,)).version
    assert len(cascade().version) == 12


def test_a_router_of_another_student_is_refused(tmp_path: Path) -> None:
    folder = cascade().save(tmp_path / "router")
    assert Router.load(folder, student="small").student == "small"
    with pytest.raises(InputError, match=r"was made for small\. Got the student other"):
        Router.load(folder, student="other")
    pairs = Pairs.of([1, 0], [1, 1], scores={"max_probability": [0.9, 0.1]}, student="other", teacher="big")
    with pytest.raises(InputError, match=r"this router is of small and big\. Got pairs of other and big"):
        cascade().scored(pairs)


def test_a_file_that_was_changed_or_lost_is_told(tmp_path: Path) -> None:
    folder = cascade(seen=np.array([7], dtype=np.uint64)).save(tmp_path / "router")
    (folder / "router.safetensors").write_bytes((folder / "router.safetensors").read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"not the file that router\.json was written with"):
        Router.load(folder)
    (folder / "router.safetensors").unlink()
    with pytest.raises(InputError, match="missing"):
        Router.load(folder)
    about = json.loads((folder / "router.json").read_text())
    (folder / "router.json").write_text(json.dumps(about | {"schema_version": 99}))
    with pytest.raises(InputError, match=r"schema version 99, which this distillcalc cannot read"):
        Router.load(folder)
    (folder / "router.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        Router.load(folder)
    with pytest.raises(InputError, match="no router in"):
        Router.load(tmp_path / "nowhere")


def test_it_is_not_saved_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        cascade().save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def length_of(request: Request) -> float:
    return float(len(request.text))


def test_a_users_own_score_is_given_again_when_it_is_read(tmp_path: Path) -> None:
    router = cascade(scores=(UserScore("length", length_of, "after"),), thresholds=(5.0,))
    folder = router.save(tmp_path / "router")
    with pytest.raises(InputError, match="length"):
        Router.load(folder)
    again = Router.load(folder, functions={"length": length_of})
    assert again.decide(Request("hello")).model == "small"
    assert again.decide(Request("hm")).model == "big"


def test_scores_come_from_the_pairs_or_from_their_requests() -> None:
    pairs = Pairs.of([1, 0], [1, 1], student="small", teacher="big")
    asked = Pairs(
        pairs.ids, pairs.texts, pairs.models, pairs.right, requests=(SURE, UNSURE)
    )  # fmt: skip
    assert cascade().scored(asked)[:, 0].tolist() == [0.9, 0.4]
    held = pairs.with_scores(max_probability=np.array([0.1, 0.2]))
    assert cascade().scored(held)[:, 0].tolist() == [0.1, 0.2]
    with pytest.raises(InputError, match="probabilities"):
        cascade().scored(pairs)


def test_it_says_what_it_decides_by() -> None:
    said = " ".join(cascade(facts={"made": "2026-12-01", "promised": ["Certified."]}).about()["sentences"])
    assert "small answers where max_probability is 0.8 or more, else big." in said
    assert "Certified." in said


def test_an_unknown_kind_of_score_is_refused(tmp_path: Path) -> None:
    folder = cascade().save(tmp_path / "router")
    about = json.loads((folder / "router.json").read_text())
    about["scores"][0]["score"] = "oracle"
    (folder / "router.json").write_text(json.dumps(about))
    with pytest.raises(UnknownName, match="oracle"):
        Router.load(folder)


def test_a_threshold_that_was_edited_is_not_the_one_that_was_certified(tmp_path: Path) -> None:
    folder = cascade().save(tmp_path / "router")
    about = json.loads((folder / "router.json").read_text())
    about["thresholds"] = [0.1]
    (folder / "router.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="changed by hand"):
        Router.load(folder)


def test_what_was_advised_against_is_said_instead_of_a_promise() -> None:
    facts = {"advice": "teacher", "verdict": "Do not route: the teacher alone.", "promised": ["Certified."]}
    said = " ".join(cascade(facts=facts).about()["sentences"])
    assert "Do not route" in said
    assert "Certified." not in said
