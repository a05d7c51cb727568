"""What is to be fine-tuned, where and with what: the ``[finetune]`` table of a TOML file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from distillcalc.distill.finetune import openai_api, together_api
from distillcalc.distill.finetune.calls import Calls
from distillcalc.distill.finetune.provider import FineTuneProvider
from distillcalc.distill.records import Strict
from distillcalc.errors import InputError
from distillcalc.workload.files import parse_toml, read_text, validate
from distillcalc.workload.scenario import Use

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}\Z")
# What does not change which job is made: it may differ when a run is taken up again.
MAY_CHANGE = ("training_file", "validation_file", "key_env", "budget_usd", "deadline_hours", "teacher", "use")


class FineTuneSpec(Strict):
    """One hosted fine-tune.

    Parameters
    ----------
    name : of the run and its folder.
    provider : as the catalog names it, for prices, closing dates and terms.
    api : whose API the server speaks; left out, Together's for together and else OpenAI's.
    base_url : the server's address; left out, the provider's own.
    key_env : environment variable that holds the key; left out, the provider's usual one.
    self_hosted : a server of your own at ``base_url``: the provider's closing dates and prices are not its own.
    settings : the key for hyperparameters: "method" (OpenAI today) or "hyperparameters" (older servers).
    model : base model, as the service names it.
    catalog_model : catalog id of the base model; ``params_b`` : its size [billions of parameters]. Either finds the
        price where that goes by size.
    training_file, validation_file : JSONL of chats; a relative path starts at the TOML file's folder.
    epochs : passes over the training file.
    batch_size : examples in one step; left out, the service chooses.
    learning_rate_multiplier : of OpenAI's own rate; ``learning_rate`` : Together's, absolute.
    lora : adapters instead of all weights, with ``lora_rank`` (Together).
    evaluations : how often the validation file is run through during training (Together).
    suffix : becomes part of the model's name.
    seed : of the training, where the service takes one.
    budget_usd : training that costs more, or an unknown price, is refused.
    deadline_hours : how long one call waits for the job; the job itself goes on.
    fine_tunes_before : whether this account has fine-tuned at the provider before, where it takes no new customers.
    teacher : provider/model that wrote the answers; ``use`` : what the student is for. Terms are checked by them;
        ``accept_unclear_terms`` : a person has read them where they do not say.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    provider: str = Field("openai", min_length=1)
    api: Literal["openai", "together"] | None = None
    base_url: str | None = None
    key_env: str | None = None
    self_hosted: bool = False
    settings: openai_api.Settings = "method"
    model: str = Field(min_length=1)
    catalog_model: str | None = None
    params_b: float | None = Field(None, gt=0)
    training_file: Path
    validation_file: Path | None = None
    epochs: int = Field(3, ge=1, le=100)
    batch_size: int | None = Field(None, ge=1)
    learning_rate_multiplier: float | None = Field(None, gt=0)
    learning_rate: float | None = Field(None, gt=0)
    lora: bool = True
    lora_rank: int | None = Field(None, ge=1)
    evaluations: int = Field(0, ge=0)
    suffix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    seed: int | None = Field(None, ge=0)
    budget_usd: float | None = Field(None, ge=0)
    deadline_hours: float = Field(24.0, gt=0)
    fine_tunes_before: bool = False
    teacher: str | None = None
    use: Use = Use()
    accept_unclear_terms: bool = False

    @model_validator(mode="after")
    def _fits(self) -> FineTuneSpec:
        if self.speaks == "openai" and self.base_url is None and self.provider != "openai":
            raise ValueError(f"{self.provider} has no address of its own here: set base_url")
        if self.self_hosted and self.base_url is None:
            raise ValueError("self_hosted needs base_url, the address of your server")
        if self.speaks == "openai":
            alien = [name for name in ("learning_rate", "lora_rank") if getattr(self, name) is not None]
            alien += ["evaluations"] if self.evaluations else []
        else:
            alien = ["learning_rate_multiplier"] if self.learning_rate_multiplier is not None else []
        if alien:
            raise ValueError(f"{alien[0]} is no setting of the {self.speaks} API: leave it out")
        if self.evaluations and self.validation_file is None:
            raise ValueError("evaluations need a validation_file")
        return self

    @property
    def speaks(self) -> Literal["openai", "together"]:
        """Whose API the server speaks."""
        return self.api or ("together" if self.provider == "together" else "openai")

    @property
    def address(self) -> str:
        """The server's address: the one given, or the provider's own."""
        own = together_api.BASE_URL if self.speaks == "together" else openai_api.BASE_URL
        return self.base_url or own

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the key."""
        own = together_api.KEY_ENV if self.speaks == "together" else openai_api.KEY_ENV
        return self.key_env or own

    @classmethod
    def load(cls, path: str | Path) -> FineTuneSpec:
        """A spec from the ``[finetune]`` table of a TOML file; raises :class:`InputError` where it does not fit."""
        file = Path(path)
        text = read_text(file)
        table = parse_toml(text, file.name).get("finetune")
        if not isinstance(table, dict):
            raise InputError(f"{file.name} has no [finetune] table; it holds name, model and training_file at least")
        return cls.of(table, folder=file.parent, text=text, file=file.name)

    @classmethod
    def of(cls, values: dict[str, Any], *, folder: Path | None = None, text: str = "", file: str = "") -> FineTuneSpec:
        """A spec from plain values, relative paths starting at a folder; raises :class:`InputError`."""
        variable = values.get("key_env")
        if variable is not None and not (isinstance(variable, str) and VARIABLE.match(variable)):
            # What stands there may be the key itself: it is not repeated.
            raise InputError("key_env is the name of an environment variable, such as OPENAI_API_KEY, never a key")
        if (urlsplit(str(values.get("base_url") or "")).username) is not None:
            raise InputError("base_url holds a user name or a key. Take it out: the key comes from key_env alone")
        values = dict(values)
        for name in ("training_file", "validation_file"):
            if isinstance(values.get(name), (str, Path)) and folder is not None:
                values[name] = folder / values[name]
        return validate(cls, values, text=text, file=file)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, absent fields left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def makes(self) -> dict[str, Any]:
        """What decides which job is made, the files' contents aside."""
        return {key: value for key, value in self.to_dict().items() if key not in MAY_CHANGE}


def connect(spec: FineTuneSpec, **options: Any) -> FineTuneProvider:
    """The service that a spec names; close it after use.

    Parameters
    ----------
    spec : whose provider, address and key variable are meant.
    options : of :class:`.calls.Calls`, such as ``tries`` and ``timeout_s`` [s].

    Raises
    ------
    InputError
        If the key's variable is not set.
    """
    calls = Calls(spec.address, spec.key_variable, **options)
    if spec.speaks == "together":
        return together_api.TogetherFineTuning(calls)
    return openai_api.OpenAIFineTuning(calls, settings=spec.settings)
