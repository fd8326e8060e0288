"""The networks as torch modules: generators and encoders that checkpoints are loaded into."""
