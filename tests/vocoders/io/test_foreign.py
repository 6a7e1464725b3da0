"""Files of other kinds get a sentence that names the kind, and a command that makes a file which can be read."""

import json
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from vocoders.checkpoint import load_checkpoint
from vocoders.errors import VocoderError
from vocoders.files import read_file
from vocoders.importers.files import read_weights
from vocoders.io.audio import read_audio
from vocoders.io.mels import decode_mel
from vocoders.onnx.session import open_session

MEL = np.linspace(-11, 1, 60, dtype=np.float32).reshape(12, 5)


def _hdf5(path: Path, values: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["mel"] = values


def _matlab_73(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["mel"] = MEL.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


MAKERS = {
    "tensor.pt": ("is a file of torch", lambda path: torch.save(torch.from_numpy(MEL), path)),
    "tensor.npy": ("is a file of torch", lambda path: torch.save(torch.from_numpy(MEL), path)),
    "dict.pth": ("is a file of torch", lambda path: torch.save({"mel": torch.from_numpy(MEL)}, path)),
    "legacy.pt": (
        "is a file of torch",
        lambda path: torch.save(torch.from_numpy(MEL), path, _use_new_zipfile_serialization=False),
    ),
    "array.pkl": ("holds pickled Python objects", lambda path: path.write_bytes(pickle.dumps(MEL))),
    "pickle.npy": ("holds pickled Python objects", lambda path: path.write_bytes(pickle.dumps(MEL))),
    "mel.h5": ("is an HDF5 file", lambda path: _hdf5(path, MEL)),
    "mel.mat": ("is a MATLAB file", lambda path: scipy.io.savemat(path, {"mel": MEL})),
    "mel4.mat": ("is a MATLAB file", lambda path: scipy.io.savemat(path, {"mel": MEL}, format="4")),
    "mel73.mat": ("is a MATLAB 7.3 file", _matlab_73),
    "mel.json": ("is JSON", lambda path: path.write_text(json.dumps({"mel": MEL.tolist()}))),
    "list.json": ("is JSON", lambda path: path.write_text(json.dumps(MEL.tolist()))),
    "mel.txt": ("is text", lambda path: np.savetxt(path, MEL)),
    "mel.csv": ("is text", lambda path: np.savetxt(path, MEL, delimiter=",")),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_command_makes_a_mel_of_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind, make = MAKERS[name]
    make(Path(name))
    for read in (decode_mel, read_audio):
        with pytest.raises(VocoderError) as caught:
            read(read_file(Path(name)), name)
        assert str(caught.value).startswith(f"{name} {kind}")
    code = shlex.split(str(caught.value).split("; to convert it: python -c ")[1])
    subprocess.run([sys.executable, "-c", *code], check=True)
    made = re.findall(r"numpy\.save\('(.*?)'", code[0])[0]
    np.testing.assert_allclose(decode_mel(read_file(Path(made)), made)[0], MEL, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("voice.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0"),
        ("voice.wav", b"\0\0\0\x20ftypM4A \0\0\0\0"),  # named wrongly
        ("voice.aac", b"\xff\xf1\x50\x80\x02\x1f\xfc"),
        ("voice.webm", b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81"),
        ("voice.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ],
)
def test_sounds_that_ffmpeg_reads(name: str, head: bytes) -> None:
    with pytest.raises(VocoderError, match=f'to convert it: ffmpeg -i "{name}" "voice(.plain)?.wav"$'):
        read_audio(head + bytes(100), name)


def test_pointers_and_web_pages_are_named_wherever_a_file_is_read(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    for name in ("mel.npy", "voice.wav", "model.safetensors", "model.onnx", "model.pt"):
        (tmp_path / name).write_bytes(pointer)
    for read, name in (
        (read_file, "mel.npy"),
        (load_checkpoint, "model.safetensors"),
        (read_weights, "model.safetensors"),
        (read_weights, "model.pt"),
        (lambda path: open_session(path, "cpu"), "model.onnx"),
        (lambda path: read_audio(path.read_bytes(), str(path)), "voice.wav"),
        (lambda path: decode_mel(path.read_bytes(), str(path)), "mel.npy"),
    ):
        with pytest.raises(VocoderError, match=f'is a Git LFS pointer, .* git -C "{tmp_path}" lfs pull'):
            read(tmp_path / name)
    with pytest.raises(VocoderError, match="is a web page, not the file"):
        decode_mel(b"\n<!DOCTYPE html><html>", "mel.npy")
