"""docs/tts.md: each block is run on what that TTS returns, made in float64 from the formulas of its own code."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from recipes.training.recipe import load_recipe
from tests.support import ROOT, models, signals
from tests.support.published import hift_layout
from vocoders import MelConfig, MelMismatch, MelWarning, list_models
from vocoders.cli.vocoders import vocoders as vocoders_command
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MEL_CONFIGS, convert_mel
from vocoders.f0_estimator import build_f0_estimator
from vocoders.generators import build_generator
from vocoders.generators.hift_trunk import HiFTConfig

PAGE = (ROOT / "docs" / "tts.md").read_text()
SIZES = {"channels": 16, "resblock_kernel_sizes": [3], "resblock_dilations": [[1, 3]]}
LJ_SPEECH = (22050, 1024, 256, 1024, 0, 8000)
MEAN, STD = np.linspace(-1.5, -3.5, 80), np.linspace(0.9, 0.5, 80)  # of a log10 mel


def blocks(title: str) -> list[tuple[str, str]]:
    """(language, text) of the code blocks below a heading."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def linear_mel(
    rate: int,
    n_fft: int,
    hop: int,
    win: int,
    fmin: float,
    fmax: float,
    padding: str = "center",
    f0: float = 140.0,
    **bank: Any,
) -> np.ndarray:
    """Mel of a voice, a pause and digital silence, float64 (80, frames), before any logarithm; bank: of librosa's."""
    audio = np.concatenate([signals.voice(rate, f0=f0), signals.noise(rate, 0.2) / 300, np.zeros(rate // 10)])
    audio = np.pad(audio, n_fft // 2 if padding == "center" else (n_fft - hop) // 2, mode="reflect")
    spectrum = librosa.stft(
        audio, n_fft=n_fft, hop_length=hop, win_length=win, window="hann", center=False, dtype=np.complex128
    )
    bank = {"n_mels": 80, "fmin": fmin, "fmax": fmax} | bank
    return librosa.filters.mel(sr=rate, n_fft=n_fft, **bank, dtype=np.float64) @ np.abs(spectrum)


def batch_of(*mels: np.ndarray) -> torch.Tensor:
    """Float32, zero beyond the end of the shorter ones: (batch, 80, frames)."""
    frames = max(mel.shape[1] for mel in mels)
    padded = [np.pad(mel, ((0, 0), (0, frames - mel.shape[1]))) for mel in mels]
    return torch.from_numpy(np.stack(padded)).float()


def run(title: str, **names: object) -> list[dict[str, Any]]:
    """Run the blocks of a section in their order; the names there are after each of Python."""
    left = []
    for language, text in blocks(title):
        if language == "python":
            exec(compile(text, title, "exec"), names)
            left.append(dict(names))
        else:
            for command in text.splitlines():
                program, *arguments = shlex.split(command)
                assert program == "vocoders"
                assert vocoders_command(arguments) == 0, command
    return left


def check(mel: object, audio: object, expected: np.ndarray, hop: int) -> None:
    """The mel given to the vocoder is the expected one, and what came back is audio of its length."""
    assert isinstance(mel, torch.Tensor | np.ndarray)
    assert type(audio) is type(mel)
    assert tuple(mel.shape) == expected.shape
    np.testing.assert_allclose(np.asarray(mel), expected, atol=2e-5)
    assert tuple(audio.shape) == (*expected.shape[:-2], expected.shape[-1] * hop)
    sound = np.asarray(audio)
    assert np.isfinite(sound).all()
    assert sound.std() > 1e-4


def hifigan(
    upsample_rates: tuple[int, ...], mel_config: str, names: dict[str, str], kind: str = "hifigan", **others: object
) -> dict[str, torch.Tensor]:
    """Weights of a small HiFi-GAN under another project's names."""
    sizes = SIZES | {"upsample_rates": upsample_rates, "upsample_kernel_sizes": doubled(upsample_rates)} | others
    return weights_of(kind, sizes, mel_config, names)


def weights_of(
    generator: str, sizes: dict[str, Any], mel_config: str, names: dict[str, str]
) -> dict[str, torch.Tensor]:
    """Weights under another project's names, with numbers of a size that keeps a signal alive."""
    source = torch.Generator().manual_seed(0)
    weights = {}
    for key, value in build_generator(generator, sizes, MEL_CONFIGS[mel_config]).state_dict().items():
        for pattern, replacement in names.items():
            key = re.sub(pattern, replacement, key)
        if value.dim() > 1:
            weights[key] = torch.randn(value.shape, generator=source) / value[0].numel() ** 0.5
        elif not key.startswith("standardize"):
            weights[key] = (
                torch.ones_like(value) if key.endswith((".gamma", "norm.weight")) else torch.zeros_like(value)
            )
    return {key: value for key, value in weights.items() if not key.startswith("standardize")}


def doubled(rates: tuple[int, ...]) -> list[int]:
    return [2 * rate for rate in rates]


def transformers_vocoder(upsample_rates: tuple[int, ...], mel_config: str, **config: object) -> dict[str, torch.Tensor]:
    """What SpeechT5HifiGan and FastSpeech2ConformerHifiGan write, the same for both; config.json is written."""
    names = {r"^trunk\.": "", r"^ups\.": "upsampler.", r"^resblocks\.(\d+)\.0\.": r"resblocks.\1."}
    config |= {"model_in_dim": 80, "upsample_initial_channel": 16, "leaky_relu_slope": 0.1}
    config |= {"upsample_rates": upsample_rates, "upsample_kernel_sizes": doubled(upsample_rates)}
    config |= {"resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]]}
    Path("config.json").write_text(json.dumps(config))
    statistics = {"mean": torch.tensor(MEAN).float(), "scale": torch.tensor(STD).float()}
    return hifigan(upsample_rates, mel_config, names) | statistics


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


pytestmark = pytest.mark.filterwarnings("error::vocoders.errors.MelWarning")


def test_matcha() -> None:
    mels = [np.log(np.maximum(linear_mel(*LJ_SPEECH, padding="same", f0=f0), 1e-5)) for f0 in (120, 210)]
    mels[1] = mels[1][:, :-7]
    output = {"mel": batch_of(*mels), "mel_lengths": torch.tensor([mel.shape[1] for mel in mels])}
    model = SimpleNamespace(synthesise=lambda x, x_lengths, n_timesteps: output)
    (left,) = run("Matcha-TTS", model=model, x=None, x_lengths=None)
    for mel, audio, expected in zip(left["mel"], left["audio"], mels, strict=True):
        check(mel, audio, expected, 256)


def test_fastspeech2() -> None:
    mels = [np.log(np.maximum(linear_mel(*LJ_SPEECH, f0=f0), 1e-5)) for f0 in (120, 210)]
    mels[0] = mels[0][:, :-7]
    output: list[torch.Tensor | None] = [None] * 10
    output[1] = batch_of(*mels).transpose(1, 2)
    output[9] = torch.tensor([mel.shape[1] for mel in mels])
    with pytest.warns(MelWarning, match="padding center against same"):
        (left,) = run("FastSpeech2", model=lambda *_: tuple(output), batch=())
    for mel, audio, expected in zip(left["mel"], left["audio"], mels, strict=True):
        check(mel, audio, expected, 256)


class AudioProcessor:
    """The attributes that Coqui's has, and the inverse of its normalisations."""

    sample_rate, fft_size, hop_length, win_length, num_mels, mel_fmin = 22050, 1024, 256, 1024, 80, 0
    max_norm, min_level_db, ref_level_db = 4.0, -100, 20

    def __init__(self, normalisation: str, mel_fmax: float | None = 8000) -> None:
        decibels = normalisation in ("symmetric", "positive")
        self.spec_gain = 20.0 if decibels else 1.0
        self.log_func = "np.log10" if decibels else "np.log"
        self.normalisation, self.mel_fmax = normalisation, mel_fmax

    def normalize(self, values: np.ndarray) -> np.ndarray:
        if self.normalisation == "statistics":
            return ((values.T - MEAN) / STD).T
        unit = (values - self.ref_level_db - self.min_level_db) / -self.min_level_db
        if self.normalisation == "symmetric":
            return np.clip(2 * self.max_norm * unit - self.max_norm, -self.max_norm, self.max_norm)
        return np.clip(self.max_norm * unit, 0, self.max_norm) if self.normalisation == "positive" else values

    def denormalize(self, values: np.ndarray) -> np.ndarray:
        if self.normalisation == "statistics":
            return (values.T * STD + MEAN).T
        if self.normalisation == "none":
            return values.copy()
        unit = values / self.max_norm
        unit = (unit + 1) / 2 if self.normalisation == "symmetric" else unit
        return unit * -self.min_level_db + self.min_level_db + self.ref_level_db


@pytest.mark.parametrize("normalisation", ["symmetric", "positive", "statistics", "none"])
def test_coqui(normalisation: str) -> None:
    linear = linear_mel(*LJ_SPEECH)
    ap = AudioProcessor(normalisation)
    logarithm = np.log10 if ap.log_func == "np.log10" else np.log
    mel = ap.normalize(ap.spec_gain * logarithm(np.maximum(linear, 1e-8)))
    output = {"model_outputs": batch_of(mel).transpose(1, 2).requires_grad_()}
    with pytest.warns(MelWarning, match="padding center against same"):
        (left,) = run("Coqui TTS", model=SimpleNamespace(ap=ap), output=output)
    # Range normalisation ends 100 dB below its top, which is 20 dB: a floor of 1e-4.
    floor = 1e-4 if ap.log_func == "np.log10" else 1e-8
    check(left["mel"], left["audio"], logarithm(np.maximum(linear, floor)), 256)
    assert left["mel_config"] == MelConfig.parse(
        f"tacotron2-22k:floor=1e-8,log={'ln' if ap.log_func == 'np.log' else 'log10'}"
    )
    assert left["voc"].name == "hnmask-22k"


def test_coqui_with_another_band() -> None:
    mel = np.log10(np.maximum(linear_mel(*LJ_SPEECH[:-1], 11025), 1e-8))
    ap = AudioProcessor("symmetric", None)
    output = {"model_outputs": batch_of(ap.normalize(20 * mel)).transpose(1, 2)}
    with pytest.warns(MelWarning, match="fmax 11025.0 against 12000.0"):
        (left,) = run("Coqui TTS", model=SimpleNamespace(ap=ap), output=output)
    check(left["mel"], left["audio"], np.maximum(mel, -4), 256)


@pytest.mark.parametrize("normalises", [True, False])
def test_espnet2(normalises: bool) -> None:
    figures = (24000, 2048, 300, 1200, 80, 7600)
    names = {r"^trunk\.": "", r"^conv_pre\.": "input_conv.", r"^ups\.(\d+)\.": r"upsamples.\1.1."}
    names |= {r"^resblocks\.(\d+)\.0\.convs(\d)\.(\d+)\.": r"blocks.\1.convs\2.\3.1.", "^conv_post": "output_conv.1"}
    rates = (5, 5, 4, 3)
    torch.save({"model": {"generator": hifigan(rates, "espnet-24k", names)}}, "checkpoint.pkl")
    config: dict[str, object] = dict(
        zip(("sampling_rate", "fft_size", "hop_size", "win_length", "fmin", "fmax"), figures, strict=True)
    )
    sizes = SIZES | {"upsample_scales": rates, "upsample_kernel_sizes": doubled(rates)}
    config |= {"num_mels": 80, "generator_type": "HiFiGANGenerator", "generator_params": sizes}
    Path("config.yml").write_text(json.dumps(config))  # JSON is YAML
    with h5py.File("stats.h5", "w") as file:
        file["mean"], file["scale"] = MEAN, STD

    expected = np.log10(np.maximum(linear_mel(*figures), 1e-10))
    normalised = (expected.T - MEAN) / STD
    output = {"feat_gen": torch.tensor(normalised if normalises else expected.T).float()}
    if normalises:
        output["feat_gen_denorm"] = torch.tensor(expected.T).float()
    front = dict(zip(("fs", "n_fft", "hop_length", "win_length", "fmin", "fmax"), figures, strict=True))

    class Text2Speech:
        feats_extract = SimpleNamespace(**front, n_mels=80)

        def __call__(self, text: str) -> dict[str, torch.Tensor]:
            return output

    np.savez("feats_stats.npz", count=1000, sum=MEAN * 1000, sum_square=(STD**2 + MEAN**2) * 1000)
    Path("norm").mkdir()
    np.save("norm/utterance.npy", normalised.astype(np.float32))
    at_once, from_files = run("ESPnet2", text2speech=Text2Speech())
    check(at_once["mel"], at_once["audio"], expected, 300)
    check(from_files["mel"], from_files["audio"], expected, 300)
    assert at_once["mel_config"] == MEL_CONFIGS["espnet-24k"]
    np.testing.assert_allclose(at_once["voc"].generator.standardize.mean[:, 0], MEAN, rtol=1e-6)

    Text2Speech.feats_extract.fmax = None
    with pytest.raises(MelMismatch, match=r"fmax 12000.0 against 7600.0"):
        run("ESPnet2", text2speech=Text2Speech())


def test_speecht5() -> None:
    figures = (16000, 1024, 256, 1024, 80, 7600)
    weights = transformers_vocoder((4, 4, 4, 4), "speecht5-16k", sampling_rate=16000, normalize_before=True)
    torch.save(weights, "pytorch_model.bin")
    expected = np.log10(np.maximum(linear_mel(*figures), 1e-10))
    model = SimpleNamespace(generate_speech=lambda input_ids, speaker_embeddings: torch.tensor(expected.T).float())
    (left,) = run("SpeechT5", model=model, input_ids=None, speaker_embeddings=None)
    check(left["mel"], left["audio"], expected, 256)


def test_fastspeech2conformer() -> None:
    figures = (22050, 1024, 256, 1024, 80, 7600)
    weights = transformers_vocoder((8, 8, 2, 2), "pwg-ljspeech-22k", sampling_rate=22050, normalize_before=False)
    save_file(weights, "model.safetensors")
    torch.save({"normalize.mean": torch.tensor(MEAN), "normalize.std": torch.tensor(STD)}, "espnet.pth")
    expected = np.log10(np.maximum(linear_mel(*figures), 1e-10))[None]
    spectrogram = torch.tensor((expected.swapaxes(1, 2) - MEAN) / STD).float().requires_grad_()
    _, left = run(
        "FastSpeech2Conformer", model=lambda *_, return_dict: {"spectrogram": spectrogram.float()}, input_ids=None
    )
    check(left["mel"].detach(), left["audio"], expected, 256)
    inside = left["voc"].generator.standardize(left["mel"].detach().float())
    torch.testing.assert_close(inside, spectrogram.detach().transpose(1, 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("mel_base", ["e", "10"])
def test_diffsinger(mel_base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, rates = (44100, 2048, 512, 2048, 40, 16000), (8, 8, 8)
    names = {r"^trunk\.": "", r"^resblocks\.(\d+)\.0\.": r"resblocks.\1.", r"^source_convs\.1\.": "source_conv."}
    generator = hifigan(rates, "openvpi-44k", names, "nsf-hifigan", channels=32, source="fundamental")
    torch.save({"generator": {k: v for k, v in generator.items() if not k.startswith("standardize")}}, "model.ckpt")
    config: dict[str, object] = dict(
        zip(("sampling_rate", "n_fft", "hop_size", "win_size", "fmin", "fmax"), figures, strict=True)
    )
    config |= {"num_mels": 128, "upsample_initial_channel": 32, "upsample_rates": rates, "mini_nsf": True}
    config |= {"upsample_kernel_sizes": doubled(rates), "resblock": "1", "resblock_kernel_sizes": [3]}
    Path("config.json").write_text(json.dumps(config | {"resblock_dilation_sizes": [[1, 3]]}))
    logarithm, name = (np.log10, "openvpi-44k:log=log10") if mel_base == "10" else (np.log, "openvpi-44k")
    expected = np.log(np.maximum(linear_mel(*figures, padding="same", n_mels=128), 1e-5))[None]
    mel = torch.tensor(logarithm(np.exp(expected))).float().transpose(1, 2)
    torch.save([{"offset": 0.5, "mel": mel, "f0": torch.full(mel.shape[:2], 220.0)}], "song.mel.pt")
    monkeypatch.setattr("tests.test_tts.PAGE", PAGE.replace('parse("openvpi-44k")', f'parse("{name}")'))
    (left,) = run("DiffSinger")
    check(left["mel"], left["audio"][0], expected, 512)


def test_f5_tts() -> None:
    names = {
        "^blocks": "backbone.convnext",
        "^embed_norm": "backbone.norm",
        "^output_norm": "backbone.final_layer_norm",
    }
    names |= {r"^embed\.": "backbone.embed."}
    torch.save(weights_of("vocos", {"channels": 16, "blocks": 2}, "vocos-24k", names), "pytorch_model.bin")
    parts = {
        "feature_extractor": ("feature_extractors.MelSpectrogramFeatures", {"sample_rate": 24000, "n_mels": 100}),
        "backbone": (
            "models.VocosBackbone",
            {"input_channels": 100, "dim": 16, "intermediate_dim": 48, "num_layers": 2},
        ),
        "head": ("heads.ISTFTHead", {"dim": 16, "n_fft": 1024, "hop_length": 256, "padding": "center"}),
    }
    config = {part: {"class_path": f"vocos.{name}", "init_args": sizes} for part, (name, sizes) in parts.items()}
    Path("config.yaml").write_text(json.dumps(config))
    linear = linear_mel(24000, 1024, 256, 1024, 0, 12000, n_mels=100, htk=True, norm=None)
    expected = np.log(np.maximum(linear, 1e-5))[None]
    sampled = torch.cat([torch.zeros(1, 7, 100), torch.tensor(expected).float().transpose(1, 2)], 1)
    model = SimpleNamespace(sample=lambda cond, text, duration: (sampled, None))
    (left,) = run("F5-TTS", model=model, cond=None, text=None, duration=None, ref_audio_len=7)
    check(left["mel"], left["audio"], expected, 256)


def test_gpt_sovits() -> None:
    names = {r"^trunk\.": "", r"^resblocks\.(\d+)\.0\.": r"resblocks.\1."}
    sizes: dict[str, Any] = {"channels": 32, "resblock_dilations": [[1, 3, 5]], "sample_rate": 48000}
    weights = hifigan((10, 6, 2, 2, 2), "gpt-sovits-32k", names, **sizes)
    Path("gsv-v4-pretrained").mkdir()
    torch.save(weights, "gsv-v4-pretrained/vocoder.pth")
    linear = linear_mel(32000, 1280, 320, 1280, 0, 16000, padding="same", n_mels=100)
    theirs = np.log(np.maximum(linear, 1e-5))[None]
    cfm_res = torch.tensor((theirs + 12) / 14 * 2 - 1).float()
    (left,) = run("GPT-SoVITS", cfm_res=cfm_res, denorm_spec=lambda x: (x + 1) / 2 * 14 - 12)
    check(left["mel"], left["audio"], theirs, 480)


def test_half_a_hop_is_all_between_tacotron2_and_hifigan() -> None:
    """As the page says: of audio that comes half a hop later, the one's mel is the other's; yet it is not converted."""
    early, late = MEL_CONFIGS["tacotron2-22k"], MEL_CONFIGS["hifigan-22k"]
    assert set(early.differences(late)) == {"padding", "epsilon"}
    with pytest.raises(MelMismatch, match="padding center against same"):
        convert_mel(torch.zeros(80, 4), early, late)
    audio = torch.from_numpy(np.concatenate([signals.voice(22050), signals.noise(22050) / 1000]))
    later_audio = torch.cat([torch.zeros(128, dtype=torch.float64), audio])
    mel, later_mel = (
        LogMelSpectrogram(mel_config.model_copy(update={"floor": 1e-20}), torch.float64)(sound).exp()
        for mel_config, sound in ((early, audio), (late, later_audio))
    )
    inner = slice(3, later_mel.shape[1] - 3)  # the ends mirror different samples
    difference = later_mel[:, inner] - mel[:, inner]
    assert difference.min() >= 0
    assert difference.max() < 2e-6
    assert mel[:, inner].max() > 0.1


def hift_weights(size: HiFTConfig, channels: int) -> dict[str, torch.Tensor]:
    """Random weights in CosyVoice's layout."""
    torch.manual_seed(0)
    mel_config = MEL_CONFIGS["cosyvoice2-24k"]
    estimator = build_f0_estimator({"kind": "conv", "channels": channels}, mel_config)
    return hift_layout(build_generator("hift", size, mel_config), estimator, len(size.resblock_kernel_sizes))


def test_cosyvoice() -> None:
    size = HiFTConfig(**models.small("hift", MEL_CONFIGS["cosyvoice2-24k"]))
    torch.save(hift_weights(size, 8), "hift.pt")
    arguments = {
        "base_channels": size.channels,
        "nb_harmonics": size.harmonics,
        "sampling_rate": "!ref <sample_rate>",
        "upsample_rates": size.upsample_rates,
        "upsample_kernel_sizes": size.upsample_kernel_sizes,
        "resblock_kernel_sizes": size.resblock_kernel_sizes,
        "resblock_dilation_sizes": size.resblock_dilations,
        "source_resblock_kernel_sizes": size.source_resblock_kernel_sizes,
        "source_resblock_dilation_sizes": size.source_resblock_dilations,
        "f0_predictor": {"cond_channels": 8},
    }
    features = {"n_fft": 1920, "num_mels": 80, "sampling_rate": 24000, "hop_size": 480, "win_size": 1920}
    features |= {"fmin": 0, "fmax": 8000, "center": False}
    Path("cosyvoice2.yaml").write_text(
        f"sample_rate: 24000\nhift: !new:cosyvoice.hifigan.generator.HiFTGenerator {json.dumps(arguments)}\n"
        f"feat_extractor: !name:matcha.utils.audio.mel_spectrogram {json.dumps(features)}\n".replace(
            '"!ref <sample_rate>"', "!ref <sample_rate>"
        )
    )
    cosyvoice = SimpleNamespace(model=SimpleNamespace(hift=SimpleNamespace()))
    (left,) = run("CosyVoice", cosyvoice=cosyvoice)
    _takes_a_mel(cosyvoice.model.hift, left["voc"])


def test_chatterbox() -> None:
    weights = hift_weights(HiFTConfig(), 512)
    save_file({f"mel2wav.{key}": value for key, value in weights.items()}, "s3gen.safetensors")
    model = SimpleNamespace(s3gen=SimpleNamespace(mel2wav=SimpleNamespace()))
    (left,) = run("Chatterbox", model=model)
    _takes_a_mel(model.s3gen.mel2wav, left["voc"])


def _takes_a_mel(module: Any, voc: Any) -> None:
    """What replaces HiFT is called as their code does, in inference mode, and the audio may be changed in place."""
    mel = np.log(np.maximum(linear_mel(24000, 1920, 480, 1920, 0, 8000, padding="same"), 1e-5))
    speech_feat, cache_source = torch.from_numpy(mel[None]).float(), torch.zeros(1, 1, 0)
    with torch.inference_mode():
        for rest in ({"cache_source": cache_source}, {"finalize": True}):
            audio, _ = module.inference(speech_feat=speech_feat, **rest)
        check(speech_feat, audio, mel[None], 480)
        audio[:, :960] *= 0
    assert voc.facts.estimated == ("f0",)


def test_every_mel_config_of_the_page_is_one() -> None:
    named = set(re.findall(r"\b[a-z][a-z0-9-]*-\d+k\b(?::[\w=,.-]*\w)?", PAGE)) - set(list_models())
    assert len(named) >= 7
    for name in named:
        MelConfig.parse(name)


def test_what_it_links_exists() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    targets = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert len(targets) > 3
    for target in targets:
        file, _, anchor = target.partition("#")
        assert (ROOT / "docs" / file).exists() if file else anchor in anchors, target


def test_the_commands_that_train() -> None:
    ((_, text),) = blocks("A mel config without a model")
    commands = [shlex.split(line) for line in text.splitlines()]
    assert len(commands) == 2
    for python, flag, module, model, data, option, mel_config, other, setting in commands:
        assert (python, flag, module) == ("python", "-m", "recipes.train")
        assert (option, other) == ("--mel-config", "--set")
        recipe = load_recipe(model, [setting], data, mel_config)
        assert recipe.generator
        with torch.device("meta"):
            build_generator(recipe.generator.name, recipe.generator.config, recipe.mel_config)
