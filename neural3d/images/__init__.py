"""Pictures of every kind: how they are opened, what EXIF says of them, their colours; frames of films."""
