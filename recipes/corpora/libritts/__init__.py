"""LibriTTS and LibriTTS-R: 2456 English readers."""
