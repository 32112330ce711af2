"""What to prepare, and every clip's job, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from fedpsyau_client.labels.class_rules import ClassRule
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.preparation.clip_files import ClipFiles
from fedpsyau_client.preparation.clip_job import FEATURES_VERSION, ClipJob, source_stamp, stamp
from fedpsyau_client.preparation.clip_labels import MissingApex, onset_and_apex
from fedpsyau_client.preparation.clip_result import read_clip_result
from fedpsyau_client.preparation.face_points import FacePoints
from fedpsyau_client.preparation.failures import Failure, check_failures
from fedpsyau_client.preparation.landmark_model import MODEL_SHA256
from fedpsyau_client.preparation.optical_flow import FlowMethod
from fedpsyau_client.store.pseudonyms import ClipKey, Pseudonyms
from fedpsyau_model.errors import ClipError, LandmarksMissingError

__all__ = ["RESULTS_NAME", "PlannedClips", "Preparation"]

#: Folder of prepared clips in the working folder.
RESULTS_NAME: Final = "clips"


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


class PlannedClips:
    """Every clip's job, or why there is none.

    records, ids: of all clips of the label table. jobs: by row, of the clips that have not failed.
    to_do: rows whose clips are not prepared yet; resumed: how many were before.
    """

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
        to_do = [row for row, job in self.jobs.items() if not read_clip_result(job.result)]
        self.resumed = len(self.jobs) - len(to_do)
        #: Rows without a result, clips of one video one after the other: see `VideoReader`.
        self.to_do = sorted(to_do, key=self._place)

    def fail(self, row: int, error: ClipError) -> None:
        """Note that a clip could not be prepared."""
        self.jobs.pop(row, None)
        self.failures.append(Failure(self.records[row], str(self.ids.clip[row]), error))

    def check(self, left: int) -> None:
        """Stop where too many have failed; `left` clips are yet to do."""
        total = len(self.records)
        check_failures(self.failures, total - left, total, self.plan.max_failures, self.work)

    def _place(self, row: int) -> tuple[str, int, int]:
        job = self.jobs[row]
        return str(job.path), job.onset, job.apex

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
        result = self.work / RESULTS_NAME / f"{name}.npz"
        return ClipJob(found.path, onset, apex, plan.first_frame, plan.flow, face, result)


def _face_of(record: ClipRecord, faces: Mapping[ClipKey, FacePoints]) -> FacePoints:
    if face := faces.get(record.key):
        return face
    raise LandmarksMissingError(
        f"The landmark file has no row for subject {record.subject!r}, file {record.filename!r}, "
        f"onset {record.onset}. Add it, or leave the clip out."
    )


def _numbers(face: FacePoints) -> list[float]:
    return [float(value) for value in np.concatenate([face.eyes, face.points]).ravel()]
