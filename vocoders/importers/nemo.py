"""Import HiFi-GAN of NVIDIA/NeMo."""

from __future__ import annotations

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, check_only, fold_weight_norm, part
from vocoders.importers.hifi_gan import hifi_gan_variant_config, hifi_gan_weights

# defaults of FilterbankFeatures in collections/asr/parts/preprocessing/features.py that affect the mel
_FEATURES: Settings = {
    "sample_rate": 16000,
    "n_window_size": 320,
    "n_window_stride": 160,
    "window": "hann",
    "normalize": "per_feature",
    "n_fft": None,
    "preemph": 0.97,
    "nfilt": 64,
    "lowfreq": 0,
    "highfreq": None,
    "log": True,
    "log_zero_guard_type": "add",
    "log_zero_guard_value": 2**-24,
    "frame_splicing": 1,
    "exact_pad": False,
    "mag_power": 2.0,
    "use_grads": False,
    "mel_norm": "slaney",
}
_SUPPORTED: Settings = {
    "window": "hann",
    "normalize": None,
    "preemph": None,
    "log": True,
    "log_zero_guard_type": "clamp",
    "frame_splicing": 1,
    "exact_pad": True,
    "use_grads": False,
}


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    generator = part(config, "generator")
    _check_class("generator", generator, "hifigan_modules.Generator")
    weights = hifi_gan_weights(fold_weight_norm(weights), None)
    return Imported("hifigan", hifi_gan_variant_config(generator, weights), _mel_config(config), weights)


NEMO = Importer(
    "nemo",
    "NVIDIA/NeMo, its HiFi-GAN: a .nemo file",
    _convert,
    recognizes=lambda _: False,
    checkpoints=("*.nemo",),
    harmless="""
        _target_ denoise_strength discriminator l1_loss_factor log_config max_epochs max_steps nemo_version optim
        sample_rate steps_per_epoch target test_ds train_ds validation_ds generator.initial_input_size
        preprocessor.dither preprocessor.max_duration preprocessor.nb_* preprocessor.pad_* preprocessor.rng
        preprocessor.stft_*
    """,
    configs=(),
    needs_config=False,
    archive=("model_config.yaml", "model_weights.ckpt"),
)


def _check_class(name: str, values: Settings, supported: str) -> None:
    """Raise VocoderError for a part of another class than ``supported``."""
    if (kind := ".".join(str(values["_target_"]).split(".")[-2:])) != supported:
        raise VocoderError(f"the {name} {kind} of NeMo is not supported, only {supported}")


def _mel_config(config: Settings) -> MelConfig:
    """Return the mel config of ``FilterbankFeatures``; VocoderError if unsupported."""
    _check_class("preprocessor", part(config, "preprocessor"), "features.FilterbankFeatures")
    given = _FEATURES | part(config, "preprocessor")
    check_only(given, "FilterbankFeatures", **_SUPPORTED)
    values = {
        "sample_rate": given["sample_rate"],
        "n_fft": given["n_fft"] or 1 << (given["n_window_size"] - 1).bit_length(),
        "hop_length": given["n_window_stride"],
        "win_length": given["n_window_size"],
        "n_mels": given["nfilt"],
        "fmin": given["lowfreq"],
        "fmax": given["highfreq"] or given["sample_rate"] / 2,
        "mel_norm": given["mel_norm"] or "none",
        "power": int(given["mag_power"]) if given["mag_power"] in (1, 2) else given["mag_power"],
        "padding": "same-zeros",
        "floor": given["log_zero_guard_value"],
        "window": "hann-symmetric",
    }
    return bind(MelConfig, values, "the mel config in the configuration")
