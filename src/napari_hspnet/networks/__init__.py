"""HSP-Net, checkpoints and model cards."""
