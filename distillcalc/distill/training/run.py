"""Train what a recipe asks for, judge all of it on the same items, and write down what came of it.

A run lives in ``runs/<name>/``: a folder for each student and seed (checkpoints, then the student and its answers),
``four_way.json``, ``run.json`` and ``student/``, the one that the recipe is about, with its card. Killed at any point,
the same recipe goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.distill.training.arms import Arm, arms_of
from distillcalc.distill.training.evaluation import Items, answers_in, answers_of, load_answers, save_answers
from distillcalc.distill.training.examples import Examples, make_examples
from distillcalc.distill.training.fit import Fitted, fit
from distillcalc.distill.training.four_way import Facts, FourWay, Measured, four_way
from distillcalc.distill.training.material import Material, gather
from distillcalc.distill.training.progress import Progress
from distillcalc.distill.training.recipe import Recipe
from distillcalc.distill.training.scores import Answers, Difference, paired_difference
from distillcalc.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.distill.task import Task
    from distillcalc.distill.training.local_teacher import LocalTeacher
    from distillcalc.distill.training.students import Student

SCHEMA_VERSION = 1
RUNS = Path("runs")
Report = Callable[[Progress], None]


@dataclass(frozen=True)
class TrainRun:
    """What a recipe brought.

    Parameters
    ----------
    folder : of the run. student : of the student that the recipe is about, first seed.
    table : teacher, raw student, label-only student, distilled student; None without evaluation items.
    trainings : by student and seed.
    gains : how much better students are than those they are held against, by "a against b".
    material : in numbers: records, what was left out, terms.
    notes : what a person should know.
    """

    folder: Path
    student: Path
    table: FourWay | None
    trainings: dict[str, Fitted]
    gains: dict[str, Difference]
    material: dict[str, Any]
    notes: tuple[str, ...]

    def __rich__(self) -> Any:
        """The table, and the sentences below it."""
        from rich.console import Group
        from rich.text import Text

        below = [Text(f"{name}: {gain}") for name, gain in self.gains.items()] + [Text(note) for note in self.notes]
        return Group(*([self.table] if self.table is not None else [Text("no evaluation items, so no table")]), *below)

    def __str__(self) -> str:
        lines = [str(self.table)] if self.table is not None else ["no evaluation items, so no table"]
        lines += [f"{name}: {gain}" for name, gain in self.gains.items()]
        lines += self.notes
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "student": str(self.student),
            "table": self.table.to_dict() if self.table is not None else None,
            "trainings": {
                name: {"steps": f.steps, "tokens": f.tokens, "seconds": f.seconds, "tokens_per_s": f.tokens_per_s,
                       "loss": f.losses[-1]["loss"] if f.losses else None, "best_step": f.best_step}
                for name, f in self.trainings.items()
            },
            "gains": {name: gain.to_dict() for name, gain in self.gains.items()},
            "material": self.material,
            "notes": list(self.notes),
        }  # fmt: skip


def train(
    recipe: Recipe | str | Path,
    *,
    runs: str | Path = RUNS,
    report: Report | None = None,
    catalog: Catalog | None = None,
) -> TrainRun:
    """Train the students of a recipe and compare them.

    Parameters
    ----------
    recipe : or its file.
    runs : folder of run folders.
    report : told how far it is.
    catalog : for terms, sizes and prices; left out, the shipped one.

    Returns
    -------
    TrainRun

    Raises
    ------
    InputError
        If what is asked for does not go together, or a run of that name has another recipe.
    TrainingDiverged, OutOfMemory
        See :func:`.fit.fit`; what was trained before is kept.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("torch", "distill") from error

    from distillcalc.catalog import Catalog

    asked = Recipe.load(recipe) if isinstance(recipe, (str, Path)) else recipe
    folder = Path(runs) / asked.name.replace(" ", "-")
    _claim(folder, asked)
    work = Work(asked, folder, report, catalog or Catalog.load())
    if asked.technique == "classifier":
        from distillcalc.distill.training.classifying import classifier_run

        return classifier_run(work)
    return work.carry_out()


def _claim(folder: Path, recipe: Recipe) -> None:
    """One folder, one recipe: what another one trained is never taken for this one's."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = recipe.model_dump(mode="json", exclude={"costs", "accept_unclear_terms"})
    mark = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    file = folder / "recipe.json"
    if file.is_file():
        if json.loads(file.read_text(encoding="utf-8")).get("fingerprint") != mark:
            raise InputError(
                f"{folder} holds a run of another recipe. Give this one another name, or delete that folder"
            )
        return
    part = file.with_name(f"recipe.{_process()}.part")
    part.write_text(json.dumps({"fingerprint": mark, "recipe": plain}, indent=1) + "\n", encoding="utf-8")
    part.replace(file)


def is_main_process() -> bool:
    """Whether this process is the one that writes, where there are several."""
    return _process() == 0


def _process() -> int:
    from accelerate import PartialState

    return int(PartialState().process_index)


@dataclass
class Work:
    """One run while it is carried out."""

    recipe: Recipe
    folder: Path
    report: Report | None
    catalog: Catalog

    def carry_out(self) -> TrainRun:
        recipe = self.recipe
        task = recipe.asked
        teacher = self.load_teacher()
        material = self.alone_first(lambda: self.gather(task, teacher))
        arms = arms_of(recipe)
        trainings: dict[str, Fitted] = {}
        answers: dict[str, list[Answers]] = {}
        sizes: dict[str, Facts] = {}
        notes = list(material.notes)
        said_most = 8
        for arm in arms:
            for seed in recipe.training.seeds:
                done, student_facts, longest = self.trained(arm, seed, material, teacher)
                said_most = max(said_most, longest)
                trainings[f"{arm.name}, seed {seed}"] = done
                sizes.setdefault(arm.name, student_facts)
                if material.items is not None and self.is_main:
                    answers.setdefault(arm.name, []).append(
                        self.judged(done.folder, arm, seed, material.items, task, longest)
                    )
        table, gains = None, {}
        if material.items is not None and self.is_main:
            teacher_row = self.teacher_answers(teacher, material.items, task, said_most)
            raw = self.raw_answers(arms[-1], teacher, material.items, task, said_most)
            table = self.table(arms, answers, sizes, trainings, teacher, teacher_row, raw, material, task)
            gains = gains_of(arms, answers)
        return self.finish(arms, trainings, table, gains, material, notes)

    # who does what, where there are several processes

    @property
    def processes(self) -> int:
        """How many train together."""
        from accelerate import PartialState

        return int(PartialState().num_processes)

    @property
    def is_main(self) -> bool:
        return is_main_process()

    def alone_first(self, work: Callable[[], Any]) -> Any:
        """What writes files is done by the main process first; the others find them done."""
        from accelerate import PartialState

        with PartialState().main_process_first():
            return work()

    def tell(self, what: str, done: int, total: int) -> None:
        if self.report is not None and self.is_main:
            self.report(Progress(done, total, None, float("nan"), float("nan"), what))

    # the parts

    def load_teacher(self) -> LocalTeacher | None:
        from distillcalc.distill.training.local_teacher import LocalTeacher

        asked = self.recipe.teacher
        if asked is None:
            return None
        return LocalTeacher.load(asked.model, asked.adapter, name=asked.name)

    def gather(self, task: Task, teacher: LocalTeacher | None, soft: bool = False) -> Material:
        return gather(
            self.recipe, task, folder=self.folder, teacher=teacher, catalog=self.catalog, soft=soft, report=self.tell
        )

    def trained(
        self, arm: Arm, seed: int, material: Material, teacher: LocalTeacher | None
    ) -> tuple[Fitted, Facts, int]:
        """One student of one seed; its size; the tokens that an answer of it may take."""
        from distillcalc.distill.training.local_teacher import quiet
        from distillcalc.distill.training.students import load_model, start_student

        recipe = self.recipe
        place = self.folder / arm.name / f"seed-{seed}"
        own = None if teacher is None else (teacher.model, teacher.tokenizer)
        by = own
        if arm.taught_by:
            with quiet():
                by = load_model(str(self.folder / arm.taught_by / f"seed-{seed}" / "student"))
        done = Fitted.load(place)
        with quiet():
            student = start_student(arm.start, by if arm.cut_from_taught else own, seed=seed, catalog=self.catalog)
        facts = Facts(
            parameters=student.parameters,
            bytes=sum(p.numel() * p.element_size() for p in student.model.parameters()),
        )
        examples = self.examples(student, material.train, arm)
        longest = max(len(s.ids) - s.start for s in examples.sequences)
        if done is not None:
            return done, facts, longest
        validation = self.examples(student, material.validation, arm) if material.validation else None
        wants = arm.objective
        stored = validation_stored = None
        if wants.soft and by is None:
            stored, validation_stored = self.api_targets(student, examples, validation, material)
        elif (
            wants.soft and recipe.teacher is not None and recipe.teacher.top_k and not arm.taught_by and by is not None
        ):
            stored, validation_stored = self.cached(student, examples, validation, by, wants)
        device = _device()
        if by is not None and wants.needs_teacher and stored is None:
            by[0].to(device)
        done = fit(
            student, examples, place, objective=wants, settings=recipe.training, seed=seed, validation=validation,
            teacher=by if wants.needs_teacher and stored is None else None, targets=stored,
            validation_targets=validation_stored, on_policy=arm.on_policy,
            report=None if self.report is None else self.telling(f"{arm.title}, seed {seed}"),
        )  # fmt: skip
        return done, facts, longest

    def telling(self, what: str) -> Report:
        told = self.report
        assert told is not None
        return lambda progress: told(replace(progress, what=what))

    def examples(self, student: Student, records: Sequence[Any], arm: Arm) -> Examples:
        data = self.recipe.data
        return make_examples(
            records, student.tokenizer, system=data.system, prompt=data.prompt, chain=arm.chain,
            max_length=self.recipe.training.max_length,
        )  # fmt: skip

    def cached(
        self, student: Student, examples: Examples, validation: Examples | None, teacher: tuple[Any, Any], wants: Any
    ) -> tuple[Any, Any]:
        from distillcalc.distill.training.soft_targets import stored

        assert self.recipe.teacher is not None
        assert self.recipe.teacher.top_k is not None
        k = self.recipe.teacher.top_k

        def of(part: Examples, name: str) -> Any:
            return self.alone_first(
                lambda: stored(
                    part, student, teacher, self.folder / "soft-labels" / f"{name}-{part.fingerprint()[:12]}",
                    objective=wants, k=k,
                    report=lambda done, total: self.tell("the teacher's soft labels", done, total),
                )
            )  # fmt: skip

        return of(examples, "train"), None if validation is None else of(validation, "validation")

    def api_targets(
        self, student: Student, examples: Examples, validation: Examples | None, material: Material
    ) -> tuple[Any, Any]:
        from distillcalc.distill.training.soft_targets import from_records

        made = from_records(examples, material.train, student.tokenizer)
        return made, None if validation is None else from_records(validation, material.validation, student.tokenizer)

    def judged(self, model: Path, arm: Arm, seed: int, items: Items, task: Task, longest: int) -> Answers:
        """What a trained student says of the items; kept beside it."""
        from distillcalc.distill.training.local_teacher import LocalTeacher

        kept = model.parent / "answers.json"
        found = load_answers(kept)
        if found is None:
            student = LocalTeacher.load(model, name=arm.name)
            found = answers_of(
                student, items, self.student_prompts(items), task, max_new_tokens=longest + longest // 4 + 4, seed=seed,
                progress=lambda done, total: self.tell(f"{arm.title}, seed {seed} answers", done, total),
            )  # fmt: skip
            save_answers(found, kept)
        return found

    def student_prompts(self, items: Items) -> list[list[dict[str, str]]]:
        return items.prompts(self.recipe.data.system, self.recipe.data.prompt)

    def teacher_answers(self, teacher: LocalTeacher | None, items: Items, task: Task, longest: int) -> Answers | None:
        if self.recipe.data.evaluation_answers is not None:
            return answers_in(self.recipe.data.evaluation_answers, items)
        if teacher is None:
            return None
        kept = self.folder / "teacher-answers.json"
        found = load_answers(kept)
        if found is None:
            most = max(longest + longest // 4 + 4, self.recipe.objective.max_new_tokens)
            found = answers_of(
                teacher, items, items.prompts(), task, max_new_tokens=most,
                progress=lambda done, total: self.tell("the teacher answers", done, total),
            )  # fmt: skip
            save_answers(found, kept)
        return found

    def raw_answers(self, arm: Arm, teacher: LocalTeacher | None, items: Items, task: Task, longest: int) -> Answers:
        """The student before it learnt anything."""
        from distillcalc.distill.training.local_teacher import LocalTeacher, quiet
        from distillcalc.distill.training.students import start_student

        kept = self.folder / "raw-answers.json"
        found = load_answers(kept)
        if found is None:
            own = None if teacher is None else (teacher.model, teacher.tokenizer)
            with quiet():
                student = start_student(arm.start, own, seed=self.recipe.training.seeds[0], catalog=self.catalog)
            student.model.config.use_cache = True
            raw = LocalTeacher(student.model.to(_device()), student.tokenizer, "raw student")
            found = answers_of(
                raw, items, self.student_prompts(items), task, max_new_tokens=longest + longest // 4 + 4,
                progress=lambda done, total: self.tell("the raw student answers", done, total),
            )  # fmt: skip
            save_answers(found, kept)
        return found

    def table(
        self, arms: Sequence[Arm], answers: dict[str, list[Answers]], sizes: dict[str, Facts],
        trainings: dict[str, Fitted], teacher: LocalTeacher | None, teacher_row: Answers | None, raw: Answers | None,
        material: Material, task: Task,
    ) -> FourWay:  # fmt: skip
        rows: list[Measured] = []
        if teacher_row is not None:
            facts = Facts()
            if teacher is not None:
                held = list(teacher.model.parameters())
                facts = Facts(
                    parameters=sum(p.numel() for p in held), bytes=sum(p.numel() * p.element_size() for p in held)
                )
            rows.append(Measured("teacher", teacher_row, "teacher", facts))
        if raw is not None:
            rows.append(Measured("raw student", raw, "raw", sizes[arms[-1].name]))
        for arm in arms:
            own = [f for name, f in trainings.items() if name.startswith(f"{arm.name}, ")]
            hours = sum(f.seconds for f in own) / len(own) / 3600
            price = self.recipe.costs.usd_per_hour
            facts = sizes[arm.name].model_copy(
                update={
                    "labels_usd": material.labels_usd, "training_hours": hours,
                    "training_usd": None if price is None else hours * price,
                    "training_on": own[0].machine["device"].upper(),
                }
            )  # fmt: skip
            role: Any = "other" if arm.role == "compared" else arm.role
            rows.append(Measured(arm.title, answers[arm.name], role, facts))
        labels = material.items.labels if material.items is not None and task.labels is not None else None
        return four_way(rows, labels=labels, task=task.name)

    def finish(
        self, arms: Sequence[Arm], trainings: dict[str, Fitted], table: FourWay | None, gains: dict[str, Difference],
        material: Material, notes: Sequence[str],
    ) -> TrainRun:  # fmt: skip
        best = next(arm for arm in reversed(arms) if arm.role == "distilled")
        kept = trainings[f"{best.name}, seed {self.recipe.training.seeds[0]}"]
        target = self.folder / "student"
        about = {
            "train": len(material.train), "validation": len(material.validation),
            "evaluation": len(material.items) if material.items is not None else 0, "left_out": material.left_out,
            "teachers": material.teachers, "terms": {"verdict": material.verdict[0], "detail": material.verdict[1]},
        }  # fmt: skip
        run = TrainRun(self.folder, target, table, trainings, gains, about, tuple(notes))
        if self.is_main:
            part = self.folder / "student.part"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(kept.folder, part)
            from distillcalc.distill.training.carding import write_card

            write_card(part, self.recipe, run, kept, material)
            shutil.rmtree(target, ignore_errors=True)
            part.replace(target)
            if table is not None:
                table.save(self.folder / "four_way.json")
            plain = run.to_dict() | {"at": datetime.now(UTC).isoformat(timespec="seconds")}
            (self.folder / "run.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
        return run


def gains_of(arms: Sequence[Arm], answers: dict[str, list[Answers]]) -> dict[str, Difference]:
    """How much better students are than the one on labels alone, and the last than those it is compared with."""
    found = {}
    base = next((arm for arm in arms if arm.role == "label-only"), None)
    last = arms[-1]
    for arm in arms:
        if base is not None and arm is not base:
            found[f"{arm.title} against {base.title}"] = paired_difference(answers[arm.name], answers[base.name])
        if arm.role == "compared" and arm.start == last.start:
            found[f"{last.title} against {arm.title}"] = paired_difference(answers[last.name], answers[arm.name])
    return found


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
