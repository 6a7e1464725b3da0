"""Import HiFT of FunAudioLLM/CosyVoice, versions 1 to 3, and of resemble-ai/chatterbox's S3Gen."""

from __future__ import annotations

import re
from typing import Any

from vocoders.config import bind
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import (
    Imported,
    Importer,
    Settings,
    Weights,
    check_only,
    fold_weight_norm,
    part,
    rename,
    require_mel_config,
    resolved,
)
from vocoders.importers.hifi_gan import hifi_gan_weights

# defaults of HiFTGenerator in cosyvoice/hifigan/generator.py and its predictor in f0_predictor.py
_SIZES: Settings = {
    "in_channels": 80,
    "base_channels": 512,
    "nb_harmonics": 8,
    "sampling_rate": 22050,
    "nsf_alpha": 0.1,
    "nsf_sigma": 0.003,
    "nsf_voiced_threshold": 10,
    "upsample_rates": [8, 8],
    "upsample_kernel_sizes": [16, 16],
    "istft_params": {"n_fft": 16, "hop_len": 4},
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "source_resblock_kernel_sizes": [7, 11],
    "source_resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
    "lrelu_slope": 0.1,
    "audio_limit": 0.99,
    "f0_predictor": {"num_class": 1, "in_channels": 80, "cond_channels": 512},
}
# chatterbox, models/s3gen/s3gen.py: sizes of CosyVoice 2 at 24 kHz, sine generator of CosyVoice 1
_CHATTERBOX = _SIZES | {
    "sampling_rate": 24000,
    "upsample_rates": [8, 5, 3],
    "upsample_kernel_sizes": [16, 11, 7],
    "source_resblock_kernel_sizes": [7, 7, 11],
    "source_resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
}


def _convert(config: Settings, weights: Weights, stated: MelConfig | None) -> Imported:
    mel_config: MelConfig | None
    if any(key.startswith("mel2wav.") for key in weights):
        sizes, mel_config = _CHATTERBOX, MEL_CONFIGS["cosyvoice2-24k"]
        weights, causal, source = _beginning(weights, "mel2wav."), False, 1
    else:
        sizes, mel_config = _sizes(config), _mel_config(config)
        causal = _is_causal(sizes)
        source = 1 if sizes["sampling_rate"] == 22050 else 3 if causal else 2
    mel_config = mel_config or require_mel_config(stated)
    if sizes["sampling_rate"] != mel_config.sample_rate:
        raise VocoderError(
            f"the sample_rate of the mel is {mel_config.sample_rate}, that of the generator {sizes['sampling_rate']}"
        )
    weights = fold_weight_norm(weights)
    predictor = rename(
        _beginning(weights, "f0_predictor."),
        [(r"^condnet\.(\d+)\.", lambda m: f"convs.{int(m[1]) // 2}."), (r"^classifier\.", "output.")],
    )
    generator = hifi_gan_weights(
        {key: value for key, value in weights.items() if not key.startswith("f0_predictor.")},
        len(sizes["resblock_kernel_sizes"]),
    )
    generator = rename(generator, [(r"^trunk\.m_source\.l_linear\.", "source.linear.")])
    description = {"kind": "conv", "channels": sizes["f0_predictor"]["cond_channels"], "causal": causal}
    own = _own(sizes) | {"source": source, "causal": causal}
    return Imported("hift", own, mel_config, generator, (description, predictor))


HIFT = Importer(
    "hift",
    "FunAudioLLM/CosyVoice 1 to 3: hift.pt, and cosyvoice.yaml, cosyvoice2.yaml or cosyvoice3.yaml; "
    "resemble-ai/chatterbox: s3gen.safetensors alone",
    _convert,
    recognizes=lambda config: "hift" in config,
    checkpoints=("hift.pt", "s3gen.safetensors", "s3gen.pt"),
    configs=("cosyvoice.yaml", "cosyvoice2.yaml", "cosyvoice3.yaml", "config.yml", "config.yaml"),
    needs_config=False,
    harmless="""
        __set_seed? allowed_special batch chunk_size compute_* data_pipeline* filter flow get_tokenizer hifigan llm
        llm_*put_size mel_spec_transform1 num_decoding_left_chunks padding parquet_opener parse_embedding
        qwen_pretrain_path resample sample_rate shuffle sort spk_embed_dim text_encoder_input_size token_* tokenize
        train_conf* truncate hift.in_channels hift.f0_predictor.in_channels
    """,
)


def _sizes(config: Settings) -> Settings:
    """Return HiFTGenerator's complete arguments; VocoderError if missing or unsupported."""
    if "hift" not in config:
        raise VocoderError("the configuration has no 'hift'; give that of CosyVoice, such as cosyvoice2.yaml: --config")
    given = resolved(part(config, "hift"), config)
    _check_class("hift", given, "HiFTGenerator", "CausalHiFTGenerator")
    causal = _is_causal(given)
    sizes = _SIZES | given
    predictor = _SIZES["f0_predictor"] | resolved(part(sizes, "f0_predictor"), config)
    _check_class("f0_predictor", predictor, "CausalConvRNNF0Predictor" if causal else "ConvRNNF0Predictor")
    check_only(sizes, "HiFT", lrelu_slope=0.1, **({"conv_pre_look_right": 4} if causal else {}))
    check_only(predictor, "HiFT", num_class=1)
    transform = part(sizes, "istft_params")
    check_only(transform, "HiFT", n_fft=4 * transform["hop_len"])
    return sizes | {"f0_predictor": predictor}


def _own(sizes: Settings) -> dict[str, Any]:
    """Convert HiFTGenerator's arguments to the configuration of ``HiFT``."""
    return {
        "channels": sizes["base_channels"],
        "upsample_rates": sizes["upsample_rates"],
        "upsample_kernel_sizes": sizes["upsample_kernel_sizes"],
        "resblock_kernel_sizes": sizes["resblock_kernel_sizes"],
        "resblock_dilations": sizes["resblock_dilation_sizes"],
        "source_resblock_kernel_sizes": sizes["source_resblock_kernel_sizes"],
        "source_resblock_dilations": sizes["source_resblock_dilation_sizes"],
        "istft_hop": sizes["istft_params"]["hop_len"],
        "harmonics": sizes["nb_harmonics"],
        "sine_amplitude": sizes["nsf_alpha"],
        "noise_deviation": sizes["nsf_sigma"],
        "voiced_threshold": sizes["nsf_voiced_threshold"],
        "audio_limit": sizes["audio_limit"],
    }


def _mel_config(config: Settings) -> MelConfig | None:
    """Return the mel config of ``feat_extractor``, if any: matcha/utils/audio.py of shivammehta25/Matcha-TTS."""
    if "feat_extractor" not in config:
        return None
    given = resolved(part(config, "feat_extractor"), config)
    _check_class("feat_extractor", given, "mel_spectrogram")
    check_only(given, "a feat_extractor", center=False)
    values = {
        "sample_rate": given["sampling_rate"],
        "n_fft": given["n_fft"],
        "hop_length": given["hop_size"],
        "win_length": given["win_size"],
        "n_mels": given["num_mels"],
        "fmin": given["fmin"],
        "fmax": given["sampling_rate"] / 2 if given["fmax"] is None else given["fmax"],
        "epsilon": 1e-9,
    }
    return bind(MelConfig, values, "the mel config in the configuration")


def _class_of(values: Settings) -> str | None:
    """Return the class name in a part's tag, if any."""
    return re.split(r"[:.]", values["!"])[-1] if "!" in values else None


def _is_causal(values: Settings) -> bool:
    return (_class_of(values) or "").startswith("Causal")


def _check_class(name: str, values: Settings, *supported: str) -> None:
    """Raise VocoderError for a part of an unsupported class."""
    found = _class_of(values)
    if found is not None and found not in supported:
        raise VocoderError(f"the {name} {found} is not supported, only {' and '.join(supported)}")


def _beginning(weights: Weights, prefix: str) -> Weights:
    """Return the weights under ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
