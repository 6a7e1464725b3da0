"""Compute keys and shapes of other projects' checkpoints from their configurations.

Written from the public implementations, independent of the importers. test_published_models.py checks them against the
golden checkpoints of tiny sizes, then uses them at the published ones.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from vocoders.importers.base import resolve

Settings = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]

OLD, NEW, FOLDED = "old", "new", "folded"  # weight norm keys before and since PyTorch 2.1; none


class Convolution(NamedTuple):
    """Name, shape of the weight, and number of biases, 0 for none."""

    name: str
    shape: tuple[int, ...]
    bias: int


def keys(convolutions: list[Convolution], style: str) -> Shapes:
    """Return keys and shapes of convolutions with a style of weight norm."""
    shapes: Shapes = {}
    for name, shape, bias in convolutions:
        if bias:
            shapes[f"{name}.bias"] = (bias,)
        magnitude = (shape[0], *[1] * (len(shape) - 1))
        if style == FOLDED:
            shapes[f"{name}.weight"] = shape
        elif style == OLD:
            shapes |= {f"{name}.weight_g": magnitude, f"{name}.weight_v": shape}
        else:
            stem = f"{name}.parametrizations.weight.original"
            shapes |= {f"{stem}0": magnitude, f"{stem}1": shape}
    return shapes


def hifi_gan(config: Settings, outputs: int = 1, post_bias: bool = True) -> list[Convolution]:
    """List the convolutions of a HiFi-GAN configured as jik876/hifi-gan."""
    channels, last = config["upsample_initial_channel"], 0
    layers = [Convolution("conv_pre", (channels, config["num_mels"], 7), channels)]
    sizes = list(zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True))
    blocks = list(zip(config["resblock_kernel_sizes"], config["resblock_dilation_sizes"], strict=True))
    kinds = ("convs1", "convs2") if str(config["resblock"]) == "1" else ("convs",)
    for stage, (_, kernel) in enumerate(sizes):
        last = channels // 2 ** (stage + 1)
        layers.append(Convolution(f"ups.{stage}", (2 * last, last, kernel), last))
        for block, (size, dilations) in enumerate(blocks):
            layers += residual(f"resblocks.{stage * len(blocks) + block}", last, size, len(dilations), kinds)
    return [*layers, Convolution("conv_post", (outputs, last, 7), outputs if post_bias else 0)]


def residual(name: str, channels: int, kernel: int, count: int, kinds: tuple[str, ...]) -> Iterator[Convolution]:
    """List the convolutions of a residual block."""
    for kind in kinds:
        for index in range(count):
            yield Convolution(f"{name}.{kind}.{index}", (channels, channels, kernel), channels)


def renamed(layers: list[Convolution], *rules: tuple[str, str]) -> list[Convolution]:
    """Rename layers by regular expressions."""
    for pattern, replacement in rules:
        layers = [layer._replace(name=re.sub(pattern, replacement, layer.name)) for layer in layers]
    return layers


def jik876(config: Settings) -> Shapes:
    return keys(hifi_gan(config), OLD)


def nsf_hifigan(config: Settings) -> Shapes:
    channels, rates = config["upsample_initial_channel"], config["upsample_rates"]
    shapes = jik876(config)
    if config.get("mini_nsf"):
        return shapes | {"source_conv.weight": (channels // 4, 1, 1), "source_conv.bias": (channels // 4,)}
    shapes |= {"m_source.l_linear.weight": (1, 9), "m_source.l_linear.bias": (1,)}
    for stage in range(len(rates)):
        stride, width = math.prod(rates[stage + 1 :]), channels // 2 ** (stage + 1)
        kernel = 2 * stride if stride > 1 else 1
        shapes |= {f"noise_convs.{stage}.weight": (width, 1, kernel), f"noise_convs.{stage}.bias": (width,)}
    return shapes


def bigvgan(config: Settings) -> Shapes:
    layers = hifi_gan(config, post_bias=config.get("use_bias_at_final", True))
    shapes = keys(renamed(layers, (r"^ups\.\d+", r"\g<0>.0")), OLD)
    blocks = len(config["resblock_kernel_sizes"])
    activations = {"activation_post": config["upsample_initial_channel"] // 2 ** len(config["upsample_rates"])}
    for block in range(blocks * len(config["upsample_rates"])):
        dilations = config["resblock_dilation_sizes"][block % blocks]
        count = len(dilations) * (2 if str(config["resblock"]) == "1" else 1)
        width = config["upsample_initial_channel"] // 2 ** (block // blocks + 1)
        activations |= {f"resblocks.{block}.activations.{index}": width for index in range(count)}
    for name, width in activations.items():
        shapes |= {f"{name}.act.alpha": (width,)}
        shapes |= {f"{name}.act.beta": (width,)} if config["activation"] == "snakebeta" else {}
        shapes |= {f"{name}.upsample.filter": (1, 1, 12), f"{name}.downsample.lowpass.filter": (1, 1, 12)}
    return shapes


def speecht5(config: Settings, style: str = FOLDED) -> Shapes:
    bands = config["model_in_dim"]
    layers = hifi_gan(config | {"resblock": 1, "num_mels": bands})
    return {"mean": (bands,), "scale": (bands,)} | keys(renamed(layers, (r"^ups\.", "upsampler.")), style)


def nemo(config: Settings) -> Shapes:
    generator, blocks = config["generator"], len(config["generator"]["resblock_kernel_sizes"])
    layers = hifi_gan(generator | {"num_mels": config["preprocessor"]["nfilt"]})
    nested = [
        layer._replace(name=re.sub(r"^resblocks\.(\d+)", lambda m: _nested(int(m[1]), blocks), layer.name))
        for layer in layers
    ]
    return keys(nested, OLD)


def _nested(block: int, blocks: int) -> str:
    return f"resblocks.{block // blocks}.{block % blocks}"


def gpt_sovits(config: Settings) -> Shapes:
    return keys(hifi_gan(config), FOLDED)


def of_factors(params: Settings, bands: int) -> list[Convolution]:
    """List the convolutions of HifiganGenerator of Coqui TTS and SpeechBrain."""
    own = {"num_mels": bands, "upsample_rates": params["upsample_factors"], "resblock": params["resblock_type"]}
    return hifi_gan(params | own, post_bias=params.get("conv_post_bias", True))


def speechbrain(config: Settings) -> Shapes:
    params = {key: resolve(value, config) for key, value in config["generator"].items()}
    return keys(renamed(of_factors(params, params["in_channels"]), (r"$", ".conv")), OLD)


def coqui(config: Settings) -> Shapes:
    return keys(of_factors(config["generator_model_params"], config["audio"]["num_mels"]), OLD)


def parallel_wavegan(config: Settings) -> Shapes:
    params = config["generator_params"]
    if config.get("generator_type") == "HiFiGANGenerator":
        own = {
            "num_mels": params["in_channels"],
            "upsample_initial_channel": params["channels"],
            "upsample_rates": params["upsample_scales"],
            "resblock_dilation_sizes": params["resblock_dilations"],
            "resblock": 1 if params["use_additional_convs"] else 2,
        }
        rules = (
            ("^conv_pre", "input_conv"),
            ("^conv_post", "output_conv.1"),
            (r"^ups\.\d+", r"\g<0>.1"),
            ("^ups", "upsamples"),
            (r"^resblocks\.(.*)$", r"blocks.\1.1"),
            (r"\.convs\.", ".convs1."),
        )
        return keys(renamed(hifi_gan(params | own), *rules), OLD)
    kinds = {"MelGANGenerator": _melgan, "StyleMelGANGenerator": _style_melgan}
    return keys(kinds.get(config.get("generator_type", ""), _wavenet)(params), OLD)


def _melgan(params: Settings) -> list[Convolution]:
    """List the convolutions of MelGAN, which lie in one sequence with what has no weights."""
    channels, kernel = params["channels"], params["stack_kernel_size"]
    layers = [Convolution("melgan.1", (channels, params["in_channels"], params["kernel_size"]), channels)]
    position = 3
    for rate in params["upsample_scales"]:
        channels //= 2
        layers.append(Convolution(f"melgan.{position}", (2 * channels, channels, 2 * rate), channels))
        for stack in range(position + 1, position + 1 + params["stacks"]):
            parts = {"stack.2": kernel, "stack.4": 1, "skip_layer": 1}
            layers += [
                Convolution(f"melgan.{stack}.{part}", (channels, channels, size), channels)
                for part, size in parts.items()
            ]
        position += params["stacks"] + 2
    bands = params["out_channels"]
    return [*layers, Convolution(f"melgan.{position + 1}", (bands, channels, params["kernel_size"]), bands)]


def _style_melgan(params: Settings) -> list[Convolution]:
    """List the convolutions of StyleMelGAN."""
    width, kernel, before = params["channels"], params["kernel_size"], params["in_channels"]
    layers = []
    for index, rate in enumerate(params["noise_upsample_scales"]):
        layers.append(Convolution(f"noise_upsample.{2 * index}", (before, width, 2 * rate), width))
        before = width
    before = params["aux_channels"]
    for index in range(len(params["upsample_scales"])):
        for part, inputs in (("tade1", before), ("tade2", width)):
            name = f"blocks.{index}.{part}"
            layers.append(Convolution(f"{name}.aux_conv.0", (width, inputs, kernel), width))
            layers.append(Convolution(f"{name}.gated_conv.0", (2 * width, width, kernel), 2 * width))
        for part in ("gated_conv1", "gated_conv2"):
            layers.append(Convolution(f"blocks.{index}.{part}", (2 * width, width, kernel), 2 * width))
        before = width
    return [*layers, Convolution("output_conv.0", (1, width, kernel), 1)]


def _wavenet(params: Settings) -> list[Convolution]:
    """List the convolutions of Parallel WaveGAN."""
    inner, gate, skip = (params[f"{name}_channels"] for name in ("residual", "gate", "skip"))
    bands, context = params["aux_channels"], 2 * params["aux_context_window"] + 1
    layers = [
        Convolution("first_conv", (inner, params["in_channels"], 1), inner),
        Convolution("upsample_net.conv_in", (bands, bands, context), 0),
    ]
    for index, rate in enumerate(params["upsample_params"]["upsample_scales"]):
        name = f"upsample_net.upsample.up_layers.{2 * index + 1}"
        layers.append(Convolution(name, (1, 1, 1, 2 * rate + 1), 0))
    for index in range(params["layers"]):
        name = f"conv_layers.{index}"
        layers += [
            Convolution(f"{name}.conv", (gate, inner, params["kernel_size"]), gate),
            Convolution(f"{name}.conv1x1_aux", (gate, bands, 1), 0),
            Convolution(f"{name}.conv1x1_out", (inner, gate // 2, 1), inner),
            Convolution(f"{name}.conv1x1_skip", (skip, gate // 2, 1), skip),
        ]
    last = params["out_channels"]
    return [
        *layers,
        Convolution("last_conv_layers.1", (skip, skip, 1), skip),
        Convolution("last_conv_layers.3", (last, skip, 1), last),
    ]


def vocos(config: Settings) -> Shapes:
    features, backbone, head = (config[part]["init_args"] for part in ("feature_extractor", "backbone", "head"))
    width, inner, n_fft = backbone["dim"], backbone["intermediate_dim"], features["n_fft"]
    bands, bins = features["n_mels"], n_fft // 2 + 1
    shapes: Shapes = {
        "feature_extractor.mel_spec.spectrogram.window": (n_fft,),
        "feature_extractor.mel_spec.mel_scale.fb": (bins, bands),
    }
    linear: Shapes = {"backbone.embed": (width, bands, 7)}
    norms = ["backbone.norm", "backbone.final_layer_norm"]
    for block in (f"backbone.convnext.{index}" for index in range(backbone["num_layers"])):
        linear |= {f"{block}.dwconv": (width, 1, 7)}
        linear |= {f"{block}.pwconv1": (inner, width), f"{block}.pwconv2": (width, inner)}
        shapes[f"{block}.gamma"] = (width,)
        norms.append(f"{block}.norm")
    if config["head"]["class_path"].endswith("ISTFTHead"):
        linear["head.out"] = (head["n_fft"] + 2, width)
        shapes["head.istft.window"] = (head["n_fft"],)
    else:
        linear["head.linear_1"] = (head["n_fft"] + 2, width)
        shapes["head.linear_2.weight"] = (head["hop_length"], head["n_fft"] + 2)
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes | {f"{name}.{part}": (width,) for name in norms for part in ("weight", "bias")}


def degvoc(config: Settings) -> Shapes:
    sizes, audio = config["model"], config["audio"]
    width, attention = sizes["input_channel"], sizes["hidden_channel"]
    inner, kernel = width * sizes["mlp_ratio"], (sizes["f_kernel_size"], sizes["t_kernel_size"])
    bins = audio["n_fft"] // 2 + 1
    shapes: Shapes = {"Phi": (audio["num_mels"], bins), "PhiT": (bins, audio["num_mels"]), "alpha": (1, width, 24, 1)}
    norms, layers = {}, {}
    for region, (bands, size) in enumerate(((12, 12), (8, 24), (4, 44)), 1):
        layers[f"enc.reg{region}_encoder.1"] = (width, 2, size, 3)
        norms[f"enc.reg{region}_encoder.2"] = bands
        for part, outputs in (("mag", 1), ("phase", 2)):
            name = f"dec.reg{region}_{part}_decoder"
            norms[f"{name}.0"] = bands
            layers[f"{name}.1"] = (2 * width, width, 1, 1)
            shapes |= {f"{name}.3.weight": (2 * width, outputs, size, 1), f"{name}.3.bias": (outputs,)}
    for block in (f"module_list.{index}" for index in range(sizes["nstage"])):
        norms |= {f"{block}.attn.0": 24, f"{block}.fc1.0": 24}
        layers |= {f"{block}.attn.1": (attention, width, 1, 1), f"{block}.attn.4": (attention, 1, *kernel)}
        layers |= {f"{block}.v": (attention, width, 1, 1), f"{block}.proj": (width, attention, 1, 1)}
        layers |= {f"{block}.fc1.1": (inner, width, 1, 1), f"{block}.dw_conv.1": (inner, 1, 3, 3)}
        layers[f"{block}.fc2"] = (width, inner, 1, 1)
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name, bands in norms.items():
        shapes |= {f"{name}.{part}_matrix": (1, width, bands, 1) for part in ("gain", "bias")}
    return shapes


def univnet(config: Settings) -> Shapes:
    """Return the layout of transformers' UnivNetModel."""
    width, inner = config["model_hidden_channels"], config["kernel_predictor_hidden_channels"]
    layers = [Convolution("conv_pre", (width, config["model_in_channels"], 7), width)]
    sizes = zip(config["resblock_stride_sizes"], config["resblock_dilation_sizes"], strict=True)
    for name, rate, dilations in ((f"resblocks.{i}", *pair) for i, pair in enumerate(sizes)):
        layers.append(Convolution(f"{name}.convt_pre", (width, width, 2 * rate), width))
        layers += [Convolution(f"{name}.resblocks.{i}.conv", (width, width, 3), width) for i in range(len(dilations))]
        predictor, outputs = f"{name}.kernel_predictor", 2 * width * len(dilations)
        layers.append(Convolution(f"{predictor}.input_conv", (inner, config["num_mel_bins"], 5), inner))
        for block in range(config["kernel_predictor_num_blocks"]):
            for part in ("conv1", "conv2"):
                layers.append(Convolution(f"{predictor}.resblocks.{block}.{part}", (inner, inner, 3), inner))
        layers.append(Convolution(f"{predictor}.kernel_conv", (outputs * width * 3, inner, 3), outputs * width * 3))
        layers.append(Convolution(f"{predictor}.bias_conv", (outputs, inner, 3), outputs))
    return keys([*layers, Convolution("conv_post", (1, width, 7), 1)], FOLDED)


def flow2gan(config: Settings) -> Shapes:
    """Return the layout of a checkpoint, without its loss_spec."""
    factor, time, kernel = config["hidden_factor"], config["time_embed_channels"], config["conv_kernel_sizes"][0]
    shared = config["cond_enc_channels"]
    shapes: Shapes = {}

    def layer(name: str, outputs: int, *inputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, *inputs), f"{name}.bias": (outputs,)})

    def block(name: str, width: int) -> None:
        layer(f"{name}.dwconv", width, 1, kernel)
        shapes.update({f"{name}.norm.log_scale": (), f"{name}.norm.bias": (width,)})
        layer(f"{name}.pwconv1", factor * width, width, 1)
        shapes[f"{name}.act.weight"] = (factor * width,)
        layer(f"{name}.pwconv2", width, factor * width, 1)
        shapes[f"{name}.residual_scale.scale"] = (width, 1)

    def entry(name: str, width: int, *inputs: int) -> None:
        layer(f"{name}.in_proj", width, *inputs)
        shapes.update({f"{name}.in_norm.log_scale": (), f"{name}.in_norm.bias": (width,)})

    entry("cond_encoder", shared, config["n_mels"], 3)
    for index in range(config["cond_enc_num_layers"]):
        block(f"cond_encoder.blocks.{index}", shared)
    for branch, (n_fft, width) in enumerate(zip(config["n_ffts"], config["channels"], strict=True)):
        name = f"estimators.{branch}"
        shapes.update({f"{name}.fft.window": (n_fft,), f"{name}.ifft.window": (n_fft,)})
        name += ".decoder"
        entry(name, width, n_fft + 2, 1)
        layer(f"{name}.time_mlp.0", factor * time, time)
        layer(f"{name}.time_mlp.2", time, factor * time)
        layer(f"{name}.cond_mlp.0", factor * shared, shared, 1)
        shapes[f"{name}.cond_mlp.1.weight"] = (factor * shared,)
        layer(f"{name}.cond_mlp.2", shared, factor * shared, 1)
        for index in range(config["num_layers"][branch]):
            block(f"{name}.blocks.{index}", width)
            layer(f"{name}.blocks.{index}.cond_proj", width, shared, 1)
            layer(f"{name}.blocks.{index}.time_embed_proj", width, time)
        layer(f"{name}.out_proj", n_fft + 2, width, 1)
    return shapes


def ltx2(config: Settings) -> Shapes:
    """Return the layout of diffusers' LTX2Vocoder."""
    pairs = {
        **{"upsample_initial_channel": "hidden_channels", "upsample_rates": "upsample_factors"},
        **{"upsample_kernel_sizes": "upsample_kernel_sizes", "num_mels": "in_channels"},
        **{"resblock_kernel_sizes": "resnet_kernel_sizes", "resblock_dilation_sizes": "resnet_dilations"},
    }
    sizes = {ours: config[theirs] for ours, theirs in pairs.items()}
    names = {"conv_pre": "conv_in", "conv_post": "conv_out", "ups": "upsamplers", "resblocks": "resnets"}
    shapes = keys(hifi_gan(sizes | {"resblock": 1}, outputs=2), FOLDED)
    return {re.sub(r"^\w+", lambda m: names[m[0]], key): shape for key, shape in shapes.items()}


def hift(config: Settings) -> Shapes:
    params = config["hift"]
    rates, channels, features = params["upsample_rates"], params["base_channels"], params["istft_params"]["n_fft"] + 2
    trunk = {"num_mels": params["in_channels"], "upsample_initial_channel": channels, "resblock": 1}
    layers = hifi_gan(params | trunk, outputs=features)
    causal = "conv_pre_look_right" in params
    if causal:
        layers = [_causal(layer, params["conv_pre_look_right"] + 1) for layer in layers]
    shapes: Shapes = {"m_source.l_linear.weight": (1, params["nb_harmonics"] + 1), "m_source.l_linear.bias": (1,)}
    blocks = len(params["resblock_kernel_sizes"])
    snakes = {}  # width and number of residual blocks
    for block in range(blocks * len(rates)):
        count = len(params["resblock_dilation_sizes"][block % blocks])
        snakes[f"resblocks.{block}"] = (channels // 2 ** (block // blocks + 1), count)
    sources = zip(params["source_resblock_kernel_sizes"], params["source_resblock_dilation_sizes"], strict=True)
    for stage, (kernel, dilations) in enumerate(sources):
        stride, width = math.prod(rates[stage + 1 :]), channels // 2 ** (stage + 1)
        down = (width, features, 2 * stride if stride > 1 else 1)
        shapes |= {f"source_downs.{stage}.weight": down, f"source_downs.{stage}.bias": (width,)}
        name = f"source_resblocks.{stage}"
        layers += residual(name, width, kernel, len(dilations), ("convs1", "convs2"))
        snakes[name] = (width, len(dilations))
    for name, (width, count) in snakes.items():
        shapes |= {f"{name}.activations{part}.{i}.alpha": (width,) for part in (1, 2) for i in range(count)}
    width = params["f0_predictor"]["cond_channels"]
    for index in range(0, 10, 2):
        source = params["f0_predictor"]["in_channels"] if index == 0 else width
        kernel = 4 if causal and index == 0 else 3
        layers.append(Convolution(f"f0_predictor.condnet.{index}", (width, source, kernel), width))
    classifier = {"f0_predictor.classifier.weight": (1, width), "f0_predictor.classifier.bias": (1,)}
    return shapes | keys(layers, NEW) | classifier


def _causal(layer: Convolution, first: int) -> Convolution:
    """Convert to a layer of the causal HiFT, whose upsamplings repeat and convolve samples."""
    if layer.name == "conv_pre":
        return layer._replace(shape=(*layer.shape[:2], first))
    if layer.name.startswith("ups."):
        return layer._replace(shape=(layer.shape[1], layer.shape[0], layer.shape[2]))
    return layer


LAYOUTS: dict[str, Callable[[Settings], Shapes]] = {
    "hifi-gan": jik876,
    "nsf-hifigan": nsf_hifigan,
    "bigvgan": bigvgan,
    "speecht5-hifigan": speecht5,
    "speechbrain": speechbrain,
    "coqui": coqui,
    "parallel-wavegan": parallel_wavegan,
    "vocos": vocos,
    "hift": hift,
    "nemo": nemo,
    "gpt-sovits": gpt_sovits,
    "degvoc": degvoc,
    "univnet": univnet,
    "flow2gan": flow2gan,
    "ltx2": ltx2,
    "mmaudio": bigvgan,
}
