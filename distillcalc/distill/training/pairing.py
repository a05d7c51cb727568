"""Student and teacher held against each other: vocabularies, layers, sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distillcalc.distill.training.prompting import padding_id
from distillcalc.distill.training.recipe import Objective
from distillcalc.distill.training.vocabulary import Alignment, align
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.distill.training.students import Student


@dataclass(frozen=True)
class Paired:
    """How a student and its teacher read the same text.

    Parameters
    ----------
    vocabulary : first ids that mean the same to both; None where only the distributions' shapes are compared.
    other_tokens : adds a batch's texts in the teacher's own tokens (uld); None where both read the same ids.
    notes : what a person should know.
    """

    vocabulary: int | None
    other_tokens: Callable[[Mapping[str, Any]], dict[str, Any]] | None
    notes: tuple[str, ...] = ()


def pair(student: Student, teacher: tuple[Any, Any], objective: Objective, ids: Iterable[int] = ()) -> Paired:
    """Hold the vocabularies against each other, id by id.

    Parameters
    ----------
    ids : token ids of the texts that both are to read.

    Raises
    ------
    InputError
        If the losses compare token with token and the ids do not mean the same, or the texts hold ids that the teacher
        does not know.
    """
    model, tokenizer = teacher
    notes = list(size_notes(student, model))
    alignment = align(student.tokenizer, tokenizer, vocabulary_rows(student.model), vocabulary_rows(model))
    if objective.divergence == "uld" and objective.soft:
        if objective.features or objective.attention:
            raise InputError(
                "uld reads the teacher in its own tokens, where no position is the student's: it does not go together "
                "with features or attention. Leave them out, or choose another divergence"
            )
        if objective.soft_on == "all":
            raise InputError('uld compares answers alone: set soft_on = "answer"')
        return Paired(None, OtherTokens(student.tokenizer, tokenizer), tuple(notes))
    alignment.require("a loss that compares token with token")
    refuse_unread(alignment, ids)
    rows = max(vocabulary_rows(student.model), vocabulary_rows(model))
    return Paired(None if alignment.vocabulary == rows else alignment.vocabulary, None, tuple(notes))


def refuse_unread(alignment: Alignment, ids: Iterable[int]) -> None:
    """Refuse texts with ids that only the student knows, such as a token that was added to it.

    Raises
    ------
    InputError
        If there are any; it names the first.
    """
    unread = alignment.outside(ids)
    if unread:
        raise InputError(
            f"the texts hold {len(unread):,} token id{'s' if len(unread) > 1 else ''} that the teacher does not know, "
            f"the first is {unread[0]}: it cannot read them as the student does. Leave what was added to the student's "
            "tokenizer out of its prompt, or use hard labels"
        )


def vocabulary_rows(model: Any) -> int:
    """Rows of a model's output layer, padding included."""
    return int(model.get_output_embeddings().weight.shape[0])


def size_notes(student: Student, teacher: Any) -> tuple[str, ...]:
    """What to tell of the sizes: a student that is no smaller than its teacher."""
    own = student.parameters
    other = sum(p.numel() for p in teacher.parameters())
    if own > other:
        return (
            f"the student has {own / 1e6:,.1f} million parameters and its teacher {other / 1e6:,.1f}: it will cost "
            "more to serve than the teacher does",
        )
    return ()


def layer_pairs(
    student: Any, teacher: Any, asked: Sequence[tuple[int, int]] | None = None, kept: Sequence[int] = ()
) -> tuple[tuple[int, int], ...]:
    """Which layers' outputs are compared: (student's, teacher's), from 1.

    Parameters
    ----------
    asked : pairs that a person gives.
    kept : the teacher's layers that the student was cut from. A student's layer answers for those that were cut after
        it, so it is compared with the teacher's layer before the next one that was kept, and the last with the last.
        Without ``kept`` layer i of n is compared with layer round(i N / n) (Jiao et al., arXiv:1909.10351, section 3).

    Raises
    ------
    InputError
        If a pair names a layer that there is not.
    """
    own, other = student.config.get_text_config().num_hidden_layers, teacher.config.get_text_config().num_hidden_layers
    if asked is not None:
        for mine, theirs in asked:
            if not (1 <= mine <= own and 1 <= theirs <= other):
                raise InputError(
                    f"feature_layers pairs the student's layers 1 to {own} with the teacher's 1 to {other}. Got "
                    f"[{mine}, {theirs}]"
                )
        return tuple((int(mine), int(theirs)) for mine, theirs in asked)
    if len(kept) == own and own > 0:
        ends = [*kept[1:], other]
        return tuple((i + 1, end) for i, end in enumerate(ends))
    return tuple((i, max(1, round(i * other / own))) for i in range(1, own + 1))


class OtherTokens:
    """A batch's texts in the tokens of a teacher that has others, answers cut to what both have.

    Parameters
    ----------
    student, teacher : tokenizers.

    Returns (called)
    ----------------
    uld_ids, uld_mask (B, S'): the teacher's input. uld_places : flat positions of it that predict the answer;
    uld_student : flat positions of the student's batch that stand beside them. Of the k-th answer token of both; the
    longer answer's rest is left out (Boizard et al., arXiv:2402.12030, section 3).
    """

    def __init__(self, student: Any, teacher: Any) -> None:
        self.student, self.teacher = student, teacher

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        import torch

        ids, answered = batch["input_ids"], batch["soft"]  # labels are hidden where the student wrote
        if "attention_mask" not in batch:
            raise InputError("packing and uld do not go together: set packing = false")
        rows, mine, theirs = [], [], []
        width = ids.shape[1]
        for row in range(ids.shape[0]):
            real = int(batch["attention_mask"][row].sum())
            places = [int(p) for p in answered[row].nonzero().flatten()]
            first = places[0] + 1 if places else real
            asked = self._asked(ids[row, :first].tolist())
            answer = self.student.decode([int(ids[row, p + 1]) for p in places], skip_special_tokens=True)
            said = self.teacher(answer, add_special_tokens=False)["input_ids"]
            said = [*said, self.teacher.eos_token_id] if self.teacher.eos_token_id is not None else said
            both = min(len(places), len(said))
            rows.append([*asked, *said])
            mine += [row * width + p for p in places[:both]]
            theirs.append(range(len(asked) - 1, len(asked) - 1 + both))
        longest = max(map(len, rows))  # of the teacher's tokens
        whole = torch.full((len(rows), longest), padding_id(self.teacher), dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for place, row_ids in enumerate(rows):
            whole[place, : len(row_ids)] = torch.tensor(row_ids)
            mask[place, : len(row_ids)] = 1
        flat = [place * longest + p for place, part in enumerate(theirs) for p in part]
        device = ids.device
        return {
            "uld_ids": whole.to(device), "uld_mask": mask.to(device),
            "uld_places": torch.tensor(flat, device=device, dtype=torch.long),
            "uld_student": torch.tensor(mine, device=device, dtype=torch.long),
        }  # fmt: skip

    def _asked(self, prompt: list[int]) -> list[int]:
        """A prompt in the teacher's tokens, begun as the teacher begins a text and not ended."""
        begin, end = self.student.bos_token_id, self.teacher.eos_token_id
        text = self.student.decode(prompt[1:] if prompt[:1] == [begin] else prompt, skip_special_tokens=False)
        asked: list[int] = self.teacher(text)["input_ids"]
        if len(asked) > 1 and asked[-1] == end and not text.endswith(self.teacher.eos_token):
            asked = asked[:-1]
        return asked or [padding_id(self.teacher)]
