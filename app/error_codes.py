"""The status and the stable code of every error of the project.

Also of those that end a training job: a client branches on the same codes.
"""

from __future__ import annotations

from typing import NamedTuple

from app import errors
from models import errors as model_errors
from models.errors import AnamorphError


class Kind(NamedTuple):
    """How one class of error looks over HTTP."""

    status: int
    code: str
    title: str


KINDS: dict[type[AnamorphError], Kind] = {
    AnamorphError: Kind(400, "bad_request", "The request cannot be answered"),
    errors.ServiceError: Kind(400, "bad_request", "The request cannot be answered"),
    errors.Unauthenticated: Kind(401, "unauthenticated", "A key is needed"),
    errors.ScopeMissing: Kind(403, "scope_missing", "The key is not for this"),
    errors.ForeignPage: Kind(403, "foreign_page", "Another site's page may not do this"),
    errors.WrongHost: Kind(421, "wrong_host", "The service is not called that"),
    errors.NameTaken: Kind(409, "name_taken", "The name is taken"),
    errors.KeysUnavailable: Kind(503, "keys_unavailable", "The keys cannot be checked"),
    errors.BadMultipart: Kind(400, "bad_multipart", "The multipart body does not parse"),
    errors.MissingImage: Kind(422, "missing_image", "No image in the request"),
    errors.SeveralImages: Kind(422, "several_images", "More than one image in the request"),
    errors.InvalidParameter: Kind(422, "invalid_parameter", "A parameter is not valid"),
    errors.WrongTask: Kind(422, "wrong_task", "The model serves another endpoint"),
    errors.NotAcceptable: Kind(406, "not_acceptable", "No acceptable answer format"),
    errors.UnsupportedEncoding: Kind(
        415, "unsupported_encoding", "The body must not be compressed"
    ),
    errors.UploadTooLarge: Kind(413, "upload_too_large", "The upload is too large"),
    errors.UploadTimeout: Kind(408, "upload_timeout", "The upload took too long"),
    errors.DatasetNotFound: Kind(404, "dataset_not_found", "No such dataset"),
    errors.DatasetInUse: Kind(409, "dataset_in_use", "The dataset is in use"),
    errors.StorageFull: Kind(507, "storage_full", "The disk is full"),
    errors.NoFace: Kind(422, "no_face", "No face was found"),
    errors.InvalidPasscode: Kind(422, "invalid_passcode", "The passcode is not valid"),
    errors.NoSeal: Kind(422, "no_seal", "The picture carries no sealed faces"),
    errors.DamagedSeal: Kind(422, "damaged_seal", "The sealed picture was altered"),
    errors.WrongPasscode: Kind(403, "wrong_passcode", "The passcode is wrong"),
    errors.ClientLeft: Kind(499, "client_left", "The client closed the connection"),
    errors.TakesTooLong: Kind(413, "takes_too_long", "The picture would take too long"),
    errors.DeadlineExceeded: Kind(504, "deadline_exceeded", "The answer took too long"),
    errors.JobNotFound: Kind(404, "job_not_found", "No such training job"),
    errors.JobConflict: Kind(409, "job_conflict", "The job is not in a state for that"),
    errors.JobsUnavailable: Kind(503, "jobs_unavailable", "The queue of jobs does not answer"),
    errors.Busy: Kind(503, "busy", "The service is busy"),
    errors.QueueFull: Kind(503, "queue_full", "The queue is full"),
    errors.MemoryFull: Kind(503, "memory_full", "Too many large pictures are under way"),
    errors.TooManyAttempts: Kind(429, "too_many_attempts", "Too many attempts"),
    errors.RateLimited: Kind(429, "rate_limited", "Too many requests"),
    errors.NotReady: Kind(503, "not_ready", "The service is not ready"),
    model_errors.ImageError: Kind(422, "unusable_image", "The image cannot be used"),
    model_errors.UnsupportedImage: Kind(415, "unsupported_image", "The format is not taken"),
    model_errors.CorruptImage: Kind(422, "corrupt_image", "The image does not decode"),
    model_errors.ImageTooLarge: Kind(413, "image_too_large", "The image is too large"),
    model_errors.ModelError: Kind(422, "unusable_model", "The model cannot be used"),
    model_errors.UnknownLayout: Kind(422, "unknown_layout", "The checkpoint's layout is not known"),
    model_errors.InvalidCheckpoint: Kind(422, "invalid_checkpoint", "The checkpoint is damaged"),
    model_errors.ModelNotFound: Kind(404, "model_not_found", "No such model"),
    model_errors.ModelProtected: Kind(409, "model_protected", "The version must stay"),
    model_errors.GateRefused: Kind(409, "gate_refused", "The version did not pass"),
    model_errors.TrainingError: Kind(422, "training_error", "The training cannot run"),
    model_errors.InvalidRecipe: Kind(422, "invalid_recipe", "The recipe is not valid"),
    model_errors.InvalidDataset: Kind(422, "invalid_dataset", "The dataset cannot be used"),
    model_errors.MissingFeatures: Kind(
        409, "missing_features", "Weights that this needs are missing"
    ),
    model_errors.DivergedTraining: Kind(422, "diverged_training", "The training diverged"),
}

INTERNAL = Kind(500, "internal_error", "Something went wrong here")
OUT_OF_MEMORY = Kind(503, "out_of_memory", "The device ran out of memory")


def kind_of(error: AnamorphError) -> Kind:
    """Return the table's entry for the error's class or its nearest base."""
    return next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)
