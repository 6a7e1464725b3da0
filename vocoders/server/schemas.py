"""Schemas of bodies and responses, which /openapi.json describes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from vocoders.facts import Facts
from vocoders.server.registry import F0Use


class Problem(BaseModel):
    """The reason why a request was refused."""

    detail: str


class Difference(BaseModel):
    """The values of one field of two mel configs."""

    model: str | float
    request: str | float


class Mismatch(Problem):
    """The refusal of a mel of another mel config, with the fields in which the two differ."""

    differences: dict[str, Difference]


class ModelInfo(BaseModel):
    """Facts about a model for clients."""

    name: str
    default: bool
    sample_rate: int = Field(description="Hz")
    mel_config: str
    f0: F0Use = Field(description="required: a request must bring F0; estimated: it may; not used: it is ignored")
    lookahead: int | None = Field(
        description="frames that must follow a frame before its audio is final; null for a model that cannot stream"
    )
    facts: Facts


class Health(BaseModel):
    """The state of the server."""

    status: str = Field(description="ok; closing: finishes admitted requests, takes no new ones")
    active_requests: int = Field(description="requests being served, waiting ones included")
    max_requests: int


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of refusals that FastAPI takes for a route."""
    return {status: {"model": Mismatch if status == 409 else Problem} for status in statuses}


# OpenAPI schema of a request body.
BODY_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["mel"],
                    "additionalProperties": {
                        "description": "another input of the model, by its name in facts.inputs of /models: numbers of "
                        "the shape (channels, length), without axes of 1",
                        "type": ["array", "null"],
                    },
                    "properties": {
                        "mel": {
                            "description": "n_mels lists of one number a frame",
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "array", "minItems": 1, "items": {"type": "number"}},
                        },
                        "f0": {
                            "description": "F0 in Hz, one number a frame, 0 = unvoiced",
                            "type": ["array", "null"],
                            "items": {"type": "number", "minimum": 0},
                        },
                        "mel_config": {
                            "description": "the mel config of the mel: a name, or the fields that /mel-config gives",
                            "type": ["string", "object", "null"],
                        },
                    },
                }
            },
            "application/octet-stream": {
                "schema": {
                    "description": ".npy, or .npz with the array mel and inputs of the model, such as f0, by name",
                    "type": "string",
                    "format": "binary",
                }
            },
        },
    }
}
