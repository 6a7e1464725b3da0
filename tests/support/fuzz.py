"""Damage files for every reader; input N of a kind is always equal: python -m tests.support.fuzz npz 17

With only the number of inputs, reads them all in this process, within limits of memory and time. Prints a line of JSON
before each input, and for each that ends neither in a result nor in a sentence.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
import yaml

from recipes.training.recipe import load_recipe
from tests.support import models
from tests.support.server import SMALL
from vocoders.checkpoint import load_checkpoint, save_checkpoint
from vocoders.errors import VocoderError
from vocoders.importers.files import read_config, read_stats, read_weights
from vocoders.inference.vocoder import Vocoder
from vocoders.inputs import F0
from vocoders.io.audio import AUDIO_SUFFIXES, encode_audio, read_audio
from vocoders.io.mels import decode_mel, encode_mel, read_inputs
from vocoders.onnx.vocoder import OnnxVocoder
from vocoders.server.registry import ServedModel
from vocoders.server.requests import Limits, RequestError, Target, analyze_body, decoded_bytes

MEMORY = 2**30  # bytes beyond the process's start
SECONDS = 20  # for one input, on a busy machine


class Kind(NamedTuple):
    """A kind of file: ``read`` checks its result, ``share`` is its part of all inputs."""

    share: float
    suffix: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]


def _saved(save: Callable[[Path], object], folder: Path) -> bytes:
    path = folder / "seed"
    save(path)
    return path.read_bytes()


def _arrays(folder: Path) -> list[bytes]:
    mel = models.mel(9)[0].numpy()
    arrays = [mel, mel.astype(np.float16).T, mel.astype(">f8"), np.arange(6), np.array(1.0)]
    return [_saved(lambda path, array=array: np.save(path.open("wb"), array), folder) for array in arrays]  # type: ignore[misc]


def _archives(folder: Path) -> list[bytes]:
    packed = io.BytesIO()
    mel = models.mel(9)[0].numpy()
    np.savez_compressed(packed, mel=mel, f0=np.zeros(9))
    return [encode_mel(mel, models.MEL_CONFIG, "npz"), packed.getvalue()]


def _sounds(folder: Path) -> list[bytes]:
    audio = (0.1 * np.sin(np.arange(4000) / 9)).astype(np.float32)
    return [encode_audio(audio, 8000, suffix.removeprefix(".")) for suffix in AUDIO_SUFFIXES]


def _bodies(folder: Path) -> list[bytes]:
    fields = {"mel": models.mel(9)[0].tolist(), "f0": [0] * 9, "mel_config": models.MEL_CONFIG.model_dump()}
    short = {"mel": [[0.5]] * 20, "mel_config": "hifigan-22k:log=log10"}
    return [json.dumps(fields).encode(), *[json.dumps(short).encode()] * 2, *_arrays(folder)[:2], *_archives(folder)]


def _checkpoints(folder: Path) -> list[bytes]:
    return [_saved(lambda path: save_checkpoint(models.checkpoint("hifigan"), path), folder)]


def _configs(folder: Path) -> list[bytes]:
    fields = {"generator": {"channels": 8, "rates": [4, 2], "name": "a"}, "sampling_rate": 22050, "window": None}
    return [yaml.safe_dump(fields).encode(), b"a: &a [1, 2]\nb: !new:torch.nn.ReLU {c: *a}\n" + b"d: !ref <a>\n"]


def _json_configs(folder: Path) -> list[bytes]:
    return [b'{"resblock": "1", "upsample_rates": [8, 8, 2, 2], "fmax": null, "a": {"b": [1, 2,],},}']


def _recipes(folder: Path) -> list[bytes]:
    recipe = load_recipe("hifigan", data="ljspeech")
    return [yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True)).encode()]


def _weights(folder: Path) -> list[bytes]:
    weights = {"generator": {"weight": torch.ones(4, 3), "bias": torch.zeros(4)}, "step": 3}
    return [
        _saved(lambda path: torch.save(weights, path), folder),
        _saved(lambda path: torch.save(weights, path, _use_new_zipfile_serialization=False), folder),
    ]


def _stats(folder: Path) -> list[bytes]:
    def save(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["mean"], file["scale"] = np.zeros(20, np.float32), np.ones(20, np.float32)

    return [_saved(save, folder)]


def _read_mel(path: Path) -> None:
    data = path.read_bytes()
    for array in (decode_mel(data, "a")[0], *read_inputs(data, "a", [F0]).values()):
        assert array.dtype.kind in "fiu"
        assert array.nbytes <= 2**30


def _read_sound(path: Path) -> None:
    sound = read_audio(path.read_bytes(), "a")
    assert sound.audio.dtype == np.float32
    assert np.isfinite(sound.audio).all()
    assert sound.sample_rate > 0


@cache
def _served() -> Target:
    return Target([ServedModel("small", OnnxVocoder(SMALL))])


def _read_body(path: Path) -> None:
    data, limits = path.read_bytes(), Limits(max_body=2**20, max_seconds=5.0)
    decoded_bytes(data, _served(), limits.max_body)
    mel = np.load(io.BytesIO(analyze_body(data, _served(), limits)))
    assert mel.shape[0] == 20
    assert np.isfinite(mel).all()


def _synthesise(voc: Any) -> None:
    mel = np.full((voc.mel_config.n_mels, 4), -5.0, np.float32)
    audio = voc(mel, **voc.plain_inputs(1, 4))
    assert audio.shape == (4 * voc.mel_config.hop_length,)
    assert np.isfinite(audio).all()


KINDS = {
    "npy": Kind(0.3, ".npy", _arrays, _read_mel),
    "npz": Kind(0.15, ".npz", _archives, _read_mel),
    "sound": Kind(0.2, ".wav", _sounds, _read_sound),
    "body": Kind(0.12, "", _bodies, _read_body),
    "safetensors": Kind(0.03, ".safetensors", _checkpoints, lambda path: _synthesise(Vocoder(load_checkpoint(path)))),
    "onnx": Kind(0.02, ".onnx", lambda _: [SMALL.read_bytes()], lambda path: _synthesise(OnnxVocoder(path))),
    "yaml": Kind(0.06, ".yaml", _configs, read_config),
    "json": Kind(0.05, ".json", _json_configs, read_config),
    "recipe": Kind(0.02, ".yaml", _recipes, load_recipe),
    "torch": Kind(0.03, ".pt", _weights, read_weights),
    "h5": Kind(0.02, ".h5", _stats, lambda path: read_stats(path, 20)),
}

WORDS = (
    b"[[[[[[[[ {{{{ \" ' \\ \\ud800 \x00 \xff\xff NaN Infinity -1 1e999 9223372036854775808 null true PK\x01\x02 "
    b"|V0 <U0 |O <f8 <c16 (0,) (-1,) (True,) & *a !!python/object:os.system - : , } ] }"
).split(b" ")
EXTREMES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)


def damaged(seed: bytes, source: random.Random) -> bytes:
    """Copy ``seed`` with some bytes changed, mostly in headers at the beginning or the end."""
    if seed.startswith(b"PK") and source.random() < 0.5:
        return _repacked(seed, source)
    data = bytearray(seed)
    for _ in range(source.choice([1, 1, 1, 2, 3, 6])):
        place = source.randrange(min(len(data), source.choice([16, 128, 1024, 10**9])) or 1)
        if source.random() < 0.2:
            place = max(0, len(data) - 1 - place)
        length = source.choice([1, 2, 4, 8, 40])
        kind = source.randrange(7)
        if kind <= 1 and data:
            data[min(place, len(data) - 1)] ^= 1 << source.randrange(8)
        elif kind == 2:
            data[place : place + source.choice([0, 4])] = source.choice(WORDS)
        elif kind == 3:
            size = source.choice([2, 4, 8])
            number = source.choice(EXTREMES) % 2 ** (8 * size)
            data[place : place + size] = number.to_bytes(size, source.choice(["little", "big"]))
        elif kind == 4:
            data[place : place + length] = data[place : place + length] * 2
        elif kind == 5:
            del data[place : place + length]
        elif source.random() < 0.3:
            del data[source.randrange(len(data) + 1) :]
    return bytes(data)


def _repacked(seed: bytes, source: random.Random) -> bytes:
    """Make a zip archive of damaged files with right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed)) as archive, zipfile.ZipFile(buffer, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            copy.writestr(name, damaged(content, source) if source.random() < 0.7 else content)
    return buffer.getvalue()


def run(kind: str, number: int, seeds: list[bytes], folder: Path) -> None:
    """Read one input; any exception is a fault. Number 0 is intact and must be read."""
    source = random.Random(zlib.crc32(f"{kind} {number}".encode()))
    path = folder / f"input{KINDS[kind].suffix}"
    path.write_bytes(damaged(source.choice(seeds), source) if number else seeds[0])
    sentence = ""
    try:
        KINDS[kind].read(path)
    except (VocoderError, RequestError) as error:
        sentence = str(error)
    assert number or not sentence, f"a whole file is refused: {sentence}"
    assert sentence.isprintable(), "the sentence has unprintable characters"
    assert len(sentence) < 2000, "the sentence is too long"


def main(total: int, begin: list[str]) -> None:
    """Run all inputs, from the input ``begin`` on."""
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # C libraries print to standard output too
    with tempfile.TemporaryDirectory() as name:
        folder, limited = Path(name), False
        for kind, (share, _, seeds_of, _) in KINDS.items():
            if begin and kind != begin[0]:
                continue
            seeds = seeds_of(folder)
            first = int(begin[1]) if begin else 0
            begin = []
            for number in range(first, max(2, round(share * total))):
                print(json.dumps({"input": f"{kind} {number}"}), file=report, flush=True)
                signal.alarm(SECONDS)  # ends the process
                try:
                    run(kind, number, seeds, folder)
                except BaseException as error:
                    print(
                        json.dumps({"fault": f"{kind} {number}: {type(error).__name__}: {error}"[:300]}),
                        file=report,
                        flush=True,
                    )
                if not limited:
                    limited = True
                    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        signal.alarm(0)


if __name__ == "__main__":
    if sys.argv[1].isdecimal():
        main(int(sys.argv[1]), sys.argv[2:])
    else:
        with tempfile.TemporaryDirectory() as name:
            run(sys.argv[1], int(sys.argv[2]), KINDS[sys.argv[1]].seeds(Path(name)), Path(name))
