"""The settings of a server, for one process and for replicas on Ray."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from vocoders.config import Config
from vocoders.inference.synthesis import BackendName
from vocoders.server.requests import Limits
from vocoders.server.scheduler import DEFAULT_BATCH


class Settings(Config):
    """What a server serves: options of ``vocoders serve``, arguments of ``serve run`` and of a Serve config file."""

    models: list[str] = Field([], description="as for vocode -m; default: the built-in model")
    replicas: str = Field("1", description="with Ray: number of replicas, such as 2, or MIN-MAX, such as 1-4")
    threads: int = Field(1, gt=0, description="with Ray: CPUs of a replica")
    device: str = Field("cpu", description="the device of the models; a replica on cuda takes one GPU")
    backend: BackendName | None = Field(None, description="what runs a built-in model: onnx or torch")
    token_file: Path | None = Field(None, description="holds the bearer token that clients must send")
    allow_hosts: list[str] = Field([], description="names that requests may be sent to and pages may be of")
    max_requests: int = Field(64, gt=0, description="requests at a time, of a replica")
    max_batch: int | None = Field(None, gt=0, description="waiting requests in one batch")
    max_body: int = Field(64, gt=0, description="MiB of a request's body")
    max_seconds: float = Field(600.0, gt=0, description="seconds of audio of a request")
    timeout: float = Field(120.0, gt=0, description="seconds to wait for audio or a client")

    @field_validator("models", "allow_hosts", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("replicas", mode="before")
    @classmethod
    def _range(cls, value: Any) -> str:
        text = str(value)
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]):
            raise ValueError("must be a number, such as 2, or a range, such as 1-4")
        return text

    @property
    def fewest(self) -> int:
        """Number of replicas without requests."""
        return int(self.replicas.partition("-")[0])

    @property
    def limits(self) -> Limits:
        return Limits(self.max_body * 2**20, self.max_seconds, self.timeout)

    @property
    def gpus(self) -> int:
        """GPUs per replica."""
        return int(self.device.startswith("cuda"))

    @property
    def scaling(self) -> dict[str, Any]:
        """Ray Serve's options for the number of replicas."""
        low, _, high = self.replicas.partition("-")
        if not high:
            return {"num_replicas": int(low)}
        at_once = self.max_batch or (DEFAULT_BATCH if self.gpus else 1)
        target = 2 * at_once  # one batch runs, the next waits
        return {
            "autoscaling_config": {
                "min_replicas": int(low),
                "max_replicas": int(high),
                "target_ongoing_requests": target,
            }
        }
