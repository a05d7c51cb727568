"""A recipe while it is carried out: its students trained one after the other, asked, and held against each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.distill.training.arms import Arm, arms_of, taught_before
from distillcalc.distill.training.evaluation import (
    Items,
    answers_in,
    answers_of,
    load_answers,
    save_answers,
    usd_per_1000_in,
)
from distillcalc.distill.training.examples import Examples, ids_of, make_examples
from distillcalc.distill.training.fit import Fitted, fit
from distillcalc.distill.training.four_way import Facts, FourWay, Measured, four_way
from distillcalc.distill.training.material import Material, gather
from distillcalc.distill.training.progress import Progress
from distillcalc.distill.training.recipe import Recipe
from distillcalc.distill.training.result import SCHEMA_VERSION, TrainRun
from distillcalc.distill.training.scores import Answers, Difference, paired_difference
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.distill.task import Task
    from distillcalc.distill.training.local_teacher import LocalTeacher
    from distillcalc.distill.training.students import Student

MUCH = 0.2  # of the probability, where it is told that stored soft labels leave so much out
FACTS = "facts.json"  # of a trained student
Report = Callable[[Progress], None]


def is_main_process() -> bool:
    """Whether this process is the one that writes, where there are several."""
    return process() == 0


def process() -> int:
    """The number of this process, where several train together."""
    from distillcalc.distill.training.devices import processes

    return int(processes().process_index)


@dataclass
class Work:
    """One run while it is carried out."""

    recipe: Recipe
    folder: Path
    report: Report | None
    catalog: Catalog
    notes: list[str] = field(default_factory=list)

    def carry_out(self) -> TrainRun:
        recipe = self.recipe
        task = recipe.asked
        teacher = self.load_teacher()
        material = self.alone_first(lambda: self.gather(task, teacher))
        if material.items is not None:  # what cannot be asked later is told now
            self.student_prompts(material.items)
            if recipe.data.evaluation_answers is not None:
                answers_in(recipe.data.evaluation_answers, material.items, task)
        arms = arms_of(recipe)
        self.rehearse(arms, material, teacher)
        trainings: dict[str, Fitted] = {}
        sizes: dict[str, Facts] = {}
        longest: dict[str, int] = {}
        for arm in arms:
            for seed in recipe.training.seeds:
                done, student_facts, most = self.trained(arm, seed, material, teacher)
                trainings[f"{arm.name}, seed {seed}"] = done
                sizes.setdefault(arm.name, student_facts)
                longest[arm.name] = most
        table, gains = None, {}
        # After all trainings: other processes would wait for this one in the middle of the next.
        if material.items is not None and self.is_main:
            answers = {
                arm.name: [
                    self.judged(trainings[f"{arm.name}, seed {seed}"].folder, arm, seed, material.items, task,
                                longest[arm.name])
                    for seed in recipe.training.seeds
                ]
                for arm in arms
            }  # fmt: skip
            records = (*material.train, *material.validation)
            written = (r.origin.output_tokens for r in records if r.origin.host == "localhost")
            said_most = max(8, *longest.values(), *written)
            teacher_row = self.teacher_answers(teacher, material.items, task, said_most)
            raw = self.raw_answers(arms[-1], teacher, material.items, task, longest[arms[-1].name])
            table = self.table(arms, answers, sizes, trainings, teacher, teacher_row, raw, material, task)
            gains = gains_of(arms, answers)
        return self.finish(arms, trainings, table, gains, material, [*material.notes, *self.notes])

    # who does what, where there are several processes

    @property
    def processes(self) -> int:
        """How many train together."""
        from distillcalc.distill.training.devices import processes

        return int(processes().num_processes)

    @property
    def is_main(self) -> bool:
        return is_main_process()

    def alone_first(self, work: Callable[[], Any]) -> Any:
        """What writes files is done by the main process first; the others find them done."""
        from distillcalc.distill.training.devices import processes

        with processes().main_process_first():
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

    def gather(self, task: Task, teacher: LocalTeacher | None) -> Material:
        return gather(self.recipe, task, folder=self.folder, teacher=teacher, catalog=self.catalog, report=self.tell)

    def rehearse(self, arms: Sequence[Arm], material: Material, teacher: LocalTeacher | None) -> None:
        """Raise what stands in the way of a later student before the first one is trained for hours."""
        from distillcalc.distill.training.local_teacher import quiet
        from distillcalc.distill.training.pairing import layer_pairs, pair
        from distillcalc.distill.training.students import start_student

        seed = self.recipe.training.seeds[0]
        to_come = [arm for arm in arms if Fitted.load(self.folder / arm.name / f"seed-{seed}") is None]
        if len(to_come) < 2:
            return
        own = None if teacher is None else (teacher.model, teacher.tokenizer)
        starts = list(dict.fromkeys(arm.start.model_dump_json() for arm in to_come if not arm.cut_from_taught))
        for start in starts:
            mine = [arm for arm in to_come if arm.start.model_dump_json() == start and not arm.cut_from_taught]
            with quiet():
                student = start_student(mine[0].start, own, seed=seed, catalog=self.catalog)
            for arm in mine:
                examples, wants = self.examples(student, material.train, arm), arm.objective
                if arm.taught_by or not wants.needs_teacher:
                    continue
                if own is None:
                    self.api_targets(student, examples, None, material)
                    continue
                pair(student, own, wants, ids_of(examples))
                if wants.features or wants.attention:
                    model = student.model
                    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
                    layer_pairs(plain, own[0], wants.feature_layers, student.kept_layers)

    def trained(
        self, arm: Arm, seed: int, material: Material, teacher: LocalTeacher | None
    ) -> tuple[Fitted, Facts, int]:
        """One student of one seed; its size; the tokens that an answer of it may take."""
        from distillcalc.distill.training.local_teacher import quiet
        from distillcalc.distill.training.pairing import size_notes
        from distillcalc.distill.training.students import load_model, start_student

        recipe = self.recipe
        place = self.folder / arm.name / f"seed-{seed}"
        done, kept = Fitted.load(place), place / FACTS
        if done is not None and kept.is_file():
            known = json.loads(kept.read_text(encoding="utf-8"))
            self.note(*known["notes"])
            return done, _facts_of(known["parameters"]), known["longest"]
        own = None if teacher is None else (teacher.model, teacher.tokenizer)
        by = own
        with quiet():
            if arm.taught_by:
                by = load_model(str(self.folder / arm.taught_by / f"seed-{seed}" / "student"))
            student = start_student(arm.start, by if arm.cut_from_taught else own, seed=seed, catalog=self.catalog)
        parameters = student.parameters
        examples = self.examples(student, material.train, arm)
        validation = self.validation(student, material, arm)
        notes = [f"{arm.title}: {count:,} sequences were left out: {why}" for why, count in examples.left_out.items()]
        notes += size_notes(student, teacher.model) if teacher is not None else ()
        longest = max(len(s.ids) - s.start for s in examples.sequences)
        wants = arm.objective
        stored = validation_stored = None
        if done is not None:
            pass
        elif wants.soft and by is None:
            stored, validation_stored = self.api_targets(student, examples, validation, material)
        elif (
            wants.soft and recipe.teacher is not None and recipe.teacher.top_k and not arm.taught_by and by is not None
        ):
            stored, validation_stored = self.cached(student, examples, validation, by, wants)
        if done is None:
            if by is not None and wants.needs_teacher and stored is None:
                by[0].to(_device())
            done = fit(
                student, examples, place, objective=wants, settings=recipe.training, seed=seed, validation=validation,
                teacher=by if wants.needs_teacher and stored is None else None, targets=stored,
                validation_targets=validation_stored, on_policy=arm.on_policy,
                report=None if self.report is None else self.telling(f"{arm.title}, seed {seed}"),
            )  # fmt: skip
        self.note(*notes)
        if self.is_main:
            part = place / f"{FACTS}.part"
            plain = {"schema_version": SCHEMA_VERSION, "parameters": parameters, "longest": longest, "notes": notes}
            part.write_text(json.dumps(plain) + "\n", encoding="utf-8")
            part.replace(kept)
        return done, _facts_of(parameters), longest

    def note(self, *sentences: str) -> None:
        """Keep what a person should know, once."""
        self.notes += [sentence for sentence in sentences if sentence not in self.notes]

    def telling(self, what: str) -> Report:
        told = self.report
        assert told is not None
        return lambda progress: told(replace(progress, what=what))

    def examples(self, student: Student, records: Sequence[Any], arm: Arm) -> Examples:
        data, most = self.recipe.data, self.recipe.training.max_length
        context = getattr(student.model.config.get_text_config(), "max_position_embeddings", None)
        return make_examples(
            records, student.tokenizer, system=data.system, prompt=data.prompt, chain=arm.chain,
            max_length=min(most, context) if context else most,
        )  # fmt: skip

    def validation(self, student: Student, material: Material, arm: Arm) -> Examples | None:
        """Examples of the validation records; None where there are none, or none that this student can learn from."""
        if not material.validation:
            return None
        try:
            return self.examples(student, material.validation, arm)
        except InputError as error:
            if self.recipe.training.patience is not None:
                raise
            self.note(f"{arm.title}: no validation loss, for of the validation records there is {error}")
            return None

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

        kept = of(examples, "train")
        if kept.rest > MUCH:
            self.note(
                f"of the teacher's probability at temperature {wants.temperature:g}, {kept.rest:.0%} is on tokens "
                f"beyond the {k} that are stored: leave top_k out, or lower the temperature"
            )
        return kept, None if validation is None else of(validation, "validation")

    def api_targets(
        self, student: Student, examples: Examples, validation: Examples | None, material: Material
    ) -> tuple[Any, Any]:
        from distillcalc.distill.training.soft_targets import from_records

        more = validation.sequences if validation is not None else ()
        both = Examples((*examples.sequences, *more))  # a few validation records say little of how many have some
        made = from_records(both, (*material.train, *material.validation), student.tokenizer)
        return made, None if validation is None else (lambda number: made(len(examples) + number))

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
            return answers_in(self.recipe.data.evaluation_answers, items, task)
        if teacher is None:
            return None
        kept = self.folder / "teacher-answers.json"
        found = load_answers(kept)
        if found is None:
            most = max(longest + longest // 4 + 4, self.recipe.objective.max_new_tokens)
            found = answers_of(
                teacher, items, items.prompts(), task, max_new_tokens=most, marked=True,
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
                start = arm.start.model_copy(update={"lora": None})  # adapters that have learnt nothing change nothing
                student = start_student(start, own, seed=self.recipe.training.seeds[0], catalog=self.catalog)
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
        price = self.recipe.costs.usd_per_hour
        if teacher_row is not None:
            facts = Facts()
            if self.recipe.data.evaluation_answers is not None and material.items is not None:
                paid = usd_per_1000_in(self.recipe.data.evaluation_answers, material.items)
                facts = Facts(usd_per_1000_items=paid)
            elif teacher is not None:
                facts = Facts(usd_per_1000_items=_usd_per_1000([teacher_row], price))
            if teacher is not None:
                held = list(teacher.model.parameters())
                size = {"parameters": sum(p.numel() for p in held),
                        "bytes": sum(p.numel() * p.element_size() for p in held)}  # fmt: skip
                facts = facts.model_copy(update=size)
            rows.append(Measured("teacher", teacher_row, "teacher", facts))
        if raw is not None:
            own_price = {"usd_per_1000_items": _usd_per_1000([raw], price)}
            rows.append(Measured("raw student", raw, "raw", sizes[arms[-1].name].model_copy(update=own_price)))
        for arm in arms:
            own = [f for name, f in trainings.items() if name.startswith(f"{arm.name}, ")]
            # What was trained only to teach it is part of what it took.
            needed = {arm.name, *taught_before(arm, arms)}
            seconds = sum(f.seconds for name, f in trainings.items() if name.rpartition(", ")[0] in needed)
            hours = seconds / len(own) / 3600
            facts = sizes[arm.name].model_copy(
                update={
                    "labels_usd": material.labels_usd, "training_hours": hours,
                    "training_usd": None if price is None else hours * price,
                    "training_on": _machine_of(own[0]),
                    "usd_per_1000_items": _usd_per_1000(answers[arm.name], price),
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
            "teachers": material.teachers, "labels_usd": material.labels_usd,
            "terms": {"verdict": material.verdict[0], "detail": material.verdict[1]},
        }  # fmt: skip
        where = f"trained on {_machine_of(kept)} in {kept.machine['precision']}: {kept.machine['why']}"
        run = TrainRun(self.folder, target, table, trainings, gains, about, (*notes, where))
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
    """How much better students are than the one on labels alone, and the last than those it is compared with.

    By accuracy, and where all have confidences by Brier score too: a soft label teaches how sure to be.
    """
    base = next((arm for arm in arms if arm.role == "label-only"), None)
    last = arms[-1]
    pairs = []
    for arm in arms:
        if base is not None and arm is not base:
            pairs.append((arm, base))
        if arm.role == "compared" and arm.start == last.start:
            pairs.append((last, arm))
    found = {}
    for a, b in pairs:
        found[f"{a.title} against {b.title}"] = paired_difference(answers[a.name], answers[b.name])
    for a, b in pairs:
        if all(run.confidence is not None for run in (*answers[a.name], *answers[b.name])):
            better = paired_difference(answers[a.name], answers[b.name], metric="brier")
            found[f"{a.title} against {b.title}, how sure"] = better
    return found


def _facts_of(parameters: int) -> Facts:
    """A size, in the precision in which students and teachers are served here."""
    return Facts(parameters=parameters, bytes=parameters * (2 if _device() == "cuda" else 4))


def _usd_per_1000(runs: Sequence[Answers], price: float | None) -> float | None:
    """What a thousand answers cost on a machine of a price an hour, asked one at a time [USD]."""
    seconds = [float(run.seconds_per_item.mean()) for run in runs if run.seconds_per_item is not None]
    return None if price is None or not seconds else 1000 * sum(seconds) / len(seconds) * price / 3600


def _machine_of(fitted: Fitted) -> str:
    machine = fitted.machine
    return f"{machine['count']} x {machine['name']}" if machine["device"] == "cuda" else "CPU"


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
