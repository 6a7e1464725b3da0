"""From mels to audio with a trained model: whole, in batches and streamed."""
