"""``read_mel``: a mel file as the command line reads it."""

from pathlib import Path

import numpy as np
import pytest

from tests.support import DATA
from vocoders import MEL_CONFIGS, VocoderError, read_mel


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


def test_a_batch_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "batch.npy", np.zeros((2, 80, 7)))
    with pytest.raises(VocoderError, match="a file holds one mel"):
        read_mel(tmp_path / "batch.npy")
    with pytest.raises(VocoderError, match=r"none\.npy"):
        read_mel(tmp_path / "none.npy")
