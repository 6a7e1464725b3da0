"""Mel files, and the arrays beside the mel."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import DATA
from vocoders import MEL_CONFIGS, VocoderError, read_mel
from vocoders.inputs import F0, Input
from vocoders.io.mels import read_inputs

SPEAKER = Input(name="speaker", rate="utterance", channels=8)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, mel=np.zeros((80, 7)), **arrays)
    return buffer.getvalue()


def test_an_npz_states_its_mel_config() -> None:
    mel, mel_config = read_mel(DATA / "hello.npz")
    assert mel.shape[0] == 80
    assert mel_config == MEL_CONFIGS["hifigan-22k"]


@pytest.mark.parametrize("shape", [(80, 7), (1, 80, 7)])
def test_an_npy_states_none(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random(shape, np.float32)
    np.save(tmp_path / "mel.npy", values)
    mel, mel_config = read_mel(str(tmp_path / "mel.npy"))
    np.testing.assert_array_equal(mel, values.reshape(80, 7))
    assert mel_config is None


@pytest.mark.parametrize(("array", "meant"), [("speeker", "speaker"), ("F0", "f0"), ("f_0", "f0")])
def test_a_mistyped_array_is_refused(array: str, meant: str) -> None:
    with pytest.raises(
        VocoderError, match=rf"^mel\.npz holds the unknown array '{array}' \(did you mean '{meant}'\?\)$"
    ):
        read_inputs(npz(**{array: np.zeros(7)}), "mel.npz", [F0, SPEAKER])


def test_other_arrays_are_noted() -> None:
    notes: list[str] = []
    data = npz(f0=np.zeros(7), phones=np.zeros(3), mel_config=np.array(MEL_CONFIGS["hifigan-22k"].model_dump_json()))
    assert read_inputs(data, "mel.npz", [F0, SPEAKER], note=notes.append).keys() == {"f0"}
    assert notes == ["mel.npz holds arrays that are not used: phones (used: mel, f0, speaker)"]


def test_a_batch_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "batch.npy", np.zeros((2, 80, 7)))
    with pytest.raises(VocoderError, match="a file holds one mel"):
        read_mel(tmp_path / "batch.npy")
    with pytest.raises(VocoderError, match=r"none\.npy"):
        read_mel(tmp_path / "none.npy")
