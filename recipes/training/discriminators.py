"""Discriminators of a training run."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from losses import DiscriminatorOutput, build_discriminator, discriminator_loss, feature_matching, generator_loss
from recipes.training.published_discriminators import load_published
from recipes.training.schema import Recipe
from vocoders.checkpoint import write_tensors
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError


class Discriminators(nn.Module):
    """All discriminators of a recipe, as one module; ``audio_config`` is the task's."""

    def __init__(self, recipe: Recipe, audio_config: MelConfig) -> None:
        super().__init__()
        self.settings, self.sample_rate = recipe.discriminators, audio_config.sample_rate
        self.objective, self.weights = recipe.adversarial.objective, recipe.adversarial.weights
        if unknown := self.weights.keys() - recipe.discriminators.keys():
            named = ", ".join(recipe.discriminators)
            raise VocoderError(f"adversarial.weights names {', '.join(sorted(unknown))}; the recipe's are: {named}")
        self.matches_features = bool(recipe.weights["feature_matching"])
        self.discriminators = nn.ModuleDict()
        segment = recipe.train.segment_frames * audio_config.hop_length
        for name, config in recipe.discriminators.items():
            discriminator = build_discriminator(name, config, self.sample_rate)
            if segment < discriminator.min_samples:
                raise VocoderError(
                    f"train.segment_frames = {recipe.train.segment_frames} makes segments of {segment} samples, but "
                    f"discriminator '{name}' needs at least {discriminator.min_samples}; take longer segments"
                    f"{discriminator.too_short_hint}"
                )
            self.discriminators[name] = discriminator
        if recipe.adversarial.init:
            self.load(Path(recipe.adversarial.init))

    def discriminate(self, audio: Tensor) -> dict[str, list[DiscriminatorOutput]]:
        """Return the sub-discriminators' outputs for audio (batch, channels, samples), by discriminator."""
        audio = audio.flatten(0, 1).unsqueeze(1)
        return {name: discriminator(audio) for name, discriminator in self.discriminators.items()}

    def forward(self, fake: Tensor, real: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the adversarial losses of both sides in one pass: fake and real (batch, channels, samples).

        The generator is updated first, so a second pass over the fake would be equal. Returns the generator's
        unweighted losses and the discriminators' loss.
        """
        real_outputs, fake_outputs = self.discriminate(real), self.discriminate(fake)
        terms: dict[str, list[Tensor]] = {"adversarial": [], "feature_matching": [], "own": []}
        for name, real_ones in real_outputs.items():
            fake_ones, weight = fake_outputs[name], self.weights.get(name, 1.0)
            terms["adversarial"].append(weight * generator_loss(fake_ones, self.objective))
            terms["own"].append(weight * discriminator_loss(real_ones, fake_ones, self.objective))
            if self.matches_features:
                terms["feature_matching"].append(weight * feature_matching(fake_ones, real_ones))
        losses = {name: torch.stack(parts).sum() for name, parts in terms.items() if parts}
        return losses, losses.pop("own")

    def save(self, path: Path) -> None:
        """Write all discriminators to one file, for ``adversarial.init`` of another run."""
        metadata = {"discriminators": json.dumps(self.settings), "sample_rate": str(self.sample_rate)}
        copies = {key: v.detach().to("cpu", copy=True).contiguous() for key, v in self.state_dict().items()}
        write_tensors(copies, path, metadata)

    def load(self, path: Path) -> None:
        """Load a file of ``save``, or one that ``load_published`` knows."""
        if path.suffix != ".safetensors":
            load_published(path, dict(self.discriminators.items()))
            return
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise VocoderError(f"cannot read the discriminators {path}: {error}") from None
        stored, rate = json.loads(metadata.get("discriminators", "{}")), metadata.get("sample_rate")
        if stored != self.settings or rate != str(self.sample_rate):
            raise VocoderError(
                f"{path} holds the discriminators {stored} for {rate} Hz, the recipe names {self.settings} for "
                f"{self.sample_rate} Hz"
            )
        self.load_state_dict(load_file(path))
