"""An unchanged training script, observed: what `perfdoctor run` does."""
