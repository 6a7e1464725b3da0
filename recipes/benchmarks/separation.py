"""Learning of discriminators: python -m recipes.benchmarks.separation --data DIR [--list train.txt --valid valid.txt]

Each discriminator is trained by itself to tell recordings from noise-vocoded copies of them: white noise under the
envelope of the recording's mel, which has its loudness and formants but no harmonics. The table shows how
often, on recordings it is not trained on, a segment scores higher than its own copy. A discriminator that stays at 0.5
after some hundred steps does not learn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from losses import DISCRIMINATORS, Discriminator, build_discriminator, discriminator_loss
from recipes.benchmarks import common
from recipes.data.clips import list_clips
from recipes.data.config import DataRecipe
from recipes.data.segments import SegmentDataset, centered_on_hops
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig, mel_filter_bank

SEGMENT = 8192  # samples, rounded down to whole frames
EVERY = 50  # steps between rows of the table


class NoiseVocoder:
    """Convert audio (batch, 1, samples) to white noise under the envelope of its mel, of the same shape."""

    def __init__(self, mel_config: MelConfig) -> None:
        self.mel = LogMelSpectrogram(mel_config)
        bank = torch.from_numpy(mel_filter_bank(mel_config)).float()
        # Each bin takes the mean of the bands that cover it, each band scaled back to the level of a bin.
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
    """Compute the share of recordings (items, 1, samples) that score higher than their copies; ties count half."""
    discriminator.eval()
    with torch.no_grad():
        scores = []
        for audio in (real, fake):
            means = [torch.stack([part.scores.mean() for part in discriminator(item[None])]).sum() for item in audio]
            scores.append(torch.stack(means))
    discriminator.train()
    difference = scores[0] - scores[1]
    return float((difference > 0).float().mean() + 0.5 * (difference == 0).float().mean())


def train(
    discriminator: Discriminator, vocoder: NoiseVocoder, data: SegmentDataset, steps: int, batch: int, lr: float
) -> Iterator[str]:
    """Train a discriminator.

    Yields:
        The loss of the last step, before each of ``steps`` and at the end; "-" before the first one.
    """
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr, betas=(0.8, 0.99))
    source = torch.Generator().manual_seed(1)
    loss = "-"
    for step in range(steps):
        yield loss
        audio = torch.stack([data[step * batch + i]["audio"] for i in range(batch)])
        real, fake = discriminator(audio), discriminator(vocoder(audio, source))
        total = discriminator_loss(real, fake)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        loss = f"{float(total.detach()) / len(real):.3f}"
    yield loss


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("separation", "Train each discriminator to tell recordings from noise-vocoded copies.")
    parser.add_argument("names", nargs="*", help=f"default: all of {', '.join(DISCRIMINATORS)}")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of recordings")
    parser.add_argument("--list", default="train.txt", help="list of recordings to train on, relative to DIR")
    parser.add_argument("--valid", default="valid.txt", help="list of recordings to measure on")
    parser.add_argument("--mel", default="bigvgan-24k", help="mel config of the segments and of the copies")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    options = parser.parse_args(arguments)

    def segments(name: str, mel_config: MelConfig) -> SegmentDataset:
        clips = list_clips(options.data, options.data / name)
        data = DataRecipe(dir=str(options.data), train=options.list, valid=options.valid)
        return SegmentDataset(clips, None, data, mel_config, SEGMENT // mel_config.hop_length, seed=0)

    def benchmark() -> None:
        mel_config = centered_on_hops(MelConfig.parse(options.mel))
        vocoder = NoiseVocoder(mel_config)
        trained, valid = (segments(name, mel_config) for name in (options.list, options.valid))
        real = torch.stack([valid[i]["audio"] for i in range(64)])
        fake = vocoder(real, torch.Generator().manual_seed(0))
        common.header("discriminator", "step", "loss", "separation", "seconds")
        for name in options.names or DISCRIMINATORS:
            torch.manual_seed(0)
            discriminator = build_discriminator(name, {}, mel_config.sample_rate)
            begin = time.perf_counter()
            losses = train(discriminator, vocoder, trained, options.steps, options.batch, options.lr)
            for step, loss in enumerate(losses):
                if step % EVERY == 0:
                    share = separation(discriminator, real, fake)
                    common.row(name, step, loss, f"{share:.3f}", f"{time.perf_counter() - begin:.0f}")

    return common.status("separation", benchmark)


if __name__ == "__main__":
    sys.exit(main())
