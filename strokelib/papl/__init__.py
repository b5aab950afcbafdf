"""Sun et al. 2024: pathological asymmetry-guided progressive learning for infarct segmentation."""
