"""The generator in training: what its mels go through, and the losses that it defines itself."""

from pathlib import Path

import pytest
import torch

from recipes.data.config import Augmentation, DataRecipe
from recipes.data.segments import frame_times
from recipes.training.distributed import Draws
from recipes.training.generator_task import GeneratorTask, check_trainable
from recipes.training.recipe import load_recipe
from tests.support import corpus, models, signals
from vocoders.checkpoint import save_checkpoint
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.generators import generator_name
from vocoders.generators.vocos import Vocos, VocosConfig
from vocoders.inputs import Input

SMOOTH = "data.augmentation={smooth: %s, coefficients: [0.05, 0.05], blur: [0, 0]}"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_smoothed_mels_belong_to_the_recordings_as_they_are(tmp_path: Path, share: float) -> None:
    """A smoothed mel is what the generator gets; the losses compare its audio with the recording."""
    config = {"n_fft": 128, "backbone_channels": 16, "backbone_blocks": 1, "channels": 6, "blocks": 1}
    generator = {"name": "hnmask", "config": config | {"adaptive_projection": True}}
    path = corpus.recipe(tmp_path, tmp_path, generator=generator, losses={"mel": 1.0, "strength": 1.0})
    task = GeneratorTask(load_recipe(path, [SMOOTH % share]))
    audio = 0.1 * torch.randn(2, 1, 20 * task.recipe.mel_config.hop_length, generator=torch.Generator().manual_seed(0))
    batch = {"audio": audio, "f0": torch.zeros(2, 1, 20)}
    given = []
    outputs = task.model.outputs

    def keep(mel: torch.Tensor, draws: object) -> object:
        given.append(mel)
        return outputs(mel, draws)  # type: ignore[arg-type]

    task.model.outputs = keep  # type: ignore[method-assign, assignment]
    losses = task(batch, Draws(0, 0, 2, slice(0, 2), torch.device("cpu"))).losses
    exact = task.log_mel(audio.squeeze(1))
    detail = [float(mel.diff(n=2, dim=1).abs().mean()) for mel in (given[0], exact)]
    assert (detail[0] < 0.1 * detail[1]) if share else torch.equal(given[0], exact)
    assert set(losses) == {"mel", "strength"}
    trusting = task.model.own_losses(exact, exact, {})["strength"]
    assert (float(losses["strength"].detach()) == float(trusting.detach())) is not bool(share)


def test_approximated_mels_belong_to_the_recordings_as_they_are(tmp_path: Path) -> None:
    mel_config = MelConfig.parse("hifigan-22k:n_fft=512,hop_length=128,win_length=512")
    path = corpus.recipe(
        tmp_path,
        tmp_path,
        mel_config=mel_config.model_dump(),
        generator={"name": "vocos", "config": {"n_fft": 512, "channels": 8, "blocks": 1}},
        losses={"mel": 1.0},
    )
    task = GeneratorTask(load_recipe(path, ["data.augmentation={adapt: 1.0}"]))
    audio = torch.from_numpy(signals.noise(22050, 0.6)).float()[: 100 * 128][None, None] / 10
    context = torch.cat([audio.flip(-1)[..., -256:], audio, audio[..., :256]], -1)
    exact = task.mel({"audio": audio, "context": context})
    for step in range(6):  # of other mel configs each
        draws = Draws(0, step, 1, slice(0, 1), torch.device("cpu"))
        mel = task.adapt({"audio": audio, "context": context}, draws)
        assert mel.shape == exact.shape
        assert 0.01 < float((mel - exact)[:, 4:60, 4:-4].abs().mean()) < 0.6


@pytest.mark.parametrize("lag", [None, 0])
def test_fine_tuning_starts_where_the_model_puts_its_frames(tmp_path: Path, lag: int | None) -> None:
    """The model repeats a mel's loudest frame as a click; its audio must be the recording's click, of center mels."""
    mel_config = MelConfig.parse("tacotron2-22k:n_fft=256,hop_length=64,win_length=256,n_mels=20")
    source = models.checkpoint(mel_config=mel_config)
    source.lag = lag
    save_checkpoint(source, tmp_path / "start.safetensors")
    generator = {"name": generator_name(models.generator_of(source)), "init": str(tmp_path / "start.safetensors")}
    path = corpus.recipe(
        tmp_path, tmp_path, generator=generator, mel_config=mel_config.model_dump(), losses={"mel": 1.0}
    )
    task = GeneratorTask(load_recipe(path))
    frame, frames = 10, 20
    audio = torch.zeros(1, 1, frames * 64)
    audio[..., frame * 64 + (0 if lag == 0 else 32)] = 1.0  # in the middle of the frame, as this model places it
    mel = task.analyze(audio)
    assert mel.shape == (1, 20, frames)
    assert int(mel.mean(1).argmax()) == frame
    torch.testing.assert_close(mel[..., frame - 3 : frame], mel[..., frame + 1 : frame + 4].flip(-1), atol=1e-3, rtol=0)
    assert task.checkpoint(task.model).lag == lag
    times = frame_times(frames, task.recipe.analysis_config)
    assert times[frame] * 22050 == pytest.approx(frame * 64 + (0 if lag == 0 else 32))


def test_inputs_need_a_folder_and_a_folder_needs_inputs() -> None:
    model, data = models.generator("hifigan"), DataRecipe(dir="x")
    check_trainable(model, "hifigan", data)
    with pytest.raises(VocoderError, match="hifigan takes nothing"):
        check_trainable(model, "hifigan", DataRecipe(dir="x", inputs="y"))
    model.inputs = (Input(name="speaker", rate="utterance", channels=8), Input(name="energy", rate="frame"))
    message = r"hifigan also needs speaker \(8\), energy \(1, frames\); name a folder .*: --set data.inputs=DIR"
    with pytest.raises(VocoderError, match=message):
        check_trainable(model, "hifigan", data)


def test_augmentations_of_one_channel() -> None:
    class Stereo(Vocos):
        channels = 2

    stereo = Stereo(VocosConfig(n_fft=128), models.MEL_CONFIG)
    check_trainable(stereo, "stereo", DataRecipe(dir="x"))
    with pytest.raises(VocoderError, match="stereo makes 2 channels, and tones, voices, reverb and noise are for one"):
        check_trainable(stereo, "stereo", DataRecipe(dir="x", augmentation=Augmentation(noise=0.1)))


def test_frames_of_another_duration_are_refused() -> None:
    class Faster(Vocos):
        sample_rate = 16000
        samples_per_frame = 32

    faster = Faster(VocosConfig(n_fft=128), models.MEL_CONFIG)
    with pytest.raises(VocoderError, match="is 32 samples at 8000 Hz; faster makes 32 at 16000 Hz of it"):
        check_trainable(faster, "faster", DataRecipe(dir="x"))
