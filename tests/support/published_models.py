"""Published models of other projects: their folders, configurations and random weights.

Configurations hold the published numbers that decide network and mel. Files, nesting and prefix are the repository's or
archive's; layouts.py gives names and shapes of weights.
"""

import json
from typing import Any

from tests.support.model_files import Model, Settings

# shared by HiFi-GAN and its derivatives
BLOCKS: Settings = {"resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3}
V1: Settings = {
    "upsample_rates": [8, 8, 2, 2],
    "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 512,
} | BLOCKS
LJ: Settings = {"num_mels": 80, "num_freq": 1025, "n_fft": 1024, "hop_size": 256, "win_size": 1024} | {
    **{"sampling_rate": 22050, "fmin": 0, "fmax": 8000, "fmax_for_loss": None}
}


def jik876(checkpoint: str, size: Settings, *others: str) -> Model:
    config = {"resblock": "1"} | V1 | size | LJ
    return Model("hifi-gan", checkpoint, "config.json", config, ("generator",), others=others)


def bigvgan(rate: int, bands: int, fmax: int | None, hop: int = 256, version: int = 2) -> Model:
    """Describe a model of NVIDIA; version 0 is the base of version 1."""
    six = {"upsample_rates": [4, 4, 2, 2, 2, 2], "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4]}
    large = six | {"upsample_initial_channel": 1536}
    if hop == 512:
        large |= {"upsample_rates": [8, 4, 2, 2, 2, 2], "upsample_kernel_sizes": [16, 8, 4, 4, 4, 4]}
    config = {"resblock": "1"} | V1 | (large if version else {})
    config |= {"use_tanh_at_final": False, "use_bias_at_final": False} if version == 2 else {}
    config |= {"activation": "snakebeta", "snake_logscale": True}
    config |= LJ | {"num_mels": bands, "sampling_rate": rate, "fmax": fmax, "hop_size": hop}
    config |= {"n_fft": 4 * hop, "win_size": 4 * hop}
    others = ("bigvgan_discriminator_optimizer.pt", "README.md", "bigvgan.py", "alias_free_activation/torch/act.py")
    channels = "upsample_initial_channel" if version else ""
    place = ("generator",)
    return Model("bigvgan", "bigvgan_generator.pt", "config.json", config, place, others=others, channels=channels)


def vocos(features: Settings, head: str, *others: str) -> Model:
    features = {"sample_rate": 24000, "n_fft": 1024, "hop_length": 256, "n_mels": 100, "padding": "center"} | features
    backbone = {"input_channels": features["n_mels"], "dim": 512, "intermediate_dim": 1536, "num_layers": 8}
    output = {"dim": 512, "n_fft": 1024, "hop_length": 256, "padding": features["padding"]}
    config = {
        "feature_extractor": {
            "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
            "init_args": features,
        },
        "backbone": {"class_path": "vocos.models.VocosBackbone", "init_args": backbone},
        "head": {"class_path": f"vocos.heads.{head}", "init_args": output},
    }
    return Model("vocos", "pytorch_model.bin", "config.yaml", config, others=others)


MATCHA: Settings = {"sample_rate": 22050, "n_mels": 80, "padding": "same", "f_min": 0, "f_max": 8000} | {
    **{"norm": "slaney", "mel_scale": "slaney"}
}


def transformers(checkpoint: str, size: Settings, channels: str = "", **rest: Any) -> Model:
    config = {"leaky_relu_slope": 0.1, "model_in_dim": 80, "normalize_before": True} | V1 | size
    return Model("speecht5-hifigan", checkpoint, "config.json", config, channels=channels, **rest)


_KEYS = (
    *("in_channels", "out_channels", "resblock_type", "resblock_dilation_sizes", "resblock_kernel_sizes"),
    *("upsample_kernel_sizes", "upsample_initial_channel", "upsample_factors", "inference_padding", "cond_channels"),
    "conv_post_bias",
)
_VALUES = (80, 1, '"1"', [[1, 3, 5]] * 3, [3, 7, 11], [16, 16, 4, 4], 512, [8, 8, 2, 2], 5, 0, True)
_REFERENCES = "".join(f"    {key}: !ref <{key}>\n" for key in _KEYS)
SPEECHBRAIN = Model(
    "speechbrain",
    "generator.ckpt",
    "hyperparams.yaml",
    "".join(f"{key}: {value}\n" for key, value in zip(_KEYS, _VALUES, strict=True))
    + f"generator: !new:speechbrain.lobes.models.HifiGAN.HifiganGenerator\n{_REFERENCES}"
    + "modules:\n    generator: !ref <generator>\n",
)


def parallel_wavegan(steps: int, params: Settings, features: Settings, generator: str = "") -> Model:
    """Describe a tag of ParallelWaveGAN; bin/train.py adds its arguments to the configuration."""
    config: Settings = {"sampling_rate": 22050, "fft_size": 1024, "hop_size": 256, "win_length": None}
    config |= {"num_mels": 80, "fmin": 80, "fmax": 7600, "generator_params": params, "format": "hdf5"} | features
    config |= {"generator_type": generator} if generator else {}
    config["train_dumpdir"] = "dump/train_nodev/norm"
    checkpoint = f"checkpoint-{steps}steps.pkl"
    return Model("parallel-wavegan", checkpoint, "config.yml", config, ("model", "generator"), stats=80)


WAVENET = {
    **{"in_channels": 1, "out_channels": 1, "kernel_size": 3, "layers": 30, "stacks": 3, "residual_channels": 64},
    **{"gate_channels": 128, "skip_channels": 64, "aux_channels": 80, "aux_context_window": 2, "dropout": 0.0},
    **{"use_weight_norm": True, "upsample_net": "ConvInUpsampleNetwork"},
    "upsample_params": {"upsample_scales": [4, 4, 4, 4]},
}
VCTK = {
    **{"in_channels": 80, "out_channels": 1, "channels": 512, "kernel_size": 7, "upsample_scales": [5, 5, 4, 3]},
    **{"upsample_kernel_sizes": [10, 10, 8, 6], "resblock_kernel_sizes": [3, 7, 11]},
    **{"resblock_dilations": [[1, 3, 5]] * 3, "use_additional_convs": True, "bias": True, "use_weight_norm": True},
}

VCTK_FEATURES = {"sampling_rate": 24000, "fft_size": 2048, "hop_size": 300, "win_length": 1200}


def melgan(channels: int, rates: list[int], stacks: int, bands: int = 1) -> Settings:
    return {
        **{"in_channels": 80, "out_channels": bands, "kernel_size": 7, "channels": channels, "upsample_scales": rates},
        **{"stack_kernel_size": 3, "stacks": stacks, "use_weight_norm": True, "use_causal_conv": False},
    }


STYLE = {
    **{"in_channels": 128, "aux_channels": 80, "channels": 64, "out_channels": 1, "kernel_size": 9, "dilation": 2},
    **{"bias": True, "noise_upsample_activation": "LeakyReLU", "upsample_mode": "nearest"},
    **{"noise_upsample_activation_params": {"negative_slope": 0.2}, "gated_function": "softmax"},
    "use_weight_norm": True,
}
DEGVOC = {
    "model_name": "DegVoC24k",
    "model": {
        **{"nstage": 8, "input_channel": 256, "hidden_channel": 256, "nb_num": 24, "use_even": False},
        **{"f_kernel_size": 9, "t_kernel_size": 11, "mlp_ratio": 1, "causal": False, "use_shared_encoder": True},
        **{"use_shared_decoder": True, "decode_type": "res+phase", "init_type": "pinv", "phit_learnable": True},
    },
    "audio": {
        **{"sampling_rate": 24000, "segment_size": 16384, "num_mels": 100, "n_fft": 1024, "hop_size": 256},
        **{"win_size": 1024, "fmin": 0, "fmax": 12000},
    },
}
UNIVNET = {
    **{"model_type": "univnet", "model_in_channels": 64, "model_hidden_channels": 32, "num_mel_bins": 100},
    **{"resblock_kernel_sizes": [3] * 3, "resblock_stride_sizes": [8, 8, 4], "leaky_relu_slope": 0.2},
    **{"resblock_dilation_sizes": [[1, 3, 9, 27]] * 3, "kernel_predictor_num_blocks": 3},
    **{"kernel_predictor_hidden_channels": 64, "kernel_predictor_conv_size": 3, "kernel_predictor_dropout": 0.0},
}


FLOW2GAN = {  # flow2gan/models/config.py
    **{"n_mels": 100, "n_ffts": (512, 256, 128), "channels": (768, 512, 384), "num_layers": (8, 8, 8)},
    **{"time_embed_channels": 512, "hidden_factor": 3, "conv_kernel_sizes": (7, 7, 7)},
    **{"cond_enc_channels": 512, "cond_enc_num_layers": 4},
}


def flow2gan(name: str, **changes: Any) -> Model:
    return Model("flow2gan", f"{name}.pt", "", FLOW2GAN | changes, ("model",), channels="cond_enc_channels")


MMAUDIO = bigvgan(16000, 80, 8000, version=1).config
LTX2 = {
    **{"_class_name": "LTX2Vocoder", "in_channels": 128, "hidden_channels": 1024, "out_channels": 2},
    **{"upsample_kernel_sizes": [16, 15, 8, 4, 4], "upsample_factors": [6, 5, 2, 2, 2]},
    **{"resnet_kernel_sizes": [3, 7, 11], "resnet_dilations": [[1, 3, 5]] * 3, "act_fn": "leaky_relu"},
    **{"leaky_relu_negative_slope": 0.1, "final_act_fn": "tanh", "final_bias": True, "output_sampling_rate": 24000},
}


def openvpi(checkpoint: str, **more: Any) -> Model:
    config = {"resblock": "1"} | V1 | {"discriminator_periods": [3, 5, 7, 11, 17, 23, 37]} | more
    config |= {"upsample_rates": [8, 8, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4, 4]}
    config |= {"num_mels": 128, "n_fft": 2048, "hop_size": 512, "win_size": 2048, "sampling_rate": 44100}
    return Model("nsf-hifigan", checkpoint, "config.json", config | {"fmin": 40, "fmax": 16000}, ("generator",))


COQUI = {
    "generator_model": "hifigan_generator",
    "generator_model_params": {
        "upsample_factors": [8, 8, 2, 2],
        **{key: value for key, value in V1.items() if key != "upsample_rates"},
        **{"upsample_initial_channel": 128, "resblock_type": "1"},
    },
    "audio": {
        **{"fft_size": 1024, "win_length": 1024, "hop_length": 256, "sample_rate": 22050, "preemphasis": 0.0},
        **{"ref_level_db": 20, "log_func": "np.log", "num_mels": 80, "mel_fmin": 0.0, "mel_fmax": 8000.0},
        **{"spec_gain": 1.0, "signal_norm": False},
    },
}


def hift_sizes(rates: list[int], kernels: list[int], sources: list[int]) -> Settings:
    return {
        **{"in_channels": 80, "base_channels": 512, "nb_harmonics": 8, "nsf_alpha": 0.1, "nsf_sigma": 0.003},
        **{"nsf_voiced_threshold": 10, "upsample_rates": rates, "upsample_kernel_sizes": kernels},
        **{"istft_params": {"n_fft": 16, "hop_len": 4}, **BLOCKS, "source_resblock_kernel_sizes": sources},
        **{"source_resblock_dilation_sizes": [[1, 3, 5]] * len(sources), "lrelu_slope": 0.1, "audio_limit": 0.99},
        "f0_predictor": {"num_class": 1, "in_channels": 80, "cond_channels": 512},
    }


def cosyvoice(config_file: str, rate: int, n_fft: int, hop: int, sizes: Settings) -> Model:
    """Describe CosyVoice, with YAML for HyperPyYAML."""
    causal, fmax = ("Causal", "null") if "conv_pre_look_right" in sizes else ("", "8000")
    predictor = json.dumps(sizes["f0_predictor"])
    plain = "".join(f"    {key}: {json.dumps(value)}\n" for key, value in sizes.items() if key != "f0_predictor")
    config = (
        f"__set_seed1: !apply:random.seed [1986]\nsample_rate: {rate}\n"
        f"hift: !new:cosyvoice.hifigan.generator.{causal}HiFTGenerator\n    sampling_rate: !ref <sample_rate>\n{plain}"
        f"    f0_predictor: !new:cosyvoice.hifigan.f0_predictor.{causal}ConvRNNF0Predictor {predictor}\n"
        f"feat_extractor: !name:matcha.utils.audio.mel_spectrogram\n    n_fft: {n_fft}\n    num_mels: 80\n"
        f"    sampling_rate: !ref <sample_rate>\n    hop_size: {hop}\n    win_size: {n_fft}\n"
        f"    fmin: 0\n    fmax: {fmax}\n    center: False\n"
    )
    return Model("hift", "hift.pt", config_file, config, others=("llm.pt", "flow.pt", "campplus.onnx"))


HIFT_24K = hift_sizes([8, 5, 3], [16, 11, 7], [7, 7, 11])
CHATTERBOX = Model(
    *("hift", "s3gen.safetensors", "", {"hift": HIFT_24K}),
    prefix="mel2wav.",
    others=("t3_cfg.safetensors", "ve.safetensors", "s3gen.pt", "conds.pt", "tokenizer.json"),
)
AUDIOLDM = transformers(
    "model.safetensors",
    {
        **{"model_in_dim": 64, "sampling_rate": 16000, "normalize_before": False, "upsample_initial_channel": 1024},
        **{"upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4]},
    },
    channels="upsample_initial_channel",
    folder="vocoder",
    others=("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"),
)

GPT_SOVITS = (
    {"num_mels": 100, "resblock": 1, "upsample_initial_channel": 512}
    | BLOCKS
    | {**{"upsample_rates": [10, 6, 2, 2, 2], "upsample_kernel_sizes": [20, 12, 4, 4, 4]}}
)
NEMO = {
    "preprocessor": {
        "_target_": "nemo.collections.asr.parts.preprocessing.features.FilterbankFeatures",
        **{"nfilt": 80, "lowfreq": 0, "highfreq": 8000, "n_fft": 1024, "n_window_size": 1024, "n_window_stride": 256},
        **{"sample_rate": 22050, "window": "hann", "normalize": None, "preemph": None, "dither": 0.0, "log": True},
        **{"log_zero_guard_type": "clamp", "log_zero_guard_value": 1e-5, "mag_power": 1.0, "use_grads": False},
        **{"frame_splicing": 1, "exact_pad": True, "pad_to": 0, "pad_value": -11.52},
    },
    "generator": {"_target_": "nemo.collections.tts.modules.hifigan_modules.Generator", "resblock": 1} | V1,
    "target": "nemo.collections.tts.models.hifigan.HifiGanModel",
}

# by name in the table of docs/models.md
MODELS: dict[str, Model] = {
    "nvidia/bigvgan_v2_44khz_128band_512x": bigvgan(44100, 128, None, 512),
    "nvidia/bigvgan_v2_44khz_128band_256x": bigvgan(44100, 128, None),
    "nvidia/bigvgan_v2_24khz_100band_256x": bigvgan(24000, 100, None),
    "nvidia/bigvgan_v2_22khz_80band_256x": bigvgan(22050, 80, None),
    "nvidia/bigvgan_v2_22khz_80band_fmax8k_256x": bigvgan(22050, 80, 8000),
    "nvidia/bigvgan_24khz_100band": bigvgan(24000, 100, 12000, version=1),
    "nvidia/bigvgan_22khz_80band": bigvgan(22050, 80, 8000, version=1),
    "nvidia/bigvgan_base_24khz_100band": bigvgan(24000, 100, 12000, version=0),
    "nvidia/bigvgan_base_22khz_80band": bigvgan(22050, 80, 8000, version=0),
    "charactr/vocos-mel-24khz": vocos({}, "ISTFTHead"),
    "BSC-LT/vocos-mel-22khz": vocos(
        *(MATCHA, "ISTFTHead", "mel_spec_22khz_univ.onnx"),
        "vocos_checkpoint_epoch=183_step=3690672_val_loss=3.8142.ckpt",
    ),
    "BSC-LT/wavenext-mel": vocos(MATCHA | {"clip_val": 1e-5}, "WaveNextHead"),
    "FunAudioLLM/CosyVoice-300M": cosyvoice(
        *("cosyvoice.yaml", 22050, 1024, 256), hift_sizes([8, 8], [16, 16], [7, 11])
    ),
    "FunAudioLLM/CosyVoice2-0.5B": cosyvoice("cosyvoice2.yaml", 24000, 1920, 480, HIFT_24K),
    "FunAudioLLM/Fun-CosyVoice3-0.5B-2512": cosyvoice(
        *("cosyvoice3.yaml", 24000, 1920, 480, HIFT_24K | {"conv_pre_look_right": 4})
    ),
    "ResembleAI/chatterbox": CHATTERBOX,
    "microsoft/speecht5_hifigan": transformers(
        "pytorch_model.bin",
        {"sampling_rate": 16000, "upsample_rates": [4] * 4, "upsample_kernel_sizes": [8] * 4},
    ),
    "espnet/fastspeech2_conformer_hifigan": transformers("pytorch_model.bin", {}),
    "cvssp/audioldm-m-full": AUDIOLDM,
    "speechbrain/tts-hifigan-ljspeech": SPEECHBRAIN,
    "speechbrain/tts-hifigan-libritts-22050Hz": SPEECHBRAIN,
    "speechbrain/tts-hifigan-libritts-16kHz": SPEECHBRAIN,
    "UNIVERSAL_V1": jik876("g_02500000", {}, "do_02500000"),
    "LJ_V1": jik876("generator_v1", {}),
    "LJ_V2": jik876("generator_v2", {"upsample_initial_channel": 128}),
    "LJ_V3": jik876(
        "generator_v3",
        {
            **{"resblock": "2", "upsample_rates": [8, 8, 4], "upsample_kernel_sizes": [16, 16, 8]},
            **{"upsample_initial_channel": 256, "resblock_kernel_sizes": [3, 5, 7]},
            "resblock_dilation_sizes": [[1, 2], [2, 6], [3, 12]],
        },
    ),
    "ljspeech_parallel_wavegan.v1": parallel_wavegan(400000, WAVENET, {}),
    "vctk_hifigan.v1": parallel_wavegan(
        *(2500000, VCTK, VCTK_FEATURES, "HiFiGANGenerator"),
    ),
    "ljspeech_melgan.v1": parallel_wavegan(400000, melgan(512, [8, 8, 2, 2], 3), {}, "MelGANGenerator"),
    "ljspeech_full_band_melgan.v2": parallel_wavegan(1000000, melgan(512, [8, 8, 4], 4), {}, "MelGANGenerator"),
    "ljspeech_multi_band_melgan.v2": parallel_wavegan(
        1000000, melgan(384, [8, 4, 2], 4, bands=4), {"version": "0.3.5"}, "MelGANGenerator"
    ),
    "libritts_multi_band_melgan.v2": parallel_wavegan(
        1000000, melgan(384, [5, 5, 3], 4, bands=4), VCTK_FEATURES, "MelGANGenerator"
    ),
    "ljspeech_style_melgan.v1": parallel_wavegan(
        1500000,
        STYLE | {"noise_upsample_scales": [11, 2, 2, 2], "upsample_scales": [2] * 8 + [1]},
        {},
        "StyleMelGANGenerator",
    ),
    "libritts_style_melgan.v1": parallel_wavegan(
        *(1500000, STYLE | {"noise_upsample_scales": [10, 2, 2, 2], "upsample_scales": [5, 1, 5, 1, 3, 1, 2, 2, 1]}),
        *(VCTK_FEATURES, "StyleMelGANGenerator"),
    ),
    "dg845/univnet-dev": Model(
        "univnet", "model.safetensors", "config.json", UNIVNET, others=("preprocessor_config.json",)
    ),
    "k2-fsa/Flow2GAN/libritts-mel-4-step.pt": flow2gan("libritts-mel-4-step"),
    "k2-fsa/Flow2GAN/universal-44k-mel-128band-512x-1-step.pt": flow2gan(
        "universal-44k-mel-128band-512x-1-step", n_mels=128, n_ffts=(1024, 512, 256)
    ),
    "hkchengrex/MMAudio/ext_weights/best_netG.pt": Model(
        *("mmaudio", "best_netG.pt", "", MMAUDIO, ("generator",)),
        folder="ext_weights",
        channels="upsample_initial_channel",
    ),
    "Lightricks/LTX-2/vocoder": Model(
        *("ltx2", "diffusion_pytorch_model.safetensors", "config.json", LTX2),
        folder="vocoder",
        channels="hidden_channels",
    ),
    "DegVoC": Model("degvoc", "g_02000000_n8.pt", "degvoc_libritts_config.json", DEGVOC, ("generator",)),
    "nsf_hifigan": openvpi("model"),
    "nsf_hifigan_44.1k_hop512_128bin_2024.02": openvpi("model.ckpt", mini_nsf=False, noise_sigma=0.0),
    "pc_nsf_hifigan_44.1k_hop512_128bin_2025.02": openvpi("model.ckpt", mini_nsf=True, noise_sigma=0.0, pc_aug=True),
    "gsv-v4-pretrained": Model(*("gpt-sovits", "vocoder.pth", "", GPT_SOVITS), others=("s2Gv4.pth",)),
    "tts_en_hifigan": Model("nemo", "tts_en_hifigan.nemo", "model_config.yaml", NEMO, prefix="generator."),
    "vocoder_models--en--ljspeech--hifigan_v2": Model("coqui", "model_file.pth", "config.json", COQUI, ("model",)),
}
