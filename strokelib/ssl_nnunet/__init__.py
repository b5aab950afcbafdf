"""Seia et al. 2023: self-supervised pre-training of nnU-Net for final infarct segmentation on NCCT."""
