"""The discriminators of a training run."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from losses.adversarial import discriminator_loss, feature_matching, generator_loss
from losses.discriminators import DiscriminatorOutput, build_discriminator
from recipes.training.recipe import Recipe
from recipes.training.state import load_discriminators
from vocoders.errors import VocoderError


class Adversary(nn.Module):
    """All discriminators that a recipe names.

    Raises: VocoderError for an unknown name or configuration, and for segments too short for one of them.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.objective = recipe.adversarial.objective
        self.matches_features = bool(recipe.weights["feature_matching"])
        self.discriminators = nn.ModuleDict()
        segment = recipe.train.segment_frames * recipe.mel.hop_length
        for name, config in recipe.discriminators.items():
            discriminator = build_discriminator(name, config, recipe.mel.sample_rate)
            if segment < discriminator.min_samples:
                raise VocoderError(
                    f"train.segment_frames = {recipe.train.segment_frames} makes segments of {segment} samples, but "
                    f"discriminator '{name}' needs at least {discriminator.min_samples}; take longer segments"
                    f"{discriminator.shorter}"
                )
            self.discriminators[name] = discriminator
        if recipe.adversarial.init:
            load_discriminators(self, recipe, Path(recipe.adversarial.init))

    def judge(self, audio: Tensor) -> list[DiscriminatorOutput]:
        return [judgement for discriminator in self.discriminators.values() for judgement in discriminator(audio)]

    def forward(self, fake: Tensor, real: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """fake, real: (batch, 1, samples) -> what the generator minimises, unweighted, and what this module minimises.

        Both come from one judgement of each signal: when the generator is updated before the discriminators, as
        Wavehax does, neither has changed in between, and judging the fake again would give the same.
        """
        judged_real, judged_fake = self.judge(real), self.judge(fake)
        terms = {"adversarial": generator_loss(judged_fake, self.objective)}
        if self.matches_features:
            terms["feature_matching"] = feature_matching(judged_fake, judged_real)
        return terms, discriminator_loss(judged_real, judged_fake, self.objective)
