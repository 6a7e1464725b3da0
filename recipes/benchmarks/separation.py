"""Whether discriminators see: python -m recipes.benchmarks.separation --data DIR [--list train.txt --valid valid.txt]

Each discriminator is trained by itself to tell recordings from noise-vocoded copies of them: white noise under the
envelope of the recording's mel, which has its loudness and formants and nothing of its voice. Logged is how often, on
recordings it is not trained on, a segment scores higher than its own copy. A discriminator that stays at 0.5 after some
hundred steps is dead.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from losses.adversarial import discriminator_loss
from losses.discriminators import DISCRIMINATORS, Discriminator, build_discriminator
from recipes.data.clips import list_clips
from recipes.data.config import DataRecipe
from recipes.data.segments import SegmentDataset, centered_on_hops
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig, mel_filter_bank
from vocoders.errors import VocoderError


class NoiseVocoder:
    """Audio (batch, 1, samples) -> white noise under the envelope of its mel, of the same shape."""

    def __init__(self, mel_config: MelConfig) -> None:
        self.mel = LogMelSpectrogram(mel_config)
        bank = torch.from_numpy(mel_filter_bank(mel_config)).float()
        # Each bin takes the mean of the mels that hear it, each mel taken back to the level of a bin.
        self.back = (bank / bank.sum(1, keepdim=True).clamp_min(1e-8)).T / bank.sum(0).clamp_min(1e-8)[:, None]
        self.back[bank.sum(0) == 0] = 0

    def __call__(self, audio: Tensor, source: torch.Generator) -> Tensor:
        envelope = self.back @ self.mel(audio.squeeze(1)).exp()
        stft = self.mel.stft
        noise = stft(torch.randn(audio.squeeze(1).shape, generator=source))
        copy = stft.inverse(noise / noise.abs().square().mean().sqrt() * envelope)[:, None]
        loudness = audio.square().mean(-1, keepdim=True) / copy.square().mean(-1, keepdim=True).clamp_min(1e-12)
        return copy * loudness.sqrt()


def separation(discriminator: Discriminator, real: Tensor, fake: Tensor) -> float:
    """Share of the recordings that score higher than their own copies, ties counting half."""
    discriminator.eval()
    with torch.no_grad():
        scores = []
        for audio in (real, fake):
            judged = [torch.stack([j.scores.mean() for j in discriminator(item[None])]).sum() for item in audio]
            scores.append(torch.stack(judged))
    discriminator.train()
    difference = scores[0] - scores[1]
    return float((difference > 0).float().mean() + 0.5 * (difference == 0).float().mean())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.separation", description="Train each discriminator to hear noise vocoding."
    )
    parser.add_argument("names", nargs="*", help=f"default: all of {', '.join(DISCRIMINATORS)}")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of recordings")
    parser.add_argument("--list", default="train.txt", help="list of recordings to train on, relative to DIR")
    parser.add_argument("--valid", default="valid.txt", help="list of recordings to measure on")
    parser.add_argument("--mel", default="bigvgan-24k", help="mel config whose rate and mel are taken")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    options = parser.parse_args(arguments)
    try:
        mel_config = centered_on_hops(MelConfig.parse(options.mel))
        names = options.names or list(DISCRIMINATORS)
        vocoder = NoiseVocoder(mel_config)
        data = DataRecipe(dir=str(options.data), train=options.list, valid=options.valid)
        sets = []
        for listed in (options.list, options.valid):
            clips = list_clips(options.data, options.data / listed)
            sets.append(SegmentDataset(clips, None, data, mel_config, 8192 // mel_config.hop_length, seed=0))
        train, valid = sets
        source = torch.Generator().manual_seed(0)
        real = torch.stack([valid[i]["audio"] for i in range(64)])
        fake = vocoder(real, source)
        print("| discriminator | step | loss | separation | seconds |\n|---|---|---|---|---|", flush=True)
        for name in names:
            torch.manual_seed(0)
            discriminator = build_discriminator(name, {}, mel_config.sample_rate)
            optimizer = torch.optim.AdamW(discriminator.parameters(), options.lr, betas=(0.8, 0.99))
            begin, loss = time.perf_counter(), "-"
            for step in range(options.steps + 1):
                if step % 50 == 0:
                    share = separation(discriminator, real, fake)
                    seconds = time.perf_counter() - begin
                    print(f"| {name} | {step} | {loss} | {share:.3f} | {seconds:.0f} |", flush=True)
                items = [train[step * options.batch + i]["audio"] for i in range(options.batch)]
                audio = torch.stack(items)
                judged = discriminator(audio), discriminator(vocoder(audio, source))
                total = discriminator_loss(*judged)
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
                loss = f"{float(total.detach()) / len(judged[0]):.3f}"
    except VocoderError as error:
        print(f"recipes.benchmarks.separation: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
