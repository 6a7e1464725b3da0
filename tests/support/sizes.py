"""Small sizes for the tests: of a generator, what differs from `config_for`; of a discriminator, from its defaults."""

from typing import Any

_HIFIGAN = {"channels": 32, "resblock_kernel_sizes": [3, 5], "resblock_dilations": [[1, 3], [1, 2]]}
_WAVEHAX = {"channels": 6, "blocks": 2, "kernel_size": [5, 3]}

GENERATOR_SIZES: dict[str, dict[str, Any]] = {
    "hnmask": {**_WAVEHAX, "backbone_channels": 16, "backbone_blocks": 1, "adaptive_projection": True},
    "hifigan": _HIFIGAN,
    "istftnet": {"channels": 16, "resblock_kernel_sizes": [3], "resblock_dilations": [[1, 3]]},
    "parallel-wavegan": {"layers": 6, "stacks": 2, "residual_channels": 8, "gate_channels": 8, "skip_channels": 8},
    "wavehax": {**_WAVEHAX, "framewise_norm": True},
    "multi-stream-wavehax": _WAVEHAX,
    "complex-wavehax": {**_WAVEHAX, "framewise_norm": True},
    "vocos": {"channels": 16, "blocks": 2},
    "nsf-hifigan": _HIFIGAN,
    # With more convolutions, rounding would hide the effect of the farthest frames.
    "bigvgan": {**_HIFIGAN, "resblock_dilations": [[1], [2]]},
    "hift": {"channels": 16, "resblock_kernel_sizes": [5], "resblock_dilations": [[1, 3]], "harmonics": 3},
    "degvoc": {"channels": 8, "attention_channels": 6, "blocks": 2, "kernel_size": [5, 5]},
    "univnet": {"channels": 6, "noise_channels": 8, "dilations": [1, 3], "predictor_channels": 8},
    "flow2gan": {
        **{"steps": 2, "channels": [6, 5, 4], "blocks": 1, "time_channels": 8},
        **{"condition_channels": 6, "condition_blocks": 1, "expansion": 2},
    },
    "ltx2": {
        **{"network": _HIFIGAN | {"channels": 8, "upsample_rates": [8, 4], "upsample_kernel_sizes": [16, 8]}},
        **{"output": "clamp", "extension_n_fft": 32, "extension_hop_length": 16, "sample_rate": 16000},
        "extension": _HIFIGAN | {"channels": 8, "upsample_rates": [8, 4], "upsample_kernel_sizes": [16, 8]},
    },
    "melgan": {"channels": 16, "stacks": 2},
    "style-melgan": {"channels": 4, "noise_channels": 6, "kernel_size": 5, "noise_upsample_rates": [3, 2]},
}

DISCRIMINATOR_SIZES: dict[str, dict[str, Any]] = {
    "multi-period": {"periods": [2, 3], "channels": [4, 8]},
    "multi-scale": {"scales": 2, "channels": [16, 16, 16, 32]},
    "multi-resolution": {"n_ffts": [256, 128], "channels": 4},
    "multi-scale-stft": {"n_ffts": [256, 128], "hop_lengths": [64, 32], "channels": 4},
    "multi-scale-subband-cqt": {
        "bins_per_octave": [12, 16],
        "hop_lengths": [64, 48],
        "n_octaves": 3,
        "max_kernel": 512,
        "channels": 4,
    },
    "parallel-wavegan": {"layers": 4, "channels": 4},
}
