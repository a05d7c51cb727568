"""Whether a teacher's terms let a student be trained on its answers, before anything is paid for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distillcalc.catalog.schema import Verdict
from distillcalc.errors import InputError
from distillcalc.estimate.gates import judge_terms

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.distill.task import Task
    from distillcalc.workload.scenario import Use


class TermsProhibited(InputError):
    """The terms that apply forbid what is planned."""


class TermsUnclear(InputError):
    """The terms that apply do not say: a person must decide."""


@dataclass(frozen=True)
class TermsVerdict:
    """What the terms say of one use of a teacher's answers.

    Parameters
    ----------
    verdict : pass, fail or unknown; of several terms the strictest.
    detail : in a sentence, with what is required.
    source : where it was read, and when.
    applying : every row of terms that applies, plain values; a dataset carries them.
    """

    verdict: Verdict
    detail: str
    source: str
    applying: tuple[dict[str, Any], ...]

    def require(self, *, accept_unclear: bool = False) -> None:
        """Refuse to go on where it is prohibited, or unclear and nobody has accepted that.

        Raises
        ------
        TermsProhibited, TermsUnclear
        """
        if self.verdict == "fail":
            raise TermsProhibited(f"the teacher's terms prohibit it: {self.detail} ({self.source})")
        if self.verdict == "unknown" and not accept_unclear:
            raise TermsUnclear(
                f"the teacher's terms are unclear: {self.detail}{f' ({self.source})' if self.source else ''}. Read "
                "them; if they allow it, say so: accept_unclear_terms=True, or --accept-unclear-terms"
            )


def check_terms(catalog: Catalog, teacher: str, task: Task) -> TermsVerdict:
    """What the catalog's terms say of training the task's student on a teacher's answers.

    Parameters
    ----------
    teacher : provider/model, or a catalog id.
    task : names the student, where it stays (``student_host``) and what it will be used for (``use``).
    """
    return judge_teacher(catalog, teacher, task.use, task.student_host)


def judge_teacher(catalog: Catalog, teacher: str, use: Use, student_host: str | None = None) -> TermsVerdict:
    """What the catalog's terms say of one use of a teacher's answers.

    Parameters
    ----------
    teacher : provider/model, or a catalog id.
    use : what the student will be used for.
    student_host : provider that trains and serves it, where that is a service.
    """
    judged = judge_terms(catalog, teacher, use, student_host)
    applying = tuple(
        {
            "id": name,
            "provider": row.provider,
            "case": case,
            "verdict": verdict,
            "says": row.says,
            "requirements": row.requirements,
            "source": row.source,
            "checked": row.checked.isoformat(),
        }
        for name, row, case, verdict in judged.rows
    )
    return TermsVerdict(judged.verdict, judged.detail, judged.source, applying)
