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


class UnknownPartitionError(FedPsyAUError):
    """A partition name is not one of the federation's sites."""

    exit_code = 20


class JoinRefusedError(FedPsyAUError):
    """The server and a site do not agree on version, schema or settings."""

    exit_code = 21


class NameTakenError(FedPsyAUError):
    """Another client already takes part under this partition name."""

    exit_code = 22


class AddressInUseError(FedPsyAUError):
    """The port that the server should listen on is taken."""

    exit_code = 30


class ServerUnreachableError(FedPsyAUError):
    """No server answers at the address given."""

    exit_code = 31


class InsecureTransportError(FedPsyAUError):
    """Plaintext was asked for beyond this machine."""

    exit_code = 32


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


#: Exit code of a command that was stopped with Ctrl-C or SIGTERM before it was done.
INTERRUPTED = 130
