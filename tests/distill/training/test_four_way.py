"""The table says what the numbers say, in every view, and no text of others becomes markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import distillcalc.distill.training.scores as scores
from distillcalc.distill.training.four_way import WIDTH, Facts, FourWay, Measured, four_way
from distillcalc.distill.training.four_way_figure import four_way_figure, reliability_figure
from distillcalc.distill.training.scores import Answers
from distillcalc.errors import InputError

LABELS = ["a", "b"] * 50


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "DRAWS", 500)


def answers(
    right: int, seed: int | None = None, *, start: int = 0, sure: bool = True, s: float | None = 0.1
) -> Answers:
    """100 answers, of which so many are right: those from ``start`` on."""
    outcome = np.zeros(100)
    outcome[start : start + right] = 1
    said = tuple(label if hit else "ab".replace(label, "") for label, hit in zip(LABELS, outcome, strict=True))
    confidence = np.full(100, 0.8) if sure else None
    return Answers(said, outcome, confidence, None if s is None else np.array([s]), seed)


BIG = Facts(parameters=1_000_000_000, bytes=2_000_000_000, usd_per_1000_items=2.5, note="It is asked over the wire.")
SMALL = Facts(
    parameters=50_000_000, bytes=200_000_000, training_hours=0.2, training_on="CPU", training_usd=0.02, labels_usd=1.5
)


def measured(distilled: int = 88, label_only: int = 70) -> list[Measured]:
    return [
        Measured("teacher", answers(92, s=0.5), facts=BIG),
        Measured("raw student", answers(40), facts=SMALL),
        Measured("label-only student", [answers(label_only + s, s) for s in range(3)], facts=SMALL),
        Measured("distilled student", [answers(distilled + s, s) for s in range(3)], facts=SMALL),
    ]


def table(**more: Any) -> FourWay:
    return four_way(measured(**more), labels=LABELS, task="moods")


def views(made: FourWay) -> dict[str, str]:
    text = StringIO()
    Console(file=text, width=200, color_system=None).print(made)
    return {"text": str(made), "rich": text.getvalue(), "html": made._repr_html_(), "markdown": made.to_markdown()}


def test_rows_hold_scores_and_facts() -> None:
    made = table()
    assert [entry.role for entry in made.entries] == ["teacher", "raw", "label-only", "distilled"]
    distilled = made.entry("distilled")
    assert distilled is not None
    assert distilled.score.accuracy == pytest.approx(0.89)  # 88, 89 and 90 of 100
    assert distilled.score.retention == pytest.approx(0.89 / 0.92)
    assert distilled.score.agreement == pytest.approx(0.97)  # it is wrong on 2, 3 or 4 more than the teacher
    assert distilled.score.ece == pytest.approx(0.09)  # as sure as .8, right on .88, .89 and .90
    assert distilled.facts.latency_ms_per_item == pytest.approx(100)
    teacher = made.entry("teacher")
    assert teacher is not None
    assert teacher.score.retention is None


def test_a_student_that_gains_is_said_to() -> None:
    gained, kept = table().sentences
    # each seed answers 18 items more: D is .18 for every one
    assert gained.startswith(
        "The distilled student is better than the label-only student: +18.0 points, 95% interval +"
    )
    assert gained.endswith("(3 seeds, 100 items).")
    assert kept.startswith("The distilled student keeps 96.7% of the teacher's accuracy (95% interval ")
    assert kept.endswith("%), at 5% of its parameters and 20% of its time per item.")


def test_no_difference_is_said_to_be_none() -> None:
    none = table(distilled=71).sentences[0]
    pattern = (
        r"No difference between the distilled student and the label-only student can be told: \+1\.0 points, "
        r"95% interval -\d\.\d to \+\d\.\d \(3 seeds, 100 items\)\."
    )
    assert re.fullmatch(pattern, none)


def test_a_student_that_loses_is_said_to_and_so_is_one_that_training_did_nothing_for() -> None:
    worse, nothing, _ = table(distilled=40).sentences
    assert worse.startswith("The distilled student is worse than the label-only student: -30.0 points")
    assert nothing.startswith("No difference between the distilled student and the raw student can be told: +1.0")


def test_one_seed_is_said_to_be_one() -> None:
    rows = measured()
    single = [Measured(row.name, row.runs[0], facts=row.facts) for row in rows]
    assert "(1 seed, 100 items). One seed each: others may turn out otherwise." in four_way(single).sentences[0]


def test_what_is_not_there_is_said_to_be_missing() -> None:
    alone = four_way(measured()[3:])
    assert alone.sentences == (
        "No student of labels alone is here, so what the distilled student gained is not known.",
        "There is no teacher here, so what the distilled student keeps of it is not known.",
    )
    teacher, *_, student = measured()
    unsized = four_way([Measured("teacher", answers(92, s=None)), student])
    assert unsized.sentences[1].endswith("%); their sizes and their times per item were not both measured.")
    hopeless = four_way([Measured("teacher", answers(0)), student])
    assert hopeless.sentences[1] == "The teacher is right about none of these items, so there is nothing to keep."
    assert teacher.facts.parameters is not None


def test_unknown_cells_are_dashes_and_known_zeros_are_zeros() -> None:
    rows = [
        Measured("teacher", answers(92, sure=False, s=None)),
        Measured("raw student", answers(40, sure=False, s=None), facts=Facts(training_usd=0, labels_usd=0)),
    ]
    text = str(four_way(rows))
    below = {line.split("  ")[0].strip(): line for line in text.splitlines()[8:]}
    assert below["teacher"].split() == ["teacher", "-", "-", "-", "-", "-"]
    assert below["raw student"].split() == ["raw", "student", "-", "-", "$0.00", "$0.00", "-"]
    assert "-: not measured, or not known" in text
    assert "-: not measured" not in str(four_way([Measured("x", answers(50), facts=BIG)]))


def test_a_teacher_keeps_all_of_itself_and_that_fills_no_column() -> None:
    lines = str(table()).splitlines()
    first = next(line for line in lines if line.strip().startswith("teacher"))
    assert first.split()[1:6] == ["92.0%", "(85.0–95.9)", "100%", "100%", "0.920"]
    alone = str(four_way([Measured("teacher", answers(92))]))
    assert "retention" not in alone
    # One that is right about nothing keeps no share of it, but agrees with itself.
    useless = str(four_way([Measured("teacher", answers(0)), Measured("x", answers(50), role="distilled")]))
    first = next(line for line in useless.splitlines() if line.strip().startswith("teacher"))
    assert "100%" in first


def test_every_view_shows_the_same() -> None:
    made = table()
    for name, shown in views(made).items():
        unescaped = shown.replace("\\", "").replace("&#x27;", "'").replace("\n", " ")
        for words in (
            "moods: accuracy on 100 human-labelled items",
            "92.0% (85.0–95.9)",  # Wilson: 92 of 100
            "50 M",
            "200 MB",
            "500 ms",
            "$2.50",
            "$0.02, 12 min CPU",
            "retention (95%)",
            *made.sentences,
            "teacher: It is asked over the wire.",
        ):
            assert words in unescaped, (name, words)


@pytest.mark.parametrize("width", [40, 60, 80, 110, 160])
def test_a_narrow_terminal_gets_fewer_columns_and_no_broken_ones(width: int) -> None:
    text = StringIO()
    Console(file=text, width=width, color_system=None).print(table())
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("92.0% (85.0–95.9)" in line for line in lines) == 1
    assert sum("500 ms" in line for line in lines) == 1


def test_plain_text_is_never_wider_than_it_says() -> None:
    wide = [
        Measured(
            f"a student with quite a long name, number {i}",
            [answers(80 - i, s) for s in range(3)],
            role="distilled",
            facts=Facts(
                parameters=123_456_789_012, bytes=246_913_578_024, tokens_per_s=12_345.6, training_hours=1234.5,
                training_on="8 x H100 of a cloud", training_usd=12_345, labels_usd=123_456, usd_per_1000_items=0.00123,
            ),
        )
        for i in range(3)
    ]  # fmt: skip
    text = str(four_way([*measured(), *wide], labels=LABELS))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "123 G" in text
    assert "1,234.5 h" in text


def test_other_techniques_are_compared_too() -> None:
    made = four_way([*measured(), Measured("feature-based", [answers(80 + s, s) for s in range(3)])])
    found = made.comparison("feature-based", "label-only student")
    assert found is not None
    assert found.mean == pytest.approx(0.1)
    assert made.comparison("feature-based", "nobody") is None
    assert made.comparison("distilled student", "teacher") is not None


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    made = table()
    file = made.save(tmp_path / "table.json")
    assert FourWay.load(file) == made
    plain = json.loads(file.read_text())
    assert plain == made.to_dict()
    assert plain["schema_version"] == 1
    assert str(FourWay.load(file)) == str(made)


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    with pytest.raises(InputError, match="cannot read the table"):
        FourWay.load(file)
    file.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        FourWay.load(file)
    file.write_text('{"schema_version": 2}')
    with pytest.raises(InputError, match="has schema_version 2; this distillcalc reads 1"):
        FourWay.load(file)
    file.write_text('{"schema_version": 1, "entries": []}')
    with pytest.raises(InputError, match=r"is no four-way table\. entries"):
        FourWay.load(file)
    with pytest.raises(InputError, match="cannot write the table"):
        table().save(tmp_path / "none" / "table.json")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no models to compare"),
        ([Measured("x", answers(1)), Measured("x", answers(2))], "two models called 'x'"),
        ([Measured("x", answers(1), "teacher"), Measured("teacher", answers(2))], "two models with the role 'teacher'"),
        ([Measured("teacher", [answers(1)] * 2)], "a teacher has one list of answers. Got 2"),
        ([Measured("x", answers(1)), Measured("y", Answers(("a",), np.ones(1)))], "answer the same items.*x 100, y 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(rows: list[Measured], message: str) -> None:
    with pytest.raises(InputError, match=message):
        four_way(rows)


HOSTILE = "<script>alert(1)</script> | [bold red]x[/] **b** [a](javascript:b)\n\x1b[31m\u202e$x$ `c`"


def test_names_of_others_do_not_become_markup() -> None:
    rows = [Measured(HOSTILE, answers(50), facts=Facts(note=HOSTILE, training_on=HOSTILE, training_hours=1))]
    made = four_way(rows, task=HOSTILE, metric="m<b>")
    shown = views(made)
    assert "<script" not in shown["html"]
    assert "<b>&lt;script" in shown["html"]
    assert "[bold red]x[/]" in shown["rich"]
    for name in ("text", "rich"):
        assert not re.search("[\x1b\u202e]", shown[name])
    assert "<script" not in shown["markdown"]
    assert "[a](" not in shown["markdown"]
    assert "**b**" not in shown["markdown"]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.add(tag)


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1), st.text())
def test_any_name_leaves_the_tables_whole(name: str, note: str) -> None:
    made = four_way([Measured(name, answers(50), "distilled", Facts(note=note))], task=note)
    tags = Tags()
    tags.feed(made._repr_html_())
    assert tags.names == {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    rows = [line for line in made.to_markdown().splitlines() if line.startswith("| ")]
    assert len({line.replace("\\\\", "").replace("\\|", "").count("|") for line in rows[:3]}) == 1
    assert max(map(len, str(made).splitlines())) <= WIDTH


class TestFigures:
    def texts(self, figure: Any) -> list[str]:
        figure.canvas.draw()
        return [text.get_text() for ax in figure.axes for text in ax.texts]

    def test_models_stand_over_their_time(self) -> None:
        figure = four_way_figure(table())
        ax = figure.axes[0]
        assert ax.get_xlabel() == "median time per item"
        assert ax.get_ylabel() == "accuracy [% of items], 95% interval"
        assert {"teacher  92.0%", "distilled student  89.0%"} <= set(self.texts(figure))
        middles = [container.lines[0].get_xydata()[0].tolist() for container in ax.containers]
        assert [500, 92] in [[round(x), round(y)] for x, y in middles]
        low, high = ax.get_ylim()
        assert low < 31  # Wilson: 40 of 100 is .309 to .498
        assert high > 95.9

    def test_over_their_parameters_where_time_is_unknown_and_who_has_none_is_named(self) -> None:
        rows = [
            Measured("teacher", answers(92, s=None)),
            Measured("big $", answers(80, s=None), facts=BIG),
            Measured("small", answers(70, s=None), facts=SMALL),
        ]
        figure = four_way_figure(four_way(rows))
        ax = figure.axes[0]
        assert ax.get_xlabel() == "parameters\nnot measured: teacher"
        assert ax.get_xscale() == "log"  # 20 times
        assert r"big \$  80.0%" in self.texts(figure)

    def test_without_either_they_stand_in_their_order(self) -> None:
        figure = four_way_figure(four_way([Measured(name, answers(50, s=None)) for name in "ab"]))
        assert figure.axes[0].get_xlabel().startswith("neither time nor size was measured")
        assert self.texts(figure) == ["a  50.0%", "b  50.0%"]

    def test_a_name_is_whole_where_there_is_room_and_goes_on_in_a_second_line_where_there_is_not(self) -> None:
        long = "a student of somebody's own with quite a long name"
        rows = [
            Measured("teacher", answers(92, s=0.5)),
            Measured(long, answers(70, s=0.01), "distilled"),
            Measured(f"{long} at the right edge", answers(40, s=0.5), "other"),
        ]
        figure = four_way_figure(four_way(rows))
        texts = self.texts(figure)
        assert f"{long}  70.0%" in texts  # at the left of the picture
        two = next(text for text in texts if text.endswith("40.0%"))
        assert two == "a student of somebody's own\nwith quite a long name at…  40.0%"
        edge = figure.bbox.x1
        assert all(text.get_window_extent().x1 <= edge for text in figure.axes[0].texts)

    def test_points_on_each_other_are_drawn_apart_and_their_names_too(self) -> None:
        rows = [Measured(f"student {i}", answers(70), "distilled", SMALL) for i in range(4)]
        figure = four_way_figure(four_way(rows))
        figure.canvas.draw()
        ax = figure.axes[0]
        centres = {
            tuple(np.round(container.lines[0].get_transform().transform(container.lines[0].get_xydata()[0]), 3))
            for container in ax.containers
        }
        assert len(centres) == 4
        boxes = [text.get_window_extent() for text in ax.texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        colours = {container.lines[0].get_color() for container in ax.containers}
        assert len(colours) == 4

    def test_they_are_drawn_on_the_axes_that_are_given(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure()
        left, right = figure.subplots(1, 2)
        assert four_way_figure(table(), left) is figure
        assert reliability_figure(answers(80), right) is figure

    def test_a_reliability_diagram_tells_the_error_and_the_answers(self) -> None:
        figure = reliability_figure([answers(70, 0), answers(90, 1)])
        # sure by .8: off by .1 with either seed, right on average
        words = "ECE 0.100, the mean gap to the line\n200 answers; larger dots hold more of them"
        assert words in self.texts(figure)
        with pytest.raises(InputError, match="needs the model's confidence"):
            reliability_figure(answers(70, sure=False))
        with pytest.raises(InputError, match="needs the model's confidence"):
            reliability_figure([])
