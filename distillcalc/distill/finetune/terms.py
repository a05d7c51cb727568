"""Whether the terms of the teacher that wrote a training file allow this fine-tune."""

from __future__ import annotations

from collections.abc import Sequence

from distillcalc.catalog import Catalog
from distillcalc.distill.finetune.forecast import Notice
from distillcalc.distill.finetune.spec import FineTuneSpec
from distillcalc.estimate.gates import judge_terms


def terms_notices(spec: FineTuneSpec, catalog: Catalog) -> Sequence[Notice]:
    """What the teacher's terms say of the fine-tune: prohibited and unclear ones keep it from being made.

    Unclear ones do not where ``accept_unclear_terms`` says that a person has read them. Without a teacher nothing is
    checked, which is told.
    """
    if spec.teacher is None:
        return [Notice("warn", "the spec does not say who wrote the answers (teacher): their terms are not checked")]
    judged = judge_terms(catalog, spec.teacher, spec.use, None if spec.self_hosted else spec.provider)
    words = f"terms of {spec.teacher}: {judged.detail}"
    if judged.verdict == "pass":
        return [Notice("note", words, judged.source)]
    if judged.verdict == "fail":
        return [Notice("refuse", words, judged.source)]
    if spec.accept_unclear_terms:
        return [Notice("warn", f"{words} (accepted: accept_unclear_terms)", judged.source)]
    told = "Read them; if they allow it, set accept_unclear_terms = true"
    return [Notice("refuse", f"{words} {told}", judged.source)]
