"""Wang et al. 2020: stroke lesions from CT perfusion by way of a synthetic diffusion image (ISLES 2018)."""
