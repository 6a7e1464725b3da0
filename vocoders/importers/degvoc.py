"""Import DegVoC of Andong-Li-speech/DegVoC."""

from __future__ import annotations

import re

from torch import Tensor

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, check_only, part, rename


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    if (kind := config.get("model_name")) != "DegVoC24k":
        raise VocoderError(f"the model {kind} is not supported, only DegVoC24k")
    sizes, audio = part(config, "model"), part(config, "audio")
    supported = {"nb_num": 24, "use_even": False, "causal": False, "use_shared_encoder": True}
    check_only(sizes, "DegVoC", **supported, use_shared_decoder=True, decode_type="res+phase")
    own = {
        "n_fft": audio["n_fft"],
        "blocks": sizes["nstage"],
        "channels": sizes["input_channel"],
        "attention_channels": sizes["hidden_channel"],
        "expansion": sizes["mlp_ratio"],
        "kernel_size": (sizes["f_kernel_size"], sizes["t_kernel_size"]),
    }
    values = {  # dataset_libritts.py, mel_spectrogram
        "sample_rate": audio["sampling_rate"],
        "n_fft": audio["n_fft"],
        "hop_length": audio["hop_size"],
        "win_length": audio["win_size"],
        "n_mels": audio["num_mels"],
        "fmin": audio["fmin"],
        "fmax": audio["fmax"],
        "padding": "center",
    }
    mel_config = bind(MelConfig, values, "the mel config in the configuration")
    return Imported("degvoc", own, mel_config, _weights(weights), lag=round(0.5 * mel_config.hop_length))


DEGVOC = Importer(
    "degvoc",
    "Andong-Li-speech/DegVoC: g_02000000_n8.pt and degvoc_libritts_config.json",
    _convert,
    recognizes=lambda config: str(config.get("model_name")).startswith("DegVoC"),
    checkpoints=("g_*.pt", "g_*"),
    configs=("config.json", "degvoc_libritts_config.json", "../cfgs/degvoc_libritts_config.json"),
    harmless="data dataset_type loss train audio.segment_size model.init_type model.phit_learnable",
)


def _weights(theirs: Weights) -> Weights:
    """Convert keys and layouts: theirs are (channels, bands, time), ours (time, bands, channels)."""
    renamed = rename(
        {key: value for key, value in theirs.items() if key != "Phi"},
        [
            (r"^PhiT$", "inverse_mel"),
            (r"^alpha$", "skip"),
            (r"gain_matrix$", "weight"),
            (r"bias_matrix$", "bias"),
            (r"^enc\.reg(\d)_encoder\.1\.", lambda m: f"encoders.{int(m[1]) - 1}.conv."),
            (r"^enc\.reg(\d)_encoder\.2\.", lambda m: f"encoders.{int(m[1]) - 1}.norm."),
            (r"^dec\.reg(\d)_(?:mag|phase)_decoder", lambda m: f"{_decoder(m[0])}.{int(m[1]) - 1}"),
            (r"^((?:magnitude|phase)\.\d)\.0\.", r"\1.norm."),
            (r"^((?:magnitude|phase)\.\d)\.1\.", r"\1.linear."),
            (r"^((?:magnitude|phase)\.\d)\.3\.weight", r"\1.out.weight"),
            (r"^((?:magnitude|phase)\.\d)\.3\.bias", r"\1.bias"),
            (r"^module_list\.", "blocks."),
            (r"\.attn\.0\.", ".norm1."),
            (r"\.attn\.1\.", ".query."),
            (r"\.attn\.4\.", ".attention."),
            (r"\.v\.", ".value."),
            (r"\.proj\.", ".projection."),
            (r"\.fc1\.0\.", ".norm2."),
            (r"\.fc1\.1\.", ".fc1."),
            (r"\.dw_conv\.1\.", ".conv."),
            (r"\.(attention|conv)\.bias$", lambda m: f".{m[1]}.shift"),
            (r"^(encoders\.\d\.conv)\.shift", r"\1.bias"),
        ],
    )
    return {key: _layout(key, value) for key, value in renamed.items()}


def _decoder(name: str) -> str:
    return "magnitude" if "_mag_" in name else "phase"


def _layout(key: str, value: Tensor) -> Tensor:
    """Convert the layout of one weight."""
    if key == "skip" or "norm" in key:  # (1, channels, bands, 1)
        return value[0, :, :, 0].T.contiguous()
    if key.startswith("encoders") and value.dim() == 4:  # the second input, the imaginary part, is always 0
        return value[:, :1].transpose(-1, -2).contiguous()
    if re.search(r"^(magnitude|phase)\.\d\.bias$", key):
        return value[:, None, None]
    if key.endswith("out.weight"):  # transposed convolution (channels, outputs, width, 1)
        return value[..., 0].flatten(1).T.contiguous()
    if value.dim() == 4 and value.shape[1] == 1 and not key.startswith("encoders"):  # depthwise
        return value.transpose(-1, -2).contiguous()
    return value[..., 0, 0] if value.dim() == 4 else value
