"""Import checkpoints of other projects: ``IMPORTERS``, one file per family.

No code in a file is run, weight norm is folded, and an error lists missing or superfluous keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vocoders.checkpoint import Checkpoint
from vocoders.dsp.mel import MelConfig, list_differences
from vocoders.dsp.stft import float32_weights
from vocoders.errors import VocoderError
from vocoders.importers.amphion import AMPHION
from vocoders.importers.base import Importer, build_imported, build_imported_f0_estimator
from vocoders.importers.bigvgan import BIGVGAN, MMAUDIO
from vocoders.importers.coqui import COQUI
from vocoders.importers.degvoc import DEGVOC
from vocoders.importers.files import (
    check_checkpoint,
    find_config,
    find_stats,
    parse_config,
    read_archive,
    read_config,
    read_metadata,
    read_stats,
    read_weights,
)
from vocoders.importers.flow2gan import FLOW2GAN
from vocoders.importers.gpt_sovits import GPT_SOVITS
from vocoders.importers.hifi_gan import HIFI_GAN
from vocoders.importers.hift import HIFT
from vocoders.importers.istftnet import ISTFTNET
from vocoders.importers.ltx2 import LTX2, LTX2_SINGLE_FILE
from vocoders.importers.nemo import NEMO
from vocoders.importers.nsf_hifigan import NSF_HIFIGAN
from vocoders.importers.parallel_wavegan import PARALLEL_WAVEGAN
from vocoders.importers.speechbrain import SPEECHBRAIN
from vocoders.importers.speecht5 import SPEECHT5
from vocoders.importers.univnet import UNIVNET, UNIVNET_MAUM
from vocoders.importers.vocos import VOCOS
from vocoders.importers.wavehax import WAVEHAX

IMPORTERS: dict[str, Importer] = {
    importer.name: importer
    for importer in (
        HIFI_GAN,
        ISTFTNET,
        PARALLEL_WAVEGAN,
        WAVEHAX,
        SPEECHT5,
        VOCOS,
        BIGVGAN,
        NSF_HIFIGAN,
        SPEECHBRAIN,
        COQUI,
        HIFT,
        NEMO,
        GPT_SOVITS,
        AMPHION,
        DEGVOC,
        UNIVNET,
        UNIVNET_MAUM,
        FLOW2GAN,
        LTX2,
        LTX2_SINGLE_FILE,
        MMAUDIO,
    )
}


@float32_weights()
def import_checkpoint(
    family: str,
    checkpoint: Path,
    config: Path | None = None,
    stats: Path | None = None,
    mel_config: str | None = None,
    repository: str | None = None,
) -> Checkpoint:
    """Read a checkpoint of another project.

    Args:
        family: a key of ``IMPORTERS``.
        checkpoint: the file of the project's training.
        config: its configuration, JSON or YAML. Default: the file beside it named in the family's ``configs``.
        stats: mean and scale of the mels, .npy (2, n_mels) or .h5 with "mean" and "scale", if the family keeps them in
            a file. Default: stats.h5 or stats.npy beside the checkpoint.
        mel_config: the mel config, for ``MelConfig.parse``, if the configuration does not state it.
        repository: name of the files' repository, which tells the mel config of some published models. Default: the
            checkpoint's folder.

    Returns:
        The generator, its mel config, and the model's own F0 estimator, if any.

    Raises:
        VocoderError: for files of another family, and for an unsupported model.
    """
    if family not in IMPORTERS:
        raise VocoderError(f"cannot import '{family}'; supported: {', '.join(IMPORTERS)}")
    check_checkpoint(checkpoint)  # first, as the configuration is looked for beside it
    importer = IMPORTERS[family]
    content = None
    if importer.archive:
        settings, content = read_archive(checkpoint, *importer.archive)
    else:
        config = config or find_config(checkpoint, importer)
        settings = read_metadata(checkpoint) if config is None else read_config(config)
    stated = MelConfig.parse(mel_config) if mel_config else None
    if stats is None and importer.standardizes(settings):
        stats = find_stats(checkpoint)
    published = importer.mel_configs.get(Path(repository or checkpoint.parent.resolve()).name)
    content = read_weights(checkpoint, importer.prefix) if content is None else content
    if config is None and importer.stored_config and isinstance(content, Mapping):
        settings = parse_config(
            str(content.get(importer.stored_config, "{}")).encode(), f"the configuration in {checkpoint}"
        )
    imported = importer.read(settings, content, stated or published, checkpoint)
    if stated and stated != imported.mel_config:
        differing = list_differences(imported.mel_config.differences(stated))
        raise VocoderError(f"the configuration contradicts --mel-config {mel_config}: {differing}")
    statistics = read_stats(stats, imported.mel_config.n_mels) if stats else None
    generator = build_imported(imported, statistics, checkpoint)
    f0_estimator = build_imported_f0_estimator(imported, checkpoint)
    training = {"imported from": family, "file": checkpoint.name}
    lag = None if imported.lag == imported.mel_config.usual_lag else imported.lag
    return Checkpoint(imported.mel_config, generator, f0_estimator, training, lag)
