"""The settings that a federation agrees on, and how a role's settings are read.

A settings model is a pydantic model with kebab-case keys. Values come, later ones winning, from the
defaults, a TOML file, environment variables and flags. A wrong key or value ends the start with a
message that names the key, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from fedpsyau_model.addresses import Address, OptionalAddress
from fedpsyau_model.emotions import ClassScheme
from fedpsyau_model.errors import SettingsError
from fedpsyau_priors import PUBLISHED, IntrinsicEdges, Priors, own_priors


def kebab_case(name: str) -> str:
    """Key of a field as a person writes it: ``batch_size`` -> ``batch-size``."""
    return name.replace("_", "-")


class Settings(BaseModel):
    """Base of every settings model: frozen, closed, kebab-case keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=kebab_case,
        validate_by_alias=True,
        validate_by_name=False,
        serialize_by_alias=True,
        allow_inf_nan=False,
    )

    def as_dict(self) -> dict[str, Any]:
        """Settings as plain values under kebab-case keys."""
        return self.model_dump(mode="json", by_alias=True)


class NetworkSettings(Settings):
    """The network AU-GAT-DSI (design section 3) and its ablations."""

    classes: ClassScheme = Field(
        "three", description="Emotion classes: negative/positive/surprise, or the seven emotions."
    )
    au_branch: bool = Field(True, description="Use the AU branch (LRM and AFR).")
    global_stream: bool = Field(True, description="Use the global optical-flow stream.")
    graph: bool = Field(True, description="Use the three DPK-GAT graph layers.")
    extrinsic_prior: bool = Field(True, description="Mix the extrinsic prior into the attention.")
    priors: Literal["published", "file", "site"] = Field(
        "published",
        description="Whose priors guide the graphs: the paper's, those in section [priors], or "
        "each site's own where it has a file of them.",
    )
    intrinsic_edges: Literal["published", "extended", "complete"] = Field(
        "published",
        description="Edges of the graphs: as published (or given), with AU4-AU7 added, or all "
        "pairs (no intrinsic prior).",
    )
    beta: float = Field(0.3, ge=0, le=1, description="Weight of the extrinsic prior at rho = 1.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout of AP, DPK-GAT and DSI.")

    @model_validator(mode="after")
    def _has_a_stream(self) -> Self:
        if not (self.au_branch or self.global_stream):
            raise ValueError("au-branch and global-stream are both off: nothing is left to train")
        return self


Matrix = tuple[tuple[float, ...], ...]

#: Smoothing beyond which every count, of any data set, drowns in it.
MOST_SMOOTHING = 1e6

#: Characters that a name of priors may have.
LONGEST_NAME = 200


class PriorsSettings(Settings):
    """Prior knowledge that the sites share (design section 4); what is left out is the paper's.

    ``fedpsyau priors build`` and ``fedpsyau priors study`` write this section.
    """

    name: str = Field("", max_length=LONGEST_NAME, description="What people call these priors.")
    cooccurrence: Matrix = Field(
        (), description="Clips that show both AUs, 12 rows of 12 numbers; empty: those of DFME."
    )
    smoothing: float = Field(
        0, ge=0, le=MOST_SMOOTHING, description="Added to every co-occurrence count."
    )
    intrinsic: Matrix = Field(
        (), description="1 where two AUs go together, 12 rows of 12; empty: as published."
    )

    @property
    def given(self) -> bool:
        """Whether there is anything in this section that differs from the published priors."""
        return bool(self.cooccurrence or self.intrinsic or self.smoothing)

    def priors(self, intrinsic_edges: IntrinsicEdges = "published") -> Priors:
        """The priors that this section describes, their edges altered by `intrinsic_edges`."""
        name = self.name or ("own" if self.given else PUBLISHED)
        return own_priors(
            name,
            cooccurrence=self.cooccurrence or None,
            smoothing=self.smoothing,
            coordinated=self.intrinsic or None,
            intrinsic=intrinsic_edges,
        )

    @field_validator("name")
    @classmethod
    def _is_printable(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("a name of one line is needed")
        return name

    @field_validator("cooccurrence", "intrinsic")
    @classmethod
    def _has_equal_rows(cls, matrix: Matrix) -> Matrix:
        if len({len(row) for row in matrix}) > 1:
            raise ValueError("the rows differ in length")
        return matrix

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        self.priors()
        return self


class LossSettings(Settings):
    """Weights of the loss (supplement 9.2, equations 8 and 9)."""

    alpha1: float = Field(0.8, ge=0, description="Weight of the emotion cross-entropy.")
    alpha2: float = Field(0.2, ge=0, description="Weight of the AU loss after the graph.")
    alpha3: float = Field(0.2, ge=0, description="Weight of the AU loss before the graph.")
    alpha4: float = Field(
        0.001, ge=0, description="Weight of the proximal term (strategies that have one)."
    )
    class_weights: bool = Field(True, description="Weight classes by their inverse frequency.")


class TrainingSettings(Settings):
    """Local training between two exchanges."""

    epochs: int = Field(2, ge=1, le=1000, description="Local epochs in every round.")
    batch_size: int = Field(32, ge=2, le=4096, description="Clips in a training batch.")
    learning_rate: float = Field(0.001, gt=0, le=1, description="AdamW's rate at the first round.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decoupled weight decay.")
    learning_rate_schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="Course of the learning rate over the rounds."
    )
    prior_schedule: Literal["constant", "linear"] = Field(
        "linear", description="Course of rho over the rounds: constant 1, or falling to 0."
    )
    test_share: float = Field(
        0.3, gt=0, lt=1, description="Share of a site's subjects that is held out for evaluation."
    )


StrategyName = Literal[
    "p-fedprox",
    "fedprox",
    "fedavg",
    "fedavg-finetune",
    "fedrep",
    "fedas",
    "mr-mtl",
    "ditto",
    "local",
    "pooled",
]

#: What `strategy.theta` says where every site chooses its own.
AUTO: Literal["auto"] = "auto"

#: The paper's theta, and that of a site which cannot choose yet.
DEFAULT_THETA = 0.9

_Share = Annotated[float, Field(ge=0, le=1)]


class StrategySettings(Settings):
    """What the server does with the sites' models, and a site with what it receives."""

    name: StrategyName = Field("p-fedprox", description="How the sites train together.")
    theta: _Share | Literal["auto"] = Field(
        DEFAULT_THETA,
        description="Weight of a site's own model in its personalised model (p-fedprox); auto: "
        "every site chooses its own in every round.",
    )
    theta_grid: tuple[_Share, ...] = Field(
        (0.5, 0.7, 0.8, 0.9, 1.0),
        min_length=1,
        description="Weights that a site chooses among (theta = auto), beside that of FedAvg.",
    )
    theta_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of a site's training subjects that it chooses theta on and does not "
        "train with (theta = auto).",
    )
    pull: float = Field(
        0.1,
        ge=0,
        description="Weight lambda of the pull of a personal model to the mean (mr-mtl) or to "
        "the global model (ditto).",
    )
    head_epochs: int = Field(
        2, ge=1, le=1000, description="Epochs of the head alone, before the body's (fedrep)."
    )
    align_epochs: int = Field(
        1, ge=0, le=1000, description="Epochs in which a received body is aligned (fedas)."
    )
    finetune_epochs: int = Field(
        4, ge=1, le=1000, description="Epochs of fine-tuning to evaluate (fedavg-finetune)."
    )
    batch_norm: Literal["local", "shared"] = Field(
        "local", description="Batch-norm statistics stay the site's own, or are fused too."
    )

    @field_validator("theta_grid", mode="before")
    @classmethod
    def _split(cls, grid: object) -> object:
        """Let the environment give numbers separated by commas."""
        return grid.split(",") if isinstance(grid, str) else grid

    @field_validator("theta", mode="wrap")
    @classmethod
    def _number_or_auto(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        """Tell of one wrong value, where a union would tell of one for each kind."""
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError(f"{error.errors()[0]['msg']}, or '{AUTO}'") from None

    @property
    def proximal(self) -> bool:
        """Whether local training is held near the received model by alpha4 (equation 9)."""
        return self.name in ("p-fedprox", "fedprox")

    @property
    def head_stays(self) -> bool:
        """Whether the head of the network is the site's own and does not travel."""
        return self.name in ("fedrep", "fedas")

    @property
    def chooses_theta(self) -> bool:
        """Whether every site chooses its own theta."""
        return self.name == "p-fedprox" and self.theta == AUTO


#: How models travel; see `fedpsyau_model.precision`.
Precision = Literal["full", "half", "delta"]


class ExchangeSettings(Settings):
    """How models travel between server and sites."""

    precision: Precision = Field(
        "full",
        description="Weights travel as float32; half: as float16, both ways; delta: as float16 to "
        "the sites, and back as 8-bit differences. What rounding takes is added the next time.",
    )


class RoundSettings(Settings):
    """Course of a run; the coordinator's own, not part of what sites agree to."""

    rounds: int = Field(20, ge=1, le=100_000, description="Communication rounds.")
    min_sites: int = Field(
        2, ge=1, description="The quorum: valid replies without which a round does not end."
    )
    join_seconds: float = Field(
        300, gt=0, description="How long the server waits for all sites before the first round."
    )
    round_seconds: float = Field(
        3600, gt=0, description="How long a round waits for replies of sites that are connected."
    )
    quorum_seconds: float = Field(
        3600,
        ge=0,
        description="How long the server then waits for lost and late sites while fewer than "
        "min-sites have answered, before the run ends.",
    )
    max_staleness: int = Field(
        3, ge=0, description="Rounds for which a silent site's last model still contributes."
    )
    max_update_ratio: float = Field(
        10, gt=1, description="Largest update norm accepted, as a multiple of the round's median."
    )
    max_site_clips: int = Field(
        100_000,
        ge=1,
        description="Training clips that a site may claim when it joins; more is refused.",
    )
    keep_rounds: int = Field(
        2, ge=0, description="Rounds whose models and replies stay on disk; 0 keeps all."
    )


def require_site_names(sites: Sequence[str], error: type[Exception] = SettingsError) -> None:
    """Raise `error` unless all names can be a site's, and each stands there once."""
    if not sites or len(set(sites)) < len(sites):
        raise error("at least one site is needed, and each name once")
    for site in sites:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", site):
            raise error(f"{site!r} is no site name: up to 64 letters, digits, - and _ are allowed")


#: The seven sites of supplement Table 3.
DEFAULT_SITES = (
    "dfme_c1",
    "dfme_c2",
    "dfme_c3",
    "dfme_c4",
    "dfme_c5",
    "casme3_c1",
    "casme3_c2",
)


class ServerSettings(Settings):
    """The coordinator's own: who may take part, where the server listens, where runs are kept."""

    sites: tuple[str, ...] = Field(DEFAULT_SITES, description="Partitions that may take part.")
    listen: Address = Field("127.0.0.1:9092", description="Address that sites connect to.")
    metrics_address: OptionalAddress = Field(
        "127.0.0.1:9190",
        description="Address of /healthz and /metrics, plain HTTP; empty for none.",
    )
    restarts: int = Field(
        3,
        ge=0,
        description="How often in a row the server starts its processes again when they die "
        "without finishing a round.",
    )
    runs: Path = Field(Path("runs"), description="Folder that holds the run folders.")
    start: str = Field(
        "",
        description="Checkpoint that all sites start from, as of `fedpsyau pretrain`; "
        "empty for weights drawn from the seed.",
    )
    kit: Path | None = Field(
        None, description="Folder from `fedpsyau-server provision`: TLS on, keys required."
    )
    insecure: bool = Field(
        False, description="Allow plaintext beyond this machine: anybody on the way can read it."
    )

    @field_validator("kit", mode="before")
    @classmethod
    def _no_kit(cls, kit: object) -> object:
        """TOML has no word for nothing, so an empty string stands for no kit."""
        return kit or None

    @field_validator("sites", mode="before")
    @classmethod
    def _split(cls, sites: object) -> object:
        """Let flags and the environment give names separated by commas."""
        return [name.strip() for name in sites.split(",")] if isinstance(sites, str) else sites

    @field_validator("sites")
    @classmethod
    def _names(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        require_site_names(sites, ValueError)
        return sites


#: Characters of a value that a message shows.
_LONGEST_SHOWN = 200

#: Parts of the federation's settings that server and sites must have in common.
AGREED = ("seed", "network", "priors", "loss", "training", "strategy", "exchange")


class FederationSettings(Settings):
    """Content of ``federation.toml``. Sites agree to all of it but ``rounds`` and ``server``."""

    seed: int = Field(0, ge=0, lt=2**31, description="Seed of every random number in the run.")
    network: NetworkSettings = NetworkSettings()
    priors: PriorsSettings = PriorsSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    strategy: StrategySettings = StrategySettings()
    exchange: ExchangeSettings = ExchangeSettings()
    rounds: RoundSettings = RoundSettings()
    server: ServerSettings = ServerSettings()

    @model_validator(mode="after")
    def _says_whose_priors(self) -> Self:
        if self.network.priors == "file" and not self.priors.given:
            raise ValueError(
                'network.priors is "file", but section [priors] has no matrix: `fedpsyau priors '
                "build` writes one"
            )
        if self.network.priors == "published" and self.priors.given:
            raise ValueError(
                'section [priors] has a matrix that would not be used, as network.priors is "'
                'published": set it to "file"'
            )
        return self

    @model_validator(mode="after")
    def _exchanges_something(self) -> Self:
        if self.strategy.name == "pooled" and self.exchange.precision != "full":
            raise ValueError(
                f'exchange.precision is "{self.exchange.precision}", and strategy pooled exchanges '
                'no models: leave it at "full"'
            )
        return self

    def shared_priors(self) -> Priors:
        """Priors of every site that does not use its own."""
        return self.priors.priors(self.network.intrinsic_edges)

    def agreement(self) -> dict[str, Any]:
        """The part that server and sites must have in common, as plain values."""
        values = self.as_dict()
        return {key: values[key] for key in AGREED}

    def agreement_hash(self) -> str:
        """SHA-256 over the canonical JSON of the agreement, 64 hex digits."""
        return agreement_hash(self.agreement())


def agreement_hash(agreement: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of an agreement, 64 hex digits."""
    canonical = json.dumps(agreement, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def agreement_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """List ``section.key: here X, there Y`` for every value that differs."""
    mine, other = flattened(ours), flattened(theirs)
    absent = "(absent)"
    return [
        f"{key}: here {brief(mine.get(key, absent))}, there {brief(other.get(key, absent))}"
        for key in sorted(mine.keys() | other.keys())
        if mine.get(key, absent) != other.get(key, absent)
    ]


def brief(value: Any) -> str:
    """Text of a value; one that is too long for a message (a matrix) is told by its hash."""
    text = str(value)
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"{text[:20]}... (sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]})"


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of all sections by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


SettingsModel = TypeVar("SettingsModel", bound=Settings)

#: Environment variables ``FEDPSYAU_SECTION__KEY`` override the file.
ENVIRONMENT_PREFIX = "FEDPSYAU_"

#: Keys of a site's own settings, whose model is the client's; a test keeps them equal. One
#: environment may serve both roles, so that each role knows the other's variables.
CLIENT_KEYS = (
    *("partition", "data", "state", "priors", "superlink", "device", "threads", "connect-seconds"),
    *("kit", "insecure", "policy", "carried-days"),
)

#: Those of an experiment that a federation does not have; that package comes after this one, too.
EXPERIMENT_KEYS = (
    *("experiment.seeds", "experiment.epochs", "experiment.folds", "experiment.loso"),
    *("experiment.seven-classes", "experiment.pretraining-epochs", "experiment.resamples"),
)

#: Variables that are no settings; the same test looks for others in the code.
OTHER_VARIABLES = frozenset(
    {
        *("FEDPSYAU_DEBUG", "FEDPSYAU_MODELS", "FEDPSYAU_LOG_FORMAT", "FEDPSYAU_SHARED_DATA"),
        *("FEDPSYAU_RUN_FOLDER", "FEDPSYAU_LAUNCHER", "FEDPSYAU_LARGEST_REPLY"),
    }
)


def load_settings(
    model: type[SettingsModel],
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    base: Mapping[str, Any] | None = None,
) -> SettingsModel:
    """Read settings: defaults, then `base`, `file` (TOML), the environment, and `flags`.

    file: a TOML file, or None for the defaults alone.
    flags: values by dotted key (``rounds.rounds``); None values are ignored.
    base: values by dotted key that stand in for defaults.
    environment: variables to look at; default ``os.environ``. ``FEDPSYAU_LOSS__ALPHA4=0.01`` sets
        ``loss.alpha4``.

    Raises SettingsError naming every wrong key with its value and what is allowed.
    """
    values = _read_toml(file) if file else {}
    for key, value in (base or {}).items():
        _set_dotted(values, key, value, keep=True)
    environment = os.environ if environment is None else environment
    require_known_variables(environment)
    for key, text in _environment_values(model, environment).items():
        _set_dotted(values, key, text)
    for key, value in (flags or {}).items():
        if value is not None:
            _set_dotted(values, key, value)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error, file, dotted_keys(model))) from None


def changed_settings(
    settings: SettingsModel,
    changeable: Sequence[str],
    flags: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> SettingsModel:
    """Change settings that are fixed but for some keys, by the environment and then by `flags`.

    Raises SettingsError for a flag of another key, and for wrong values.
    """
    environment = os.environ if environment is None else environment
    require_known_variables(environment)
    given = {key: value for key, value in flags.items() if value is not None}
    if fixed := sorted(given.keys() - set(changeable)):
        raise SettingsError(
            f"{fixed[0]} = {brief(repr(str(given[fixed[0]])))} cannot be given here: it is fixed "
            f"by config.json of the run. What can be changed is {', '.join(changeable)}."
        )
    values = settings.as_dict()
    found = _environment_values(type(settings), environment)
    for key, value in ({key: found[key] for key in changeable if key in found} | given).items():
        _set_dotted(values, key, value)
    try:
        return type(settings).model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error, None, dotted_keys(type(settings)))) from None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"There is no settings file {file}. Give another one with --config, or leave the "
            "option out to run with the defaults (`fedpsyau settings` prints them)."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {file} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{file} is not valid TOML: {error}. Strings need quotes, true and false are lower "
            "case, and a section stands in square brackets."
        ) from None


def _environment_values(model: type[Settings], environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for key in dotted_keys(model):
        if (name := environment_name(key)) in environment:
            found[key] = environment[name]
    return found


def require_known_variables(environment: Mapping[str, str]) -> None:
    """Raise SettingsError for a variable of ours that nothing reads: it was misspelt."""
    known = {environment_name(key) for key in dotted_keys(FederationSettings)}
    known |= OTHER_VARIABLES | {environment_name(key) for key in (*CLIENT_KEYS, *EXPERIMENT_KEYS)}
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            meant = f"Did you mean {' or '.join(near)}? " if near else ""
            raise SettingsError(
                f"The environment variable {name} = {brief(repr(environment[name]))} belongs to "
                f"no setting. {meant}Correct its name or unset it; docs/settings.md lists all."
            )


def environment_name(key: str) -> str:
    """Environment variable of a dotted key: ``loss.alpha4`` -> ``FEDPSYAU_LOSS__ALPHA4``."""
    return ENVIRONMENT_PREFIX + key.replace(".", "__").replace("-", "_").upper()


def dotted_keys(model: type[Settings], prefix: str = "") -> list[str]:
    """All keys of a settings model, sections before a dot: ``loss.alpha4``."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        key = prefix + kebab_case(name)
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Settings):
            keys += dotted_keys(section, f"{key}.")
        else:
            keys.append(key)
    return keys


def _set_dotted(values: dict[str, Any], key: str, value: Any, keep: bool = False) -> None:
    """Set a value by dotted key; keep: unless there is one."""
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise SettingsError(f"[{section}] must be a section of settings, not {values!r}.")
    if not (keep and last in values):
        values[last] = value


def _explain(error: ValidationError, file: Path | None, keys: list[str]) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "settings"
        value = brief(repr(problem["input"]))
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, keys, n=3)
            meant = f" (did you mean {' or '.join(near)}?)" if near else ""
            lines.append(f"{key} = {value}: there is no setting of this name{meant}")
        else:
            lines.append(f"{key} = {value}: {problem['msg']}")
    source = f" (read from {file})" if file else ""
    return (
        f"Wrong settings{source}: {'; '.join(lines)}. "
        "`fedpsyau settings` lists every key with its default and what is allowed."
    )
