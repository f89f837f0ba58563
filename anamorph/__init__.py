"""A client of the Anamorph service, on httpx: `from anamorph import Client, AsyncClient`.

It needs nothing of the service's own code, and Pillow only for Pillow's images.
"""

from anamorph.answers import Anonymized, Answer, Face, Restored
from anamorph.client import AsyncClient, Client
from anamorph.errors import (
    AnamorphError,
    Busy,
    Conflict,
    Forbidden,
    GateRefused,
    Invalid,
    NoFace,
    NotFound,
    NotReady,
    TooLarge,
    Unauthenticated,
    UnexpectedAnswer,
    Unreachable,
    WrongPasscode,
)
from anamorph.events import Event
from anamorph.pictures import PictureFile
from anamorph.records import (
    Dataset,
    DatasetDetails,
    Job,
    JobDetails,
    JobFailure,
    Limits,
    Model,
    ModelDetails,
    Progress,
    Readiness,
    Version,
)

__all__ = [
    "AnamorphError",
    "Anonymized",
    "Answer",
    "AsyncClient",
    "Busy",
    "Client",
    "Conflict",
    "Dataset",
    "DatasetDetails",
    "Event",
    "Face",
    "Forbidden",
    "GateRefused",
    "Invalid",
    "Job",
    "JobDetails",
    "JobFailure",
    "Limits",
    "Model",
    "ModelDetails",
    "NoFace",
    "NotFound",
    "NotReady",
    "PictureFile",
    "Progress",
    "Readiness",
    "Restored",
    "TooLarge",
    "Unauthenticated",
    "UnexpectedAnswer",
    "Unreachable",
    "Version",
    "WrongPasscode",
]
