"""What a model file must say for a video to be judged by it, besides its weights.

It is a checkpoint (`fedpsyau_model.checkpoints`) of a whole network, batch-norm statistics
included, whose provenance has an entry ``recogniser``. A site writes one after every round, and
`fedpsyau train --keep-models` one for each fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from pydantic import Field, JsonValue, ValidationError, model_validator

from fedpsyau_client.store.manifest import Manifest
from fedpsyau_model import __version__
from fedpsyau_model.action_units import AUS
from fedpsyau_model.checkpoints import RECOGNISER, read_checkpoint
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.errors import CheckpointError, RecogniserError, WeightsMismatchError
from fedpsyau_model.file_part import FilePart
from fedpsyau_model.input_files import check_input_file
from fedpsyau_model.model_state import load_state_arrays
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.settings import NetworkSettings, PriorsSettings
from fedpsyau_model.temperature import (
    TEMPERATURES,
    class_probabilities,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
)
from fedpsyau_priors import Priors

__all__ = [
    "FEWEST_CLIPS",
    "RECOGNISER",
    "Calibration",
    "Recogniser",
    "RecogniserFacts",
    "TrainingSource",
    "calibration",
    "preprocessing_of",
    "read_recogniser",
    "recogniser_facts",
]

#: Raised whenever an older reader would misread a newer file.
SCHEMA_VERSION: Final = 1

#: Clips without which a temperature is not fitted: fewer say nothing.
FEWEST_CLIPS: Final = 10

#: Whole networks have 17 MB; far beyond it is something else.
_LARGEST_FILE: Final = 500_000_000

#: What of a store's preprocessing the motion of a new clip must agree with, or a person may want
#: to know. The rest, such as counts of failures, is the store's own business.
_PREPROCESSING: Final = (
    *("method", "flow", "flow_settings", "opencv", "crop_size", "alignment", "landmarks"),
    *("landmark_model_sha256", "roi_source", "class_rule", "flow_units", "roi_units"),
)


class Calibration(FilePart):
    """The temperature, and on what it was fitted: clips that the network was not trained on.

    The two pairs are measured on the same clips, before and after; on others it gains less.
    """

    temperature: float = Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])
    clips: int = Field(ge=1)
    subjects: int = Field(ge=1)
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float


class TrainingSource(FilePart):
    """One feature store that the network was trained on; names nobody."""

    partition: str
    dataset: str
    data_hash: str
    synthetic: bool
    preprocessing: dict[str, JsonValue]


class RecogniserFacts(FilePart):
    """Content of the entry ``recogniser``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    fedpsyau_version: str = __version__
    made_by: Literal["federation", "train"]
    classes: tuple[str, ...]
    aus: tuple[int, ...] = AUS
    network: NetworkSettings
    priors: PriorsSettings
    priors_sha256: str
    prior_weight: float = Field(ge=0, le=1)
    config_hash: str
    trained_on: tuple[TrainingSource, ...] = Field(min_length=1)
    calibration: Calibration | None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.aus != AUS:
            raise ValueError(f"its AUs are {self.aus}, and this fedpsyau knows {AUS}")
        expected = CLASS_NAMES[self.network.classes]
        if self.classes != expected:
            raise ValueError(f"its classes are {self.classes}; {self.network.classes}: {expected}")
        if self.shared_priors().fingerprint() != self.priors_sha256:
            raise ValueError("its priors are not those that it was trained with")
        return self

    @property
    def synthetic(self) -> bool:
        """Whether anything that it was trained on is synthetic."""
        return any(source.synthetic for source in self.trained_on)

    def shared_priors(self) -> Priors:
        """Priors that guide the graphs."""
        return self.priors.priors(self.network.intrinsic_edges)


@dataclass(frozen=True, eq=False)
class Recogniser:
    """A network on the CPU, in eval mode, with what is known of it."""

    network: AuGatDsi
    facts: RecogniserFacts
    sha256: str


def recogniser_facts(
    *,
    made_by: Literal["federation", "train"],
    network: NetworkSettings,
    priors: Priors,
    prior_weight: float,
    config_hash: str,
    manifests: Iterable[Manifest],
    calibration: Calibration | None,
) -> dict[str, Any]:
    """Make the entry that turns a checkpoint of a whole network into a recogniser.

    priors: those in force, whose matrices the file holds. prior_weight: rho of the last epoch.
    manifests: of the stores that the network was trained on.
    """
    facts = RecogniserFacts(
        made_by=made_by,
        classes=CLASS_NAMES[network.classes],
        network=network,
        priors=PriorsSettings(
            name=priors.name,
            cooccurrence=priors.counts.tolist(),
            intrinsic=priors.edges.astype(float).tolist(),
        ),
        priors_sha256=priors.fingerprint(),
        prior_weight=prior_weight,
        config_hash=config_hash,
        trained_on=tuple(
            TrainingSource(
                partition=manifest.partition,
                dataset=manifest.dataset,
                data_hash=manifest.data_hash,
                synthetic=manifest.synthetic,
                preprocessing=preprocessing_of(manifest),
            )
            for manifest in manifests
        ),
        calibration=calibration,
    )
    return facts.model_dump(mode="json", by_alias=True)


def preprocessing_of(manifest: Manifest) -> dict[str, JsonValue]:
    """What a store says of how its motion was measured."""
    return {
        key: manifest.preprocessing[key] for key in _PREPROCESSING if key in manifest.preprocessing
    }


def calibration(logits: np.ndarray, truth: np.ndarray, subjects: int) -> Calibration | None:
    """Fit a temperature, or None on fewer than `FEWEST_CLIPS` clips.

    logits: (N, C), truth: (N,) classes, of clips of so many subjects that the network was not
    trained on.
    """
    if len(truth) < FEWEST_CLIPS:
        return None
    temperature = fit_temperature(logits, truth)
    before, after = (class_probabilities(logits, each) for each in (1.0, temperature))
    return Calibration(
        temperature=temperature,
        clips=len(truth),
        subjects=subjects,
        nll_before=negative_log_likelihood(logits, truth, 1.0),
        nll_after=negative_log_likelihood(logits, truth, temperature),
        ece_before=expected_calibration_error(before, truth),
        ece_after=expected_calibration_error(after, truth),
    )


def read_recogniser(file: Path) -> Recogniser:
    """Read a model file. Raises RecogniserError, which says what is wrong with it."""
    try:
        check_input_file(file, _LARGEST_FILE)
        checkpoint = read_checkpoint(file)
        entry = _entry(file, checkpoint.provenance)
        facts = RecogniserFacts.model_validate(entry)
        network = build_network(facts.network, 0, facts.shared_priors())
        load_state_arrays(network, checkpoint.tensors)
    except OSError as error:
        raise RecogniserError(
            f"The model {file} cannot be read: {error.strerror or error}. {_WHICH}"
        ) from None
    except CheckpointError as error:
        raise RecogniserError(f"{file} is no model: {_first_sentence(error)} {_WHICH}") from None
    except ValidationError as error:
        raise RecogniserError(
            f"{file} cannot be used by fedpsyau {__version__}: {_problems(error)}. It was edited, "
            f"or another version wrote it; train it again with this one. {_WHICH}"
        ) from None
    except (WeightsMismatchError, RecursionError) as error:
        raise RecogniserError(f"{file}: {error}") from None
    if not all(np.isfinite(tensor).all() for tensor in checkpoint.tensors.values()):
        raise RecogniserError(f"{file} holds weights that are NaN or infinite. {_WHICH}")
    return Recogniser(network.eval(), facts, checkpoint.sha256)


_WHICH: Final = (
    "Give --model a site's own STATE/PARTITION/personal.safetensors, or models/0001.safetensors of "
    "a run of `fedpsyau train --keep-models`."
)


def _entry(file: Path, provenance: Any) -> Any:
    """Look up the entry in a checkpoint's provenance, or say what the file is instead."""
    if isinstance(provenance, Mapping) and RECOGNISER in provenance:
        return provenance[RECOGNISER]
    kind = provenance.get("kind") if isinstance(provenance, Mapping) else None
    if kind == "au-pretraining":
        what = "holds a pre-trained AU branch, which knows no emotions"
    else:
        what = (
            "does not say what it was trained for: weights that travel between sites and server "
            "lack batch-norm statistics, which are a site's own, and so do files of fedpsyau "
            "before there was `fedpsyau predict`"
        )
    raise RecogniserError(f"{file} {what}. {_WHICH}")


def _problems(error: ValidationError) -> str:
    listed = [
        f"{'.'.join(map(str, problem['loc'])) or RECOGNISER}: {problem['msg']}"
        for problem in error.errors()
    ]
    return "; ".join(listed[:3]) + (f"; and {len(listed) - 3} more" if len(listed) > 3 else "")


def _first_sentence(error: Exception) -> str:
    return str(error).split(". ")[0] + "."
