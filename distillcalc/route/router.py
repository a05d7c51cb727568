"""A router: which model of a chain answers a request, decided by scores, thresholds and rules that are saved together.

A folder holds it: ``router.json`` with everything that can be read, and ``router.safetensors`` with arrays. Nothing of
it is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError
from distillcalc.route.mixing import KEPT, SENT_ON, Kind, answering, by_score
from distillcalc.route.pairs import Pairs
from distillcalc.route.probability import Calibration
from distillcalc.route.reference import FEWEST_ITEMS, Reference
from distillcalc.route.requests import Request, Route, Stage
from distillcalc.route.rules import Rules
from distillcalc.route.scores import Parts, Score, score_from
from distillcalc.workload.files import validate
from distillcalc.workload.routing import MeasuredRouting

if TYPE_CHECKING:
    from distillcalc.route.embedding import Embedder

Floats = NDArray[np.float64]

SCHEMA_VERSION = 1
FILE, ARRAYS = "router.json", "router.safetensors"


@dataclass(frozen=True, eq=False)
class Router:
    """Which model answers a request.

    Parameters
    ----------
    models : names, from the first that is asked to the teacher.
    kind : a "cascade" judges a model's answer, a "router" chooses before anybody answers.
    scores : how sure of each model but the teacher, in their order.
    thresholds : of those scores; a request is sent on below them.
    rules : decide before any score, the first that holds.
    calibrations : score to probability that the model is right, in the order of ``scores``; None where there is none.
    measured : what was measured of it, as a scenario holds it; None of a router that was not certified.
    facts : how it was made, in plain values: goal, certificate, items, days.
    seen : keys of all items that it was learned, tuned or certified on.
    reference : how it scored and escalated the certifying items: what live traffic is compared with (:mod:`.drift`).
    embedder : of texts, for rules by example.
    """

    models: tuple[str, ...]
    kind: Kind
    scores: tuple[Score, ...]
    thresholds: tuple[float, ...]
    rules: Rules = field(default_factory=Rules)
    calibrations: tuple[Calibration | None, ...] = ()
    measured: MeasuredRouting | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    seen: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64), repr=False)
    reference: Reference | None = field(default=None, repr=False)
    embedder: Embedder | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        k = len(self.models) - 1
        if k < 1 or len(self.scores) != k or len(self.thresholds) != k:
            raise InputError(
                f"a router of {len(self.models)} models has a score and a threshold for each but the teacher. "
                f"Got {len(self.scores)} and {len(self.thresholds)}"
            )
        late = [score.name for score in self.scores if self.kind == "router" and score.stage == "after"]
        if late:
            raise InputError(
                f"{late[0]} needs the student's answer: a router that chooses before has none. Use a cascade"
            )
        if not all(np.isfinite(self.thresholds)):
            raise InputError(f"thresholds must be finite. Got {self.thresholds}")

    @property
    def stage(self) -> Stage:
        """Whether it decides "before" or "after" the student answers."""
        return "after" if self.kind == "cascade" else "before"

    @property
    def score_name(self) -> str:
        """Of the first model."""
        return self.scores[0].name

    @property
    def student(self) -> str:
        """The model that is asked first."""
        return self.models[0]

    @property
    def teacher(self) -> str:
        """The last model."""
        return self.models[-1]

    @cached_property
    def version(self) -> str:
        """Twelve hex digits that change with whatever it decides by: models, scores, thresholds, rules, calibration."""
        plain, arrays = self._parts()
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for name in sorted(arrays):
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
        return digest.hexdigest()[:12]

    def decide(self, request: Request, at: int = 0) -> Route:
        """Which model's answer to use.

        Parameters
        ----------
        request : what was asked; of a cascade with what model ``at`` made of it.
        at : the model that has just answered (of a cascade).

        Returns
        -------
        Route. Of a cascade ``model`` is the one that has answered where its answer is kept, else the next; of a router
        the first that is good enough.
        """
        if at == 0 and self.rules.rules:
            ruled = self.rules.first(request, embedder=self.embedder)
            if ruled is not None:
                return Route(self.models[-1 if ruled.then == "teacher" else 0], ruled.reason, float("nan"))
        last = len(self.models) - 1
        while True:
            score = self.scores[at]
            value = score.one(request)
            chance = float("nan")
            if self.calibrations and (calibration := self.calibrations[at]) is not None:
                chance = calibration.one(value)
            threshold = self.thresholds[at]
            if value >= threshold:
                return Route(self.models[at], f"{score.name} {value:.4g} is not below {threshold:.4g}", value, chance)
            at += 1
            if self.kind == "cascade" or at == last:
                return Route(self.models[at], f"{score.name} {value:.4g} is below {threshold:.4g}", value, chance)

    def scored(self, pairs: Pairs) -> Floats:
        """The scores of some items, shape (items, models - 1); what rules decide is beyond any threshold.

        A score that the pairs hold by name is taken from them, others are worked out of the requests.

        Raises
        ------
        InputError
            For pairs of other models.
        """
        self.refuse_others(pairs)
        columns = []
        asked = pairs.asked()
        for stage, score in enumerate(self.scores):
            held = pairs.scores.get(score.name)
            columns.append(held[:, stage] if held is not None else score.many(asked))
        found = np.column_stack(columns).astype(float)
        if self.rules.rules:
            for i, request in enumerate(asked):
                ruled = self.rules.first(request, embedder=self.embedder)
                if ruled is not None:
                    found[i] = SENT_ON if ruled.then == "teacher" else KEPT
        return found

    def reference_of(self, pairs: Pairs, scores: Floats | None = None) -> Reference | None:
        """How it scores and escalates some items, for :class:`.watch.Watch`; None of fewer than twenty.

        Parameters
        ----------
        pairs : labelled items that nothing was learned or chosen on.
        scores : theirs, where they are known already, shape (items, models - 1).
        """
        known = self.scored(pairs) if scores is None else scores
        score = known[:, 0]
        score = np.where(by_score(score), score, np.nan)
        if np.isfinite(score).sum() < FEWEST_ITEMS:
            return None
        goal = self.facts.get("goal", {})
        floor = goal.get("floor")
        if floor is None and goal.get("retention") is not None:
            floor = goal["retention"] * float(pairs.right[:, -1].mean())
        escalated = answering(known, np.array(self.thresholds)) != 0
        return Reference.of(
            score, escalated, agreement=pairs.agreement, right=pairs.right[:, 0],
            floor=floor if floor is not None and 0 < floor < 1 else None,
        )  # fmt: skip

    def refuse_others(self, pairs: Pairs) -> None:
        """Refuse pairs of other models than this router's."""
        if pairs.models != self.models:
            raise InputError(
                f"this router is of {' and '.join(self.models)}. Got pairs of {' and '.join(pairs.models)}: another "
                "student needs a router of its own (distillcalc route fit)"
            )

    def about(self) -> dict[str, Any]:
        """What it decides by and what it promised, in plain values and in words."""
        last = len(self.models) - 1
        said = [
            f"{'Cascade' if self.kind == 'cascade' else 'Router'} {self.version} of {' and '.join(self.models)}, "
            f"made on {self.facts.get('made', 'an unknown day')} from {self.facts.get('source') or 'pairs'}."
        ]
        if self.rules.rules:
            said.append(f"{len(self.rules.rules)} rule(s) decide before any score.")
        for i in range(last):
            following = self.models[last] if self.kind == "router" and i + 1 == last else self.models[i + 1]
            said.append(
                f"{self.models[i]} answers where {self.scores[i].name} is {self.thresholds[i]:.4g} or more, "
                f"else {following}."
            )
        said += self.facts.get("notes", [])
        advice = self.facts.get("advice", "router")
        said += self.facts.get("promised", []) if advice == "router" else [self.facts["verdict"]]
        return {
            "version": self.version,
            "models": list(self.models),
            "kind": self.kind,
            "scores": [score.name for score in self.scores],
            "thresholds": list(self.thresholds),
            "rules": self.rules.model_dump(mode="json"),
            "facts": dict(self.facts),
            "sentences": said,
        }

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What it decides by: plain values, and arrays."""
        arrays: dict[str, NDArray[Any]] = {}
        scores = []
        for place, score in enumerate(self.scores):
            parts = score.to_parts()
            arrays |= {f"score{place}/{name}": values for name, values in parts.arrays.items()}
            scores.append(parts.about)
        plain = {
            "models": list(self.models),
            "kind": self.kind,
            "scores": scores,
            "thresholds": list(self.thresholds),
            "rules": self.rules.model_dump(mode="json"),
            "calibrations": [None if one is None else one.to_dict() for one in self.calibrations],
        }
        return plain, arrays

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder of its own, which is made; a router that was there is replaced.

        Raises
        ------
        InputError
            If the folder holds something else.
        """
        from safetensors.numpy import save

        place = Path(folder)
        if place.exists() and (not place.is_dir() or (any(place.iterdir()) and not (place / FILE).is_file())):
            raise InputError(f"{place} holds something else than a router: name a folder of its own")
        place.mkdir(parents=True, exist_ok=True)
        plain, arrays = self._parts()
        arrays["seen"] = self.seen
        packed = save({name: np.ascontiguousarray(values) for name, values in arrays.items()})
        about = {
            "schema_version": SCHEMA_VERSION,
            "version": self.version,
            **plain,
            "measured": None if self.measured is None else self.measured.model_dump(mode="json"),
            "facts": dict(self.facts),
            "reference": None if self.reference is None else self.reference.to_dict(),
            "arrays": hashlib.sha256(packed).hexdigest(),
        }
        _write(place / ARRAYS, packed)
        _write(place / FILE, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())
        return place

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        student: str | None = None,
        functions: Mapping[str, Callable[[Request], float]] | None = None,
        embedder: Embedder | None = None,
    ) -> Router:
        """Read a router that :meth:`save` wrote.

        Parameters
        ----------
        folder : where it lies.
        student : the student that it is to be used with; another one's router is refused.
        functions : scores of the user's own by name, which are not saved.
        embedder : of texts; left out, the model that the scores were learned with, by its name.

        Raises
        ------
        InputError
            If it is not there, is of another version or of another student, or a file of it was changed.
        """
        from safetensors.numpy import load

        place = Path(folder)
        about = _read(place)
        if student is not None and about["models"][0] != student:
            raise InputError(
                f"the router in {place} was made for {about['models'][0]}. Got the student {student}: its confidence "
                "means something else. Make a router for it (distillcalc route fit)"
            )
        arrays = load(_checked(place / ARRAYS, about["arrays"]))
        scores = []
        for i, config in enumerate(about["scores"]):
            own = {name.split("/", 1)[1]: v for name, v in arrays.items() if name.startswith(f"score{i}/")}
            scores.append(score_from(Parts(config, own), functions=functions or {}, embedder=embedder))
        measured = about["measured"]
        made = cls(
            models=tuple(about["models"]),
            kind=about["kind"],
            scores=tuple(scores),
            thresholds=tuple(about["thresholds"]),
            rules=validate(Rules, about["rules"]),
            calibrations=tuple(None if one is None else Calibration.from_dict(one) for one in about["calibrations"]),
            measured=None if measured is None else validate(MeasuredRouting, measured),
            facts=about["facts"],
            seen=arrays["seen"],
            reference=None if about["reference"] is None else Reference.from_dict(about["reference"]),
            embedder=embedder,
        )
        if made.version != about["version"]:
            raise InputError(
                f"{place / FILE} was changed by hand: it decides otherwise than the router {about['version']} that was "
                "certified. Fit a router anew, with another goal"
            )
        return made


def _read(place: Path) -> dict[str, Any]:
    file = place / FILE
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no router in {place}: there is no {FILE}. distillcalc route fit writes one") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    version = about.get("schema_version") if isinstance(about, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{file} has schema version {version!r}, which this distillcalc cannot read (it reads {SCHEMA_VERSION})"
        )
    lacking = [
        name for name in ("version", "models", "kind", "scores", "thresholds", "arrays", "facts") if name not in about
    ]
    if lacking:
        raise InputError(f"{file} lacks {', '.join(lacking)}: it is not whole")
    found: dict[str, Any] = {"measured": None, "reference": None, "rules": {}, "calibrations": [], **about}
    return found


def _checked(file: Path, digest: str) -> bytes:
    if not file.is_file():
        raise InputError(f"{file} is missing: the router is not whole")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{file} is not the file that {FILE} was written with: copy the whole folder, or fit anew")
    return content


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(file)
