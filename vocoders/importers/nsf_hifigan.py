"""Import NSF-HiFiGAN of openvpi/SingingVocoders and openvpi/DiffSinger: jik876's layout with a source."""

from __future__ import annotations

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, fold_weight_norm, rename
from vocoders.importers.hifi_gan import TRAINING, hifi_gan_config, hifi_gan_mel_config, hifi_gan_weights, is_hifi_gan


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    if config.get("noise_sigma"):  # absent from the configurations of 2022
        raise VocoderError(
            f"NSF-HiFiGAN with noise_sigma {config['noise_sigma']} is not supported, only with 0: it adds noise to "
            f"every channel after the first convolution"
        )
    weights = hifi_gan_weights(fold_weight_norm(weights), len(config["resblock_kernel_sizes"]))
    own = hifi_gan_config(config, weights) | {"source": "fundamental" if config.get("mini_nsf") else "harmonics"}
    # utils/wav2mel.py: jik876/hifi-gan's mel without an epsilon
    mel_config = hifi_gan_mel_config(config).model_copy(update={"epsilon": 0.0})
    weights = rename(
        weights,
        [
            (r"^trunk\.noise_convs\.", "trunk.source_convs."),
            (r"^trunk\.source_conv\.", "trunk.source_convs.1."),
            (r"^trunk\.m_source\.l_linear\.", "source.linear."),
        ],
    )
    return Imported("nsf-hifigan", own, mel_config, weights)


NSF_HIFIGAN = Importer(
    "nsf-hifigan",
    "openvpi/SingingVocoders, for DiffSinger: model.ckpt of a release (model in those of 2022) and config.json",
    _convert,
    recognizes=is_hifi_gan,  # configurations of 2022 have only jik876's keys
    checkpoints=("model.ckpt", "model"),
    harmless=TRAINING + "pc_aug",  # pc_aug: pitch augmentation in training
)
