"""Import Flow2GAN of k2-fsa/Flow2GAN."""

from __future__ import annotations

import re

from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import FILE_NAME, Imported, Importer, Settings, Weights, rename, require_mel_config

_KNOWN = {
    config.n_mels: config
    for config in (
        MEL_CONFIGS["vocos-24k"],
        MelConfig.parse("vocos-24k:sample_rate=44100,n_fft=2048,hop_length=512,win_length=2048,n_mels=128,fmax=22050"),
    )
}


def _convert(config: Settings, weights: Weights, stated: MelConfig | None) -> Imported:
    """Convert a checkpoint; its sizes are those of the weights, its steps stand in the name of the file."""
    steps = re.search(r"(\d+)-step", config[FILE_NAME])
    if not steps:
        raise VocoderError(
            f"the name {config[FILE_NAME]} does not tell the number of steps; rename it, such as "
            f"{config[FILE_NAME].partition('.')[0]}-4-step.pt"
        )
    windows = sorted(key for key in weights if key.endswith(".fft.window"))
    first, *_ = shapes = [weights[f"estimators.{i}.decoder.blocks.0.dwconv.weight"].shape for i in range(len(windows))]
    embed = weights["cond_encoder.in_proj.weight"]
    own = {
        "steps": int(steps[1]),
        "n_ffts": [len(weights[key]) for key in windows],
        "channels": [shape[0] for shape in shapes],
        "blocks": _count(weights, r"estimators\.0\.decoder\.blocks\.\d+\.dwconv\.bias"),
        "time_channels": weights["estimators.0.decoder.time_mlp.0.weight"].shape[1],
        "condition_channels": embed.shape[0],
        "condition_blocks": _count(weights, r"cond_encoder\.blocks\.\d+\.dwconv\.bias"),
        "expansion": weights["cond_encoder.blocks.0.pwconv1.weight"].shape[0] // embed.shape[0],
        "kernel_size": first[2],
    }
    weights = rename(
        {key: value for key, value in weights.items() if not re.search(r"fft\.window$|^loss_spec\.", key)},
        [
            (r"^cond_encoder\.", "encoder."),
            (r"^estimators\.(\d+)\.decoder\.", r"branches.\1."),
            (r"\.in_proj\.", ".embed."),
            (r"\.in_norm\.", ".norm."),
            (r"\.out_proj\.", ".out."),
            (r"\.time_mlp\.0\.", ".time.linear1."),
            (r"\.time_mlp\.2\.", ".time.linear2."),
            (r"\.time_embed_proj\.", ".time."),
            (r"\.cond_mlp\.0\.", ".condition1."),
            (r"\.cond_mlp\.1\.weight$", ".condition_activation.slope"),
            (r"\.cond_mlp\.2\.", ".condition2."),
            (r"\.cond_proj\.", ".condition."),
            (r"\.act\.weight$", ".activation.slope"),
            (r"\.residual_scale\.scale$", ".scale"),
        ],
    )
    for key, value in weights.items():
        if key.endswith(".scale") or (value.dim() == 3 and value.shape[2] == 1):  # one column; convolutions of size 1
            weights[key] = value[..., 0]
    return Imported("flow2gan", own, stated or require_mel_config(_KNOWN.get(embed.shape[1])), weights)


def _count(weights: Weights, pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, key)) for key in weights)


FLOW2GAN = Importer(
    "flow2gan",
    "k2-fsa/Flow2GAN: a checkpoint with its steps in the name, libritts-mel-4-step.pt",
    _convert,
    recognizes=lambda _: False,
    checkpoints=("*-step.pt",),
    configs=(),
    needs_config=False,
)
