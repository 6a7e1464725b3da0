"""Hugging Face hub repositories in the local cache."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vocoders.errors import VocoderError, reason

HUB_MODELS = {
    "nvidia/bigvgan_v2_44khz_128band_512x": "bigvgan",
    "nvidia/bigvgan_v2_44khz_128band_256x": "bigvgan",
    "nvidia/bigvgan_v2_24khz_100band_256x": "bigvgan",
    "nvidia/bigvgan_v2_22khz_80band_256x": "bigvgan",
    "nvidia/bigvgan_v2_22khz_80band_fmax8k_256x": "bigvgan",
    "nvidia/bigvgan_24khz_100band": "bigvgan",
    "nvidia/bigvgan_22khz_80band": "bigvgan",
    "nvidia/bigvgan_base_24khz_100band": "bigvgan",
    "nvidia/bigvgan_base_22khz_80band": "bigvgan",
    "charactr/vocos-mel-24khz": "vocos",
    "BSC-LT/vocos-mel-22khz": "vocos",
    "BSC-LT/wavenext-mel": "vocos",
    "FunAudioLLM/CosyVoice-300M": "hift",
    "FunAudioLLM/CosyVoice2-0.5B": "hift",
    "FunAudioLLM/Fun-CosyVoice3-0.5B-2512": "hift",
    "ResembleAI/chatterbox": "hift",
    "microsoft/speecht5_hifigan": "speecht5-hifigan",
    "espnet/fastspeech2_conformer_hifigan": "speecht5-hifigan",
    "cvssp/audioldm-m-full": "speecht5-hifigan",
    "speechbrain/tts-hifigan-ljspeech": "speechbrain",
    "speechbrain/tts-hifigan-libritts-22050Hz": "speechbrain",
    "speechbrain/tts-hifigan-libritts-16kHz": "speechbrain",
    "dg845/univnet-dev": "univnet",
    "k2-fsa/Flow2GAN/libritts-mel-4-step.pt": "flow2gan",
    "k2-fsa/Flow2GAN/universal-44k-mel-128band-512x-1-step.pt": "flow2gan",
    "hkchengrex/MMAudio/ext_weights/best_netG.pt": "mmaudio",
    "Lightricks/LTX-2/vocoder": "ltx2",
}
"""Models of other projects that load by their name on the hub, and their families in ``IMPORTERS``."""

_FLOWS = "which makes audio in several steps of a diffusion or flow; of these only Flow2GAN is supported"
_ACE_STEP = "ACE-Step's music vocoder, an encoder before a HiFi-GAN of another layout; it is not supported"
_UNSUPPORTED = {
    "bridgevoc": f"BridgeVoC, a Schroedinger bridge {_FLOWS}",
    "rfwave": f"RFWave, a rectified flow {_FLOWS}",
    "periodwave": f"PeriodWave, a flow {_FLOWS}",
    "wavefm": f"WaveFM, a flow {_FLOWS}",
    "comvo": "ComVo, a network of complex weights whose norms cover the utterance; it is not supported",
    "hiftnet": "HiFTNet of yl4579; HiFT of CosyVoice, its successor, is supported (the family hift)",
    "adamoshifigan": _ACE_STEP,
    "music_vocoder": _ACE_STEP,
    "aliasingfreeneuralaudiosynthesis": "Pupu-Vocoder, a HiFi-GAN with other activations; it is not supported",
    "token2wav": "the token2wav of Qwen-Omni, whose BigVGAN takes mels that it rescales itself; it is not supported",
}


def refuse_unsupported(*texts: str) -> None:
    """Raise VocoderError when a name or a configuration tells of a vocoder that is known and not supported."""
    for word, sentence in _UNSUPPORTED.items():
        if any(word in re.sub("[ -]", "", text.lower()) for text in texts):
            raise VocoderError(f"this is {sentence}")


def cached_folder(repository: str) -> Path | None:
    """Return the cache folder of a repository ("org/name"), None without files."""
    with _explained(repository):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(repository, local_files_only=True))
        except LocalEntryNotFoundError:
            return None


def download(repository: str, patterns: Sequence[str]) -> Path:
    """Download the files of a repository ("org/name") that match ``patterns``, and return its cache folder.

    The folder may be missing where no file matches.
    """
    with _explained(repository):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(repository, allow_patterns=list(patterns)))


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub into one sentence."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except LocalEntryNotFoundError:
        raise VocoderError(
            f"'{repository}' is no local file, not in the local cache, and the Hugging Face hub cannot be reached"
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise VocoderError(f"cannot load '{repository}' from the Hugging Face hub: {reason(error)}") from None
