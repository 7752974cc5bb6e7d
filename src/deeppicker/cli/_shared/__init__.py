"""What several commands share: options, progress, messages."""
