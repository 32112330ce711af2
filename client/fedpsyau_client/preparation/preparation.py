"""From a label table and a folder of clips to a feature store.

The store appears in the data folder when all is done. Until then every prepared clip is kept in the
working folder ``.PARTITION.work`` beside it, under a name that changes with its frames and with the
settings; so a stopped preparation goes on where it was, and nothing stale is taken.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from fedpsyau_client.preparation.alignment import FLOW_CROP_SIZE
from fedpsyau_client.preparation.clip_files import index_clips
from fedpsyau_client.preparation.clip_labels import (
    is_synthetic,
    read_labels,
    store_labels,
)
from fedpsyau_client.preparation.clip_result import read_clip_result
from fedpsyau_client.preparation.failures import (
    Failure,
    count_reasons,
    write_failures,
)
from fedpsyau_client.preparation.landmark_file import read_landmark_file
from fedpsyau_client.preparation.landmark_model import MODEL_SHA256, find_landmark_model
from fedpsyau_client.preparation.optical_flow import FLOW_SETTINGS
from fedpsyau_client.preparation.planned_clips import RESULTS_NAME, PlannedClips, Preparation
from fedpsyau_client.preparation.worker_pool import prepared
from fedpsyau_client.store.feature_store import Manifest, write_feature_store
from fedpsyau_client.store.manifest import PARTITION_PATTERN
from fedpsyau_client.store.pseudonyms import pseudonymise, working_folder, write_ids
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import (
    OutputExistsError,
    OutputWriteError,
    UnknownPartitionError,
)

__all__ = ["Preparation", "PreparationReport", "prepare"]

_LOCK: Final = "lock"
_WORKERS_LOG: Final = "workers.log"


@dataclass(frozen=True, eq=False)
class PreparationReport:
    """What came of it.

    resumed: clips that were done before. notes: odd things about where clips were found.
    work: the working folder, in which the list of failures is.
    """

    manifest: Manifest
    total: int
    resumed: int
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    work: Path


def prepare(
    plan: Preparation,
    *,
    begin: Callable[[int, int, int], None] = lambda total, done, failed: None,
    progress: Callable[[bool], None] = lambda well: None,
) -> PreparationReport:
    """Prepare all clips of a label table and write their feature store.

    begin: called once with the number of clips, of those done before, and of those that failed
        already, such as missing ones. progress: called after every further clip, with whether it
        went well.

    Raises SettingsError, LabelTableError, LandmarkModelError, LandmarkFileError, DataNotFoundError
    (inputs); UnknownPartitionError, OutputExistsError, OutputWriteError (output);
    PreparationStoppedError (too many clips failed). Clips done by then are kept for another call.
    """
    _check_output(plan)
    table = read_labels(plan.labels, plan.dataset)
    faces = read_landmark_file(plan.landmarks) if plan.landmarks else None
    model = None if plan.landmarks else find_landmark_model()
    files = index_clips(plan.clips, table.clips)
    work = working_folder(plan.out, plan.partition)
    with _only_one(work):
        ids = pseudonymise([record.key for record in table.clips])
        write_ids(work, [record.key for record in table.clips], ids)
        planned = PlannedClips(plan, table.clips, ids, work, files, faces)
        _work_off(planned, model, begin, progress)
        manifest = _write_store(planned, table.coded_aus)
    return PreparationReport(
        manifest=manifest,
        total=len(table.clips),
        resumed=planned.resumed,
        failures=tuple(sorted(planned.failures, key=lambda failure: failure.clip)),
        notes=tuple(planned.notes),
        work=work,
    )


def _work_off(
    planned: PlannedClips,
    model: Path | None,
    begin: Callable[[int, int, int], None],
    progress: Callable[[bool], None],
) -> None:
    """Prepare what is to do; the list of failures is written however it ends."""
    rows, plan = planned.to_do, planned.plan
    begin(len(planned.records), planned.resumed, len(planned.failures))
    try:
        planned.check(left=len(rows))
        jobs = [planned.jobs[row] for row in rows]
        log = planned.work / _WORKERS_LOG
        with closing(prepared(jobs, workers=plan.workers, model=model, log=log)) as answers:
            for done, (position, error) in enumerate(answers, start=1):
                if error is not None:
                    planned.fail(rows[position], error)
                progress(error is None)
                planned.check(left=len(rows) - done)
    finally:
        write_failures(planned.work, planned.failures)


def _write_store(planned: PlannedClips, coded_aus: Sequence[int] | None) -> Manifest:
    """Put the results of all clips into the store, in the order of the label table."""
    plan = planned.plan
    rows = sorted(planned.jobs)
    results = [read_clip_result(planned.jobs[row].result) for row in rows]
    whole = [result for result in results if result is not None]
    if len(whole) < len(rows):
        raise OutputWriteError(
            f"{len(rows) - len(whole)} prepared clips are gone from {planned.work}. Call the same "
            "command again; it prepares them anew."
        )
    return write_feature_store(
        plan.store,
        partition=plan.partition,
        dataset=plan.dataset,
        synthetic=is_synthetic(plan.labels, plan.clips, plan.dataset),
        clips=store_labels(planned.records, planned.ids, rows, plan.rule),
        flow=np.stack([result.flow for result in whole]),
        rois=np.stack([result.rois for result in whole]),
        preprocessing=_provenance(plan, count_reasons(planned.failures)),
        coded_aus=[au for au in AUS if coded_aus is None or au in coded_aus],
        replace=plan.overwrite,
    )


def _provenance(plan: Preparation, failed: Mapping[str, int]) -> dict[str, Any]:
    """How the features were made; it travels with the store and names nobody."""
    detected = plan.landmarks is None
    return {
        "method": f"dense optical flow, onset to apex, on the aligned crop of {FLOW_CROP_SIZE} px",
        "flow": plan.flow,
        "flow_settings": FLOW_SETTINGS[plan.flow],
        "opencv": cv2.__version__,
        "crop_size": FLOW_CROP_SIZE,
        "alignment": "one similarity transform for both frames, from the eyes of the onset",
        "landmarks": "MediaPipe Face Landmarker, found twice" if detected else "precomputed",
        "landmark_model_sha256": MODEL_SHA256 if detected else "",
        "roi_source": "the clip's own 65 facial points",
        "class_rule": plan.rule,
        "missing_apex": plan.missing_apex,
        "failed": dict(failed),
        "flow_units": "pixels of the 28x28 grid, x right, y down, onset to apex",
        "roi_units": "pixels of the 128x128 grid, x right, y down, onset to apex",
    }


def _check_output(plan: Preparation) -> None:
    if not re.fullmatch(PARTITION_PATTERN, plan.partition):
        raise UnknownPartitionError(
            f"--partition {plan.partition!r} cannot be a partition's name: 1 to 64 letters, "
            "digits, dashes and underscores, such as dfme_c3."
        )
    if os.path.lexists(plan.store) and not plan.overwrite:
        raise OutputExistsError(
            f"{plan.store} is already there and was left as it is. Give another --partition or "
            "--out, or replace it with --overwrite."
        )


@contextmanager
def _only_one(work: Path) -> Iterator[None]:
    """Keep a second preparation out of the working folder while this one runs."""
    try:
        (work / RESULTS_NAME).mkdir(mode=0o700, exist_ok=True)
        # The lock goes when its holder does, however that ends.
        lock = os.open(work / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise OutputWriteError(
            f"{work} cannot be written: {error.strerror or error}. Check free space and "
            "permissions, or give another place with --out."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OutputExistsError(
            f"Another `fedpsyau data prepare` works in {work}. Wait until it has ended, or give "
            "another --partition."
        ) from None
    finally:
        os.close(lock)
