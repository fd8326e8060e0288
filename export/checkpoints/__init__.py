"""Reading people's checkpoints: what they hold, told by looking. Nothing in a file is ever executed."""
