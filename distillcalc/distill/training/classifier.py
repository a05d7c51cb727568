"""A student that gives a label and nothing else: an encoder, or a small decoder with a classification head.

What it is and what it learns from stand here; how it is trained, in :mod:`.classifier_fit`. An encoder classifies in
milliseconds what a generative model spells token by token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.distill.records import Record
from distillcalc.distill.training.local_teacher import SoftLabels, quiet
from distillcalc.errors import InputError, MissingExtra, near_matches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distillcalc.distill.training.classifier_torch import Pooling

SCHEMA_VERSION = 1
FILE, HEAD = "classifier.json", "head.safetensors"
MISSING = -1  # the target of a text that nobody has labelled
NOT_SUMMING = 1e-3  # how far from 1 the probabilities of a row may sum


@dataclass(frozen=True)
class ClassifierData:
    """Texts and what a classifier should say to them.

    Parameters
    ----------
    texts : what is classified.
    labels : two or more, in the order of the classifier's outputs.
    targets : numbers of labels, shape (texts,), -1 where there is none; or a teacher's probabilities, shape
        (texts, labels), NaN in the rows where there are none.

    Raises
    ------
    InputError
        If shapes do not fit, a target is no label, a row of probabilities does not sum to 1, or no target is there.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    targets: NDArray[Any]

    def __post_init__(self) -> None:
        import numpy as np

        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise InputError(f"a classifier chooses among two different labels or more. Got {list(self.labels)}")
        rows = (len(self.texts),)
        shape = rows if self.targets.ndim == 1 else (*rows, len(self.labels))
        kind = "i" if self.targets.ndim == 1 else "f"
        if self.targets.shape != shape or self.targets.dtype.kind != kind:
            raise InputError(
                f"targets of {rows[0]} texts and {len(self.labels)} labels are whole numbers of shape {rows} or "
                f"probabilities of shape {(*rows, len(self.labels))}. Got {self.targets.dtype} of shape "
                f"{self.targets.shape}"
            )
        if self.targets.ndim == 1:
            odd = self.targets[(self.targets < MISSING) | (self.targets >= len(self.labels))]
            if odd.size:
                raise InputError(f"targets are numbers of labels, 0 to {len(self.labels) - 1}, or -1. Got {odd[0]}")
        else:
            given = ~np.isnan(self.targets).all(axis=1)
            right = np.abs(self.targets.sum(axis=1, dtype=np.float64) - 1) <= NOT_SUMMING
            wrong = given & ~(right & (self.targets >= 0).all(axis=1))
            if wrong.any():
                row = int(wrong.argmax())
                raise InputError(
                    f"probabilities must be 0 or above and sum to 1. Got {self.targets[row].tolist()} in row {row}"
                )
        if not self.present.any():
            raise InputError(f"nothing to learn from: the targets of all {rows[0]} texts are missing")

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which texts have a target, shape (texts,)."""
        import numpy as np

        found: NDArray[np.bool_] = self.targets != MISSING if self.targets.ndim == 1 else ~np.isnan(self.targets[:, 0])
        return found

    @property
    def is_soft(self) -> bool:
        """Whether targets are probabilities."""
        return self.targets.ndim == 2

    @property
    def hard(self) -> NDArray[np.int64]:
        """Numbers of labels, shape (texts,): the most probable ones of soft targets; -1 where there is none."""
        import numpy as np

        if not self.is_soft:
            return self.targets.astype(np.int64)
        likeliest = np.where(np.isnan(self.targets), 0.0, self.targets).argmax(axis=1)
        found: NDArray[np.int64] = np.where(self.present, likeliest, MISSING).astype(np.int64)
        return found

    @classmethod
    def of(cls, texts: Sequence[str], answers: Sequence[str | None], labels: Sequence[str]) -> ClassifierData:
        """Texts with the labels by name; None where there is none.

        Raises
        ------
        InputError
            If an answer is not among the labels: it is of another task.
        """
        import numpy as np

        place = {label: number for number, label in enumerate(labels)}
        odd = next((answer for answer in answers if answer is not None and answer not in place), None)
        if odd is not None:
            near = near_matches(odd, labels)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"{odd!r} is a label of another task: it is not among {', '.join(labels)}.{hint}")
        targets = [MISSING if answer is None else place[answer] for answer in answers]
        return cls(tuple(texts), tuple(labels), np.array(targets, dtype=np.int64))

    @classmethod
    def of_records(
        cls,
        records: Iterable[Record],
        labels: Sequence[str],
        *,
        soft: SoftLabels | None = None,
        human: bool = False,
        text: Callable[[Record], str] | None = None,
    ) -> ClassifierData:
        """The records of a labelled dataset; those with problems have no target.

        Parameters
        ----------
        soft : the teacher's probabilities, which are the targets then. human : learn what people said instead.
        text : what the student reads of a record; left out, the fields of its input, a line each.
        """
        read = text or (lambda record: record.text)
        found = list(records)
        texts = tuple(read(record) for record in found)
        if soft is not None:
            return cls(texts, tuple(labels), soft.targets([record.id for record in found], labels))
        answers = [r.human_label if human else None if r.problems else str(r.value) for r in found]
        return cls.of(texts, answers, labels)


@dataclass(frozen=True)
class Classifier:
    """A trained classifier; :meth:`load` reads one, :func:`.classifier_fit.train_classifier` makes one.

    Parameters
    ----------
    model : a module of :mod:`.classifier_torch`, in evaluation mode. tokenizer : its own.
    labels : in the order of its outputs.
    max_length : tokens of a text that are read; the rest is cut off.
    start : the model that it started from, in words.
    """

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    labels: tuple[str, ...]
    max_length: int
    start: str = ""

    @property
    def parameters(self) -> int:
        """How many there are."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """How probable each label is for each text.

        Returns
        -------
        Shape (texts, labels); each row sums to 1.
        """
        import numpy as np
        import torch

        from distillcalc.distill.training.classifier_torch import over_all

        if not texts:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        weight = next(self.model.parameters())
        ids, _ = tokens_of(self.tokenizer, texts, self.max_length)
        logits = over_all(self.model, ids, pad_of(self.tokenizer), weight.device)
        found: NDArray[np.float32] = torch.softmax(logits, -1).numpy()
        return found

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable label of each text."""
        return [self.labels[number] for number in self.probabilities(texts).argmax(axis=1)]

    def truncated(self, texts: Sequence[str]) -> int:
        """How many texts are longer than what is read of them."""
        return tokens_of(self.tokenizer, texts, self.max_length)[1]

    def data(self, texts: Sequence[str], answers: Sequence[str | None]) -> ClassifierData:
        """Texts and their labels by name, in this classifier's order; refuses labels that it does not know."""
        return ClassifierData.of(texts, answers, self.labels)

    def save(self, folder: str | Path) -> Path:
        """Write weights (safetensors), configuration and tokenizer; ``classifier.json`` comes last."""
        from distillcalc.distill.training.classifier_torch import Pooled

        place = Path(folder)
        plain: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "labels": list(self.labels)}
        plain |= {"max_length": self.max_length, "start": self.start}
        with quiet():
            if isinstance(self.model, Pooled):
                from safetensors.torch import save_file

                self.model.encoder.save_pretrained(place)
                state = {name: t.detach().cpu().contiguous() for name, t in self.model.head.state_dict().items()}
                save_file(state, place / HEAD)
                plain |= {"kind": "pooled", "pooling": self.model.pooling}
            else:
                self.model.model.save_pretrained(place)
                plain |= {"kind": "standard"}
            self.tokenizer.save_pretrained(place)
        (place / FILE).write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return place

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Classifier:
        """Read what :meth:`save` wrote; fp32 on CPU, bf16 on CUDA.

        Raises
        ------
        InputError
            If the folder does not hold a whole classifier.
        """
        torch = _torch()
        from safetensors.torch import load_file
        from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

        from distillcalc.distill.training.classifier_torch import Pooled, Standard

        place = Path(folder)
        if not (place / FILE).is_file():
            raise InputError(f"no classifier in {str(folder)!r}: it has no {FILE}. train_classifier writes one")
        plain = json.loads((place / FILE).read_text(encoding="utf-8"))
        if plain["schema_version"] != SCHEMA_VERSION:
            raise InputError(f"{place / FILE} was written by another version of distillcalc: train it anew")
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if where.startswith("cuda") else torch.float32
        labels = tuple(plain["labels"])
        with quiet():
            try:
                tokenizer = AutoTokenizer.from_pretrained(place)
                if plain["kind"] == "pooled":
                    encoder = AutoModel.from_pretrained(place, dtype=torch.float32, **_no_pooler(place))
                    model: Any = Pooled(encoder, len(labels), plain["pooling"])
                    model.head.load_state_dict(load_file(place / HEAD))
                else:
                    model = Standard(AutoModelForSequenceClassification.from_pretrained(place, dtype=torch.float32))
            except (OSError, ValueError, RuntimeError) as error:
                raise InputError(f"cannot read the classifier in {str(folder)!r}: {error}") from error
        return cls(model.to(where, dtype).eval(), tokenizer, labels, plain["max_length"], plain["start"])


def new_classifier(
    start: str | Path, labels: Sequence[str], *, pooling: Pooling | None = None, max_length: int = 128, seed: int = 0
) -> Classifier:
    """A classifier that has not learnt yet: pretrained weights under a random head.

    Parameters
    ----------
    start : local folder, or name on the hub. pooling : "mean" or "cls" make a pooled encoder; left out, what the folder
        of a sentence-transformers model says, and else the head that transformers gives to its family.
    max_length : tokens of a text that are read. seed : of the head.

    Raises
    ------
    InputError
        If it cannot be loaded, or reads fewer tokens.
    """
    torch = _torch()
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    from distillcalc.distill.training.classifier_torch import Pooled, Standard

    name = str(start)
    pooled = pooling or _pooling_of(Path(start))
    torch.manual_seed(seed)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(name)
            if pooled is not None:
                encoder = AutoModel.from_pretrained(
                    name, dtype=torch.float32, use_safetensors=True, **_no_pooler(start)
                )
                model: Any = Pooled(encoder, len(labels), pooled)
                config = encoder.config
            else:
                inner = AutoModelForSequenceClassification.from_pretrained(
                    name, dtype=torch.float32, use_safetensors=True, num_labels=len(labels),
                    id2label=dict(enumerate(labels)), label2id={label: n for n, label in enumerate(labels)},
                    ignore_mismatched_sizes=True,
                )  # fmt: skip
                model, config = Standard(inner), inner.config
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot start a classifier from {name!r}: {first}. Give a local folder with config.json and safetensors, "
            "or a name of the Hugging Face hub that can be reached from here"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id  # a decoder's head reads the last token that is none
    most = getattr(config, "max_position_embeddings", None)
    if most and max_length > most:
        raise InputError(f"max_length must be at most {most}, what {Path(name).name} reads. Got {max_length}")
    return Classifier(model, tokenizer, tuple(labels), max_length, Path(name).name)


def tokens_of(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[list[list[int]], int]:
    """Token ids of texts, cut to a length, and how many were longer; an empty text is one padding token at least."""
    ids = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"] if texts else []
    full = [text for text, found in zip(texts, ids, strict=True) if len(found) == max_length]
    longer = 0
    if full:
        with quiet():
            longer = sum(len(found) > max_length for found in tokenizer(full)["input_ids"])
    return [found or [pad_of(tokenizer)] for found in ids], longer


def pad_of(tokenizer: Any) -> int:
    """The id that fills a batch."""
    from distillcalc.distill.training.prompting import padding_id

    return padding_id(tokenizer)


def _pooling_of(folder: Path) -> Pooling | None:
    """How a folder of sentence-transformers pools; None where it is none, or pools in another way."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return None
    told = json.loads(file.read_text(encoding="utf-8"))
    if told.get("pooling_mode_cls_token") or told.get("pooling_mode") == "cls":
        return "cls"
    return "mean" if told.get("pooling_mode_mean_tokens") or told.get("pooling_mode") == "mean" else None


def _no_pooler(start: str | Path) -> dict[str, bool]:
    """Leave out the layer over the first token, where a family has one: nothing here reads it."""
    import inspect

    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    kind = MODEL_MAPPING.get(type(AutoConfig.from_pretrained(str(start))), None)
    kind = kind[0] if isinstance(kind, tuple) else kind
    takes = kind is not None and "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": False} if takes else {}


def _torch() -> Any:
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtra(str(error.name), "distill") from error
    return torch
