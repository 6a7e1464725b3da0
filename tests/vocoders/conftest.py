from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import signals


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a small model, mels of several lengths and a sound file."""
    from tests.support import models  # where there is no torch, some tests run without this fixture
    from vocoders.checkpoint import save_checkpoint

    monkeypatch.chdir(tmp_path)
    save_checkpoint(models.checkpoint(), tmp_path / "model.safetensors")
    for frames in (1, 12, 40):
        np.save(tmp_path / f"mel{frames}.npy", models.mel(frames)[0].numpy())
    soundfile.write(tmp_path / "voice.wav", signals.voice(8000, 0.5), 8000)
    return tmp_path
