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

from fedpsyau_client.feature_store import Manifest, write_feature_store
from fedpsyau_client.labels.class_rules import ClassRule
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.manifest import PARTITION_PATTERN
from fedpsyau_client.preparation.alignment import FLOW_CROP_SIZE
from fedpsyau_client.preparation.clip_files import ClipFiles, index_clips
from fedpsyau_client.preparation.clip_job import FEATURES_VERSION, ClipJob, source_stamp, stamp
from fedpsyau_client.preparation.clip_labels import (
    MissingApex,
    is_synthetic,
    onset_and_apex,
    read_labels,
    store_labels,
)
from fedpsyau_client.preparation.clip_result import read_clip_result
from fedpsyau_client.preparation.face_points import FacePoints
from fedpsyau_client.preparation.failures import (
    Failure,
    check_failures,
    count_reasons,
    write_failures,
)
from fedpsyau_client.preparation.landmark_file import read_landmark_file
from fedpsyau_client.preparation.landmark_model import MODEL_SHA256, find_landmark_model
from fedpsyau_client.preparation.optical_flow import FLOW_SETTINGS, FlowMethod
from fedpsyau_client.preparation.worker_pool import prepared
from fedpsyau_client.pseudonyms import ClipKey, Pseudonyms, pseudonymise, working_folder, write_ids
from fedpsyau_model.errors import (
    ClipError,
    LandmarksMissingError,
    OutputExistsError,
    OutputWriteError,
    UnknownPartitionError,
)

__all__ = ["Preparation", "PreparationReport", "prepare"]

_RESULTS: Final = "clips"
_LOCK: Final = "lock"
_WORKERS_LOG: Final = "workers.log"


@dataclass(frozen=True)
class Preparation:
    """What to prepare and how.

    out: data folder; the store becomes ``out / partition``.
    first_frame: number of the first frame of a video, 0 or 1.
    landmarks: file of precomputed landmarks; else the landmark model finds them.
    max_failures: share of the clips above which the preparation stops.
    """

    dataset: str
    labels: Path
    clips: Path
    out: Path
    partition: str
    flow: FlowMethod = "tvl1"
    rule: ClassRule = "authors"
    missing_apex: MissingApex = "skip"
    first_frame: int = 1
    landmarks: Path | None = None
    max_failures: float = 0.2
    workers: int = 1
    overwrite: bool = False

    @property
    def store(self) -> Path:
        """Folder of the feature store."""
        return self.out / self.partition


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
        planned = _Planned(plan, table.clips, ids, work, files, faces)
        _work_off(planned, model, begin, progress)
        manifest = _write_store(planned)
    return PreparationReport(
        manifest=manifest,
        total=len(table.clips),
        resumed=planned.resumed,
        failures=tuple(sorted(planned.failures, key=lambda failure: failure.clip)),
        notes=tuple(planned.notes),
        work=work,
    )


class _Planned:
    """Every clip's job, or why there is none."""

    def __init__(
        self,
        plan: Preparation,
        records: Sequence[ClipRecord],
        ids: Pseudonyms,
        work: Path,
        files: ClipFiles,
        faces: Mapping[ClipKey, FacePoints] | None,
    ) -> None:
        self.plan, self.records, self.ids, self.work = plan, records, ids, work
        self.jobs: dict[int, ClipJob] = {}
        self.failures: list[Failure] = []
        self.notes: list[str] = []
        for row, record in enumerate(records):
            try:
                self.jobs[row] = self._job(record, files, faces)
            except ClipError as error:
                self.fail(row, error)
        self.to_do = [row for row, job in self.jobs.items() if not read_clip_result(job.result)]
        self.resumed = len(self.jobs) - len(self.to_do)

    def fail(self, row: int, error: ClipError) -> None:
        """Note that a clip could not be prepared."""
        self.jobs.pop(row, None)
        self.failures.append(Failure(self.records[row], str(self.ids.clip[row]), error))

    def check(self, left: int) -> None:
        """Stop where too many have failed; `left` clips are yet to do."""
        total = len(self.records)
        check_failures(self.failures, total - left, total, self.plan.max_failures, self.work)

    def _job(
        self, record: ClipRecord, files: ClipFiles, faces: Mapping[ClipKey, FacePoints] | None
    ) -> ClipJob:
        plan = self.plan
        onset, apex = onset_and_apex(record, plan.missing_apex)
        found = files.find(record)
        if found.oddity:
            self.notes.append(f"row {record.row}: {found.oddity}")
        face = None if faces is None else _face_of(record, faces)
        name = stamp(
            {
                "version": FEATURES_VERSION,
                "opencv": cv2.__version__,
                "flow": plan.flow,
                "landmarks": MODEL_SHA256 if face is None else _numbers(face),
                "clip": record.key,
                "frames": [onset, apex, plan.first_frame],
                "source": source_stamp(found.path, onset, apex, plan.first_frame),
            }
        )
        result = self.work / _RESULTS / f"{name}.npz"
        return ClipJob(found.path, onset, apex, plan.first_frame, plan.flow, face, result)


def _work_off(
    planned: _Planned,
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


def _write_store(planned: _Planned) -> Manifest:
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
        synthetic=is_synthetic(plan.labels, plan.dataset),
        clips=store_labels(planned.records, planned.ids, rows, plan.rule),
        flow=np.stack([result.flow for result in whole]),
        rois=np.stack([result.rois for result in whole]),
        preprocessing=_provenance(plan, count_reasons(planned.failures)),
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
        (work / _RESULTS).mkdir(mode=0o700, exist_ok=True)
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


def _face_of(record: ClipRecord, faces: Mapping[ClipKey, FacePoints]) -> FacePoints:
    if face := faces.get(record.key):
        return face
    raise LandmarksMissingError(
        f"The landmark file has no row for subject {record.subject!r}, file {record.filename!r}, "
        f"onset {record.onset}. Add it, or leave the clip out."
    )


def _numbers(face: FacePoints) -> list[float]:
    return [float(value) for value in np.concatenate([face.eyes, face.points]).ravel()]
