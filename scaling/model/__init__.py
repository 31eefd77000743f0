"""The one model definition and its presets."""
