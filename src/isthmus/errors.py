"""Every error a user can meet, as one tree.

::

    IsthmusError
    ├── JobError                 the job file, or what it asks for, is wrong
    │   └── JobMismatch          the parties hold different jobs
    ├── DataError                a table cannot be used as the job says
    │   ├── SchemaError          a column or its kind is wrong
    │   └── SourceError          a public data set cannot be had or is not the expected one
    ├── IdentityError            a key or certificate is missing, broken or expired
    ├── AlignError               the ids cannot be aligned
    ├── TrainError               training cannot go on
    │   ├── NotFinite            NaN or infinity where a number must be
    │   └── ShapeMismatch        a cut tensor has another shape than agreed
    ├── MetricError              a metric has no value on these labels and scores
    ├── StorageError             a file cannot be written or is corrupt
    ├── Stopped                  the user stopped this party
    └── LinkError                the line to a partner failed
        ├── PartnerAbsent        the partner never came
        ├── PartnerGone          the partner was there and is not any more
        ├── PartnerFailed        the partner stopped with an error of its own
        ├── PartnerSlow          the partner is connected but sent nothing in time
        ├── VersionMismatch      the partner speaks another version of the protocol
        ├── UntrustedPartner     the partner's certificate is not one we trust
        └── BadMessage           the partner sent something malformed

An error has a stable `code`, a message that says what is wrong, and a `mend` that says what to do.
What a *partner* is told is `public` alone, a fixed sentence per class: a message may name a column
or a file, a partner must not learn it.
"""

from __future__ import annotations

from typing import ClassVar


class IsthmusError(Exception):
    """Base of all errors that are explained to the user without a traceback."""

    code: ClassVar[str] = "error"
    public: ClassVar[str] = "stopped with an unexpected error"

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        if not self.mend:
            return self.message
        return f"{self.message.rstrip('.')}. {self.mend}"


class JobError(IsthmusError):
    """The job file, or what it asks for, is wrong."""

    code = "job"
    public = "its job file is not valid"


class JobMismatch(JobError):
    """The parties hold different jobs (their canonical hashes differ)."""

    code = "job.mismatch"
    public = "holds a different job"


class DataError(IsthmusError):
    """A table cannot be used as the job says."""

    code = "data"
    public = "its table cannot be used as the job says"


class SchemaError(DataError):
    """A column is missing or is not of the kind the schema says."""

    code = "data.schema"
    public = "its table does not fit the job's schema"


class SourceError(DataError):
    """A public data set cannot be had, or is not the expected one."""

    code = "data.source"
    public = "a data set could not be fetched"


class IdentityError(IsthmusError):
    """A key or certificate is missing, broken or expired."""

    code = "identity"
    public = "its identity or a trusted certificate cannot be used"


class AlignError(IsthmusError):
    """The ids cannot be aligned (duplicates, nulls, nothing in common)."""

    code = "align"
    public = "its ids cannot be aligned"


class TrainError(IsthmusError):
    """Training cannot go on."""

    code = "train"
    public = "training could not go on"


class NotFinite(TrainError):
    """A loss, cut tensor or gradient holds NaN or infinity."""

    code = "train.not-finite"
    public = "met NaN or infinity in training"


class ShapeMismatch(TrainError):
    """A cut tensor or gradient has another shape than agreed."""

    code = "train.shape"
    public = "met a tensor of an unexpected shape"


class MetricError(IsthmusError):
    """A metric has no value: one class only, NaN, no rows, or labels other than 0 and 1."""

    code = "metric"
    public = "could not evaluate the model"


class StorageError(IsthmusError):
    """A file cannot be written (disk full, no permission) or is corrupt."""

    code = "storage"
    public = "could not write or read its files"


class Stopped(IsthmusError):
    """The user stopped this party: Ctrl-C, or a request to end."""

    code = "stopped"
    public = "was stopped by its user"


class LinkError(IsthmusError):
    """The line to a partner failed."""

    code = "link"
    public = "lost its line"


class PartnerAbsent(LinkError):
    """The partner did not come before the deadline."""

    code = "link.absent"
    public = "waited for a partner that did not come"


class PartnerGone(LinkError):
    """The partner was connected and has been out of reach for too long."""

    code = "link.gone"
    public = "lost a partner"


class PartnerFailed(LinkError):
    """The partner stopped with an error of its own and said so."""

    code = "link.failed"
    public = "stopped because a partner failed"
    partner_code: str = ""
    """The code of the partner's own error."""


class PartnerSlow(LinkError):
    """The partner is connected, but the awaited message did not come before the deadline."""

    code = "link.slow"
    public = "waited too long for a message"


class VersionMismatch(LinkError):
    """The partner speaks another version of the wire protocol."""

    code = "link.version"
    public = "speaks another protocol version"


class UntrustedPartner(LinkError):
    """The partner's certificate is not one we trust, or it does not trust ours."""

    code = "link.untrusted"
    public = "does not trust a certificate"


class BadMessage(LinkError):
    """The partner sent something that is not a valid message, or not one that belongs here."""

    code = "link.bad-message"
    public = "received a malformed message"


def code_of(error: BaseException) -> str:
    """The stable code of any exception; `"error"` for one that is not ours."""
    return _kind_of(error).code


def public_reason(error: BaseException) -> str:
    """What a partner may be told about an error: never the message, which may name data."""
    return _kind_of(error).public


def _kind_of(error: BaseException) -> type[IsthmusError]:
    if isinstance(error, IsthmusError):
        return type(error)
    # What Ctrl-C and a request to end raise in Python.
    return Stopped if isinstance(error, KeyboardInterrupt | SystemExit) else IsthmusError
