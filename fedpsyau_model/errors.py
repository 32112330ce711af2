"""Every failure that a user can cause, one type each, with the exit code of the command line.

A message says what happened, where, and what to do. The page docs/exit-codes.md lists the codes;
a test keeps it equal to this file.
"""

from __future__ import annotations

from typing import ClassVar


class FedPsyAUError(Exception):
    """A failure with a known cause and a known cure; printed without a traceback."""

    exit_code: ClassVar[int] = 1


class SettingsError(FedPsyAUError):
    """A setting is unknown or has a wrong value."""

    exit_code = 3


class DataNotFoundError(FedPsyAUError):
    """A data folder or file is missing."""

    exit_code = 10


class DataDamagedError(FedPsyAUError):
    """A feature store is truncated, edited, or holds values that cannot be used."""

    exit_code = 11


class SchemaMismatchError(FedPsyAUError):
    """Data or a message was written under another schema version."""

    exit_code = 12


class LabelTableError(FedPsyAUError):
    """A label table cannot be read or does not fit what was asked of it."""

    exit_code = 13


class OutputExistsError(FedPsyAUError):
    """An output is already there and would be overwritten."""

    exit_code = 14


class OutputWriteError(FedPsyAUError):
    """An output cannot be written: the disk is full, or the place may not be written to."""

    exit_code = 15


class TooFewSubjectsError(FedPsyAUError):
    """There are fewer subjects than a split by subject needs."""

    exit_code = 16


class LabelOdditiesError(FedPsyAUError):
    """A label table has oddities that lose clips or parts of labels, and none were to be there."""

    exit_code = 17


class FlowSourceError(FedPsyAUError):
    """Flow images, or an archive of flow, cannot be read or are not what they were said to be."""

    exit_code = 18


class UnknownPartitionError(FedPsyAUError):
    """A partition name is not one of the federation's sites."""

    exit_code = 20


class JoinRefusedError(FedPsyAUError):
    """The server and a site do not agree on version, schema or settings."""

    exit_code = 21


class NameTakenError(FedPsyAUError):
    """Another client already takes part under this partition name."""

    exit_code = 22


class NameNotYoursError(FedPsyAUError):
    """A client introduced itself under a name that its key does not belong to."""

    exit_code = 23


class AddressInUseError(FedPsyAUError):
    """The port that the server should listen on is taken."""

    exit_code = 30


class ServerUnreachableError(FedPsyAUError):
    """No server answers at the address given."""

    exit_code = 31


class InsecureTransportError(FedPsyAUError):
    """Plaintext was asked for beyond this machine."""

    exit_code = 32


class TransportMismatchError(FedPsyAUError):
    """One side speaks TLS and the other plaintext."""

    exit_code = 33


class ServerNotTrustedError(FedPsyAUError):
    """The server's certificate is from another authority, or for another name."""

    exit_code = 34


class CertificateDatesError(FedPsyAUError):
    """A certificate has expired, or is not valid yet by this machine's clock."""

    exit_code = 35


class ClockSkewError(FedPsyAUError):
    """The clocks of this machine and the server differ too much."""

    exit_code = 36


class KeyRefusedError(FedPsyAUError):
    """The server does not know this site's key: it was never registered, replaced or revoked."""

    exit_code = 37


class KeyInUseError(FedPsyAUError):
    """Another client is connected with the same key."""

    exit_code = 38


class QuorumError(FedPsyAUError):
    """Fewer sites take part than the federation needs."""

    exit_code = 40


class RunFolderError(FedPsyAUError):
    """A run folder cannot be read or written."""

    exit_code = 41


class FlowerRuntimeError(FedPsyAUError):
    """A Flower process ended, or answered in a way that this version does not know."""

    exit_code = 42


class RunsDifferError(FedPsyAUError):
    """Two runs differ in what must be equal, to compare them or to go on with one."""

    exit_code = 43


class FoldProcessError(FedPsyAUError):
    """A process that trained a fold ended without a result."""

    exit_code = 44


class RunFolderInUseError(FedPsyAUError):
    """Another server works in the same run folder."""

    exit_code = 45


class MetricsAddressError(FedPsyAUError):
    """The address for health and metrics is taken, or not this machine's."""

    exit_code = 46


class WeightsMismatchError(FedPsyAUError):
    """Weights do not fit the network that they should go into."""

    exit_code = 50


class TrainingDivergedError(FedPsyAUError):
    """The loss of local training is no longer a finite number."""

    exit_code = 51


class CheckpointError(FedPsyAUError):
    """A checkpoint is missing or damaged."""

    exit_code = 52


class SubjectOverlapError(FedPsyAUError):
    """Stores that must not share a subject or a clip do."""

    exit_code = 53


class NoLabelledClipsError(FedPsyAUError):
    """No clip has the labels that the work needs."""

    exit_code = 54


class SiteCardError(FedPsyAUError):
    """A site card in a run folder cannot be read, or belongs to no site of the run."""

    exit_code = 57


class LandmarkModelError(FedPsyAUError):
    """The face landmark model is missing, damaged, or cannot be fetched."""

    exit_code = 60


class LandmarkFileError(FedPsyAUError):
    """A file of precomputed landmarks cannot be read or does not fit."""

    exit_code = 61


class PreparationStoppedError(FedPsyAUError):
    """Too many clips could not be prepared, or none could."""

    exit_code = 62


class ClipError(FedPsyAUError):
    """One clip cannot be prepared."""

    exit_code = 63


class ClipNotFoundError(ClipError):
    """No file or folder of a clip was found."""

    exit_code = 64


class ClipAmbiguousError(ClipError):
    """Several files or folders could be a clip."""

    exit_code = 65


class FrameUnknownError(ClipError):
    """A label table gives a clip no usable onset or apex."""

    exit_code = 66


class FrameMissingError(ClipError):
    """A clip does not have the frame that its label names."""

    exit_code = 67


class FrameUnreadableError(ClipError):
    """A video or image cannot be read."""

    exit_code = 68


class FrameSizeError(ClipError):
    """A frame is too small or too large, or onset and apex differ in size."""

    exit_code = 69


class NoFaceError(ClipError):
    """No face was found in the onset frame."""

    exit_code = 70


class SeveralFacesError(ClipError):
    """Several faces of similar size were found in the onset frame."""

    exit_code = 71


class FaceAlignmentError(ClipError):
    """A face is too small, or its landmarks make no sense."""

    exit_code = 72


class LandmarksMissingError(ClipError):
    """A file of precomputed landmarks has none for a clip."""

    exit_code = 73


class WorkerDiedError(ClipError):
    """The process that prepared a clip died or did not answer."""

    exit_code = 74


class FlowNumbersError(ClipError):
    """A clip's imported flow holds numbers that cannot be motion."""

    exit_code = 75


class PriorsFileError(FedPsyAUError):
    """A file of priors cannot be read, or its matrices cannot be what they should be."""

    exit_code = 80


class NoPriorError(FedPsyAUError):
    """The clips or answers given are too few for a prior to follow from them."""

    exit_code = 81


class StudyResponsesError(FedPsyAUError):
    """A psychology study's responses are incomplete, repeated, or contradict each other."""

    exit_code = 82


class KitError(FedPsyAUError):
    """A kit is missing, incomplete, or its files do not fit together."""

    exit_code = 90


class PrivateKeyError(FedPsyAUError):
    """A private key is missing, cannot be read, or is of the wrong kind."""

    exit_code = 91


class KeyPermissionsError(FedPsyAUError):
    """A private key can be read by other users of this machine."""

    exit_code = 92


class ExperimentDataError(FedPsyAUError):
    """An experiment cannot be done with the data that were given."""

    exit_code = 100


class CellProcessError(FedPsyAUError):
    """A process that ran a cell of an experiment ended without a result."""

    exit_code = 101


class RecogniserError(FedPsyAUError):
    """A model file is damaged, of another kind, or lacks what a prediction needs."""

    exit_code = 110


class PreprocessingMismatchError(FedPsyAUError):
    """A model has learnt from motion that was measured in another way than is asked for."""

    exit_code = 111


class VideoTooShortError(FedPsyAUError):
    """A video has too few frames to hold an onset and an apex."""

    exit_code = 112


class OnsetApexError(FedPsyAUError):
    """The onset and apex that were given cannot be those of one expression."""

    exit_code = 113


class VideoWriteError(FedPsyAUError):
    """The annotated copy of a video cannot be written, or does not read back whole."""

    exit_code = 114


class PolicyRefusedError(FedPsyAUError):
    """The server asks for something that this site's policy does not allow."""

    exit_code = 120


class BundleRefusedError(FedPsyAUError):
    """The server's run brings a bundle that carries code."""

    exit_code = 121


class RequestRefusedError(FedPsyAUError):
    """The server's request makes no sense: its size, its numbers or its round."""

    exit_code = 122


class AuditLogError(FedPsyAUError):
    """The audit log cannot be written, so nothing may leave the site."""

    exit_code = 123


class AuditChainError(FedPsyAUError):
    """The audit log is not what was written: a line was changed, taken out or put in."""

    exit_code = 124


#: Exit code of a command that was stopped with Ctrl-C or SIGTERM before it was done.
INTERRUPTED = 130


class SiteStateError(FedPsyAUError):
    """A site cannot write its own state: its disk is full, or the folder may not be written to."""

    exit_code = 93
