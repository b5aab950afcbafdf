"""Every number the embedded heads are made with, its unit and its source; ``data_manifests/knobs.csv`` is this table.

No number is tuned to make a method win. While the contrast was set, one probe network (a U-Net of width 12, at most 250
steps) was trained to see that the task is neither easy nor hopeless; no compared method was.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass, field
from typing import Any

CT = "measured on the shipped CT"
ASSUMED = "assumed"
MASKS = "measured on the shipped masks"
MINNERUP = "Minnerup et al. 2016, Ann Neurol 80:924 (net water uptake 11.5 % separates before and after 4.5 h)"
UPTAKE_FIT = "assumed: with uptake_time_h it gives 11.5 % at 4.5 h (Minnerup et al. 2016)"


GREY_WHITE = "assumed; rendered heads differ by 5 to 6 HU, Brooks et al. 1980, J Comput Assist Tomogr 4:489: 5.5 HU"
SCANNERS = "assumed; scanners differ by up to 10 HU (Oh et al. 2019, Am J Emerg Med 37:680)"
VENTRICLES = "assumed; more than the 3 mL a decade of Pfefferbaum et al. 1994, Arch Neurol 51:874 (men of 21 to 70)"
CALCIUM = "assumed; fewer than in Daghighi et al. 2007, Folia Morphol 66:115 (pineal 71 %, plexus 66 %)"
READERS = "assumed; readers differ more on CT after 24 h (Dice 0.73, data_manifests/literature.csv)"
INFARCT_ADC = "assumed; 0.58 of healthy tissue, published 0.70 for whole lesions (data_manifests/literature.csv)"
LEENDERS = "assumed; near Leenders et al. 1990, Brain 113:27 (PET, grey and white matter)"
OLIVOT = "assumed; with the widening Tmax lies above the 6 s of Olivot et al. 2009, Stroke 40:469"
CAMPBELL = "assumed; below the 31 % of Campbell et al. 2011, Stroke 42:3435"
WINTERMARK = "assumed; below the 2 mL/100 g of Wintermark et al. 2006, Stroke 37:979 in grey matter"


def knob(value: Any, unit: str, source: str, used_in: str) -> Any:
    """A field of :class:`Knobs` with its unit, source and the module that reads it."""
    return field(default=value, metadata={"unit": unit, "source": source, "used_in": used_in})


@dataclass(frozen=True)
class Knobs:
    """The numbers of the embedded heads; one line each."""

    grey_hu: float = knob(37.0, "HU", GREY_WHITE, "painting")
    white_hu: float = knob(29.0, "HU", GREY_WHITE, "painting")
    deep_grey_extra_hu: float = knob(1.5, "HU", ASSUMED, "fixed")
    csf_hu: float = knob(8.0, "HU", ASSUMED, "painting")
    falx_hu: float = knob(55.0, "HU", ASSUMED, "painting")
    falx_half_mm: float = knob(0.45, "mm", ASSUMED, "fixed")
    sinus_mm: float = knob(3.2, "mm", ASSUMED, "fixed")
    calcium_hu: float = knob(160.0, "HU", ASSUMED, "painting")
    table_hu: float = knob(1300.0, "HU", ASSUMED, "painting")
    diploe_hu: float = knob(650.0, "HU", CT, "painting")
    muscle_hu: float = knob(48.0, "HU", ASSUMED, "fixed")
    fat_hu: float = knob(-75.0, "HU", ASSUMED, "fixed")
    skin_hu: float = knob(25.0, "HU", ASSUMED, "painting")
    air_hu: float = knob(-1000.0, "HU", "definition of the Hounsfield scale", "painting")
    head_hu_sd: float = knob(1.0, "HU", SCANNERS, "anatomy")
    density_sd_hu: float = knob(0.9, "HU", ASSUMED, "anatomy")
    density_spacing_mm: float = knob(22.0, "mm", ASSUMED, "anatomy")
    age_mean: float = knob(64.9, "years", MASKS, "anatomy")
    age_sd: float = knob(14.4, "years", MASKS, "anatomy")
    living_size: float = knob(0.93, "1", "assumed: MNI space against living heads, linear; 0.80 in volume", "anatomy")
    living_size_b: float = knob(0.89, "1", "as living_size, for anatomy B, whose skull holds 15 % more", "anatomy")
    size_sd: float = knob(0.03, "1", ASSUMED, "anatomy")
    size_male: float = knob(
        0.018, "1", "Ruigrok et al. 2014, Neurosci Biobehav Rev 39:34 (about 11 % larger volume)", "anatomy"
    )
    warp_coarse_mm: float = knob(1.7, "mm", ASSUMED, "warp")
    warp_coarse_spacing_mm: float = knob(42.0, "mm", ASSUMED, "warp")
    warp_fine_mm: float = knob(0.9, "mm", ASSUMED, "warp")
    warp_fine_spacing_mm: float = knob(15.0, "mm", ASSUMED, "warp")
    skull_stiff_mm: float = knob(5.0, "mm", ASSUMED, "warp")
    asymmetric_share: float = knob(0.25, "1", ASSUMED, "anatomy")
    sulcus_asymmetric_share: float = knob(0.4, "1", ASSUMED, "anatomy")
    skull_asymmetric_share: float = knob(0.15, "1", ASSUMED, "anatomy")
    torque_mm: float = knob(2.0, "mm", ASSUMED, "anatomy")
    ventricle_b_mm: float = knob(2.4, "mm", "assumed: ages anatomy B, an average of young adults", "atlas")
    ventricle_mm_at_65: float = knob(-0.6, "mm", ASSUMED, "anatomy")
    ventricle_mm_per_decade: float = knob(0.75, "mm", VENTRICLES, "anatomy")
    ventricle_sd_mm: float = knob(0.8, "mm", ASSUMED, "anatomy")
    ventricle_side_sd_mm: float = knob(0.45, "mm", ASSUMED, "anatomy")
    sulcus_mm_at_65: float = knob(0.75, "mm", ASSUMED, "anatomy")
    sulcus_mm_per_decade: float = knob(0.28, "mm", ASSUMED, "anatomy")
    sulcus_sd_mm: float = knob(0.22, "mm", ASSUMED, "anatomy")
    sulcus_spacing_mm: float = knob(7.0, "mm", ASSUMED, "anatomy")
    sulcus_depth_mm: float = knob(17.0, "mm", ASSUMED, "anatomy")
    cortex_mm: float = knob(2.8, "mm", "Fischl and Dale 2000, PNAS 97:11050 (1 to 4.5 mm, mean 2.5)", "anatomy")
    rim_mm_at_65: float = knob(1.6, "mm", ASSUMED, "anatomy")
    rim_mm_per_decade: float = knob(0.45, "mm", ASSUMED, "anatomy")
    cistern_mm_per_log: float = knob(1.6, "mm", ASSUMED, "anatomy")
    cistern_log_at_65: float = knob(-0.35, "1", ASSUMED, "anatomy")
    cistern_log_per_decade: float = knob(0.16, "1", ASSUMED, "anatomy")
    skull_mm: float = knob(6.5, "mm", CT, "anatomy")
    skull_sd_mm: float = knob(1.0, "mm", ASSUMED, "anatomy")
    base_mm: float = knob(3.5, "mm", ASSUMED, "fixed")
    table_mm: float = knob(1.6, "mm", ASSUMED, "painting")
    scalp_mm: float = knob(5.0, "mm", ASSUMED, "anatomy")
    scalp_sd_mm: float = knob(0.9, "mm", ASSUMED, "anatomy")
    white_change_hu: float = knob(6.0, "HU", ASSUMED, "anatomy")
    white_change_reach_mm: float = knob(9.0, "mm", ASSUMED, "fixed")
    silent_stroke_share: float = knob(0.12, "1", ASSUMED, "anatomy")
    chronic_radius_min_mm: float = knob(3.0, "mm", ASSUMED, "anatomy")
    chronic_radius_max_mm: float = knob(13.0, "mm", ASSUMED, "anatomy")
    calcified_pineal_share: float = knob(0.3, "1", CALCIUM, "anatomy")
    calcified_plexus_share: float = knob(0.2, "1", CALCIUM, "anatomy")
    calcified_falx_share: float = knob(0.1, "1", ASSUMED, "anatomy")
    calcified_old_extra: float = knob(0.4, "1", ASSUMED, "anatomy")
    calcified_pallidum_old_share: float = knob(0.12, "1", ASSUMED, "anatomy")
    white_change_shape: float = knob(2.0, "1", ASSUMED, "anatomy")
    white_change_scale: float = knob(0.22, "1", ASSUMED, "anatomy")
    old_age: float = knob(62.0, "years", ASSUMED, "anatomy")
    old_age_spread: float = knob(8.0, "years", ASSUMED, "anatomy")
    chronic_hu: float = knob(13.0, "HU", ASSUMED, "painting")
    lesion_cap_ml: float = knob(300.0, "mL", MASKS, "infarcts")
    onset_min_h: float = knob(1.0, "h", ASSUMED, "infarcts")
    onset_max_h: float = knob(24.0, "h", "Sun et al. 2024 (NCCT within 24 h of onset)", "infarcts")
    uptake_limit: float = knob(0.27, "1", UPTAKE_FIT, "infarcts")
    uptake_time_h: float = knob(8.1, "h", MINNERUP, "infarcts")
    drop_log_sd: float = knob(0.25, "1", ASSUMED, "infarcts")
    drop_min_hu: float = knob(2.0, "HU", ASSUMED, "infarcts")
    drop_max_hu: float = knob(10.0, "HU", ASSUMED, "infarcts")
    grey_white_loss: float = knob(0.6, "1", ASSUMED, "infarcts")
    patchiness: float = knob(0.35, "1", ASSUMED, "infarcts")
    patch_spacing_mm: float = knob(9.0, "mm", ASSUMED, "infarcts")
    border_mm: float = knob(1.2, "mm", ASSUMED, "infarcts")
    reader_bias_mm: float = knob(-0.3, "mm", ASSUMED, "infarcts")
    reader_bias_sd_mm: float = knob(0.8, "mm", READERS, "infarcts")
    reader_sd_mm: float = knob(1.2, "mm", READERS, "infarcts")
    reader_spacing_mm: float = knob(10.0, "mm", ASSUMED, "infarcts")
    reader_misses_ml: float = knob(0.15, "mL", ASSUMED, "infarcts")
    swelling_reach_mm: float = knob(7.0, "mm", ASSUMED, "infarcts")
    effacement_mm: float = knob(1.6, "mm", ASSUMED, "infarcts")
    expansion_mm: float = knob(2.5, "mm", ASSUMED, "infarcts")
    swelling_full_ml: float = knob(100.0, "mL", ASSUMED, "infarcts")
    swelling_full_h: float = knob(18.0, "h", ASSUMED, "infarcts")
    angle_max_deg: float = knob(15.0, "degrees", ASSUMED, "scanner")
    tilt_sd_deg: float = knob(2.0, "degrees", ASSUMED, "scanner")
    shift_sd_mm: float = knob(3.0, "mm", ASSUMED, "scanner")
    shift_max_mm: float = knob(8.0, "mm", ASSUMED, "scanner")
    gantry_min_deg: float = knob(0.0, "degrees", ASSUMED, "scanner")
    gantry_max_deg: float = knob(18.5, "degrees", CT, "scanner")
    head_length_mm: float = knob(212.0, "mm", ASSUMED, "scanner")
    coverage_min_mm: float = knob(138.0, "mm", ASSUMED, "scanner")
    coverage_max_mm: float = knob(155.0, "mm", ASSUMED, "scanner")
    noise_log_sd: float = knob(0.1, "1", ASSUMED, "scanner")
    edge_mm: float = knob(0.35, "mm", ASSUMED, "render")
    cupping_hu: float = knob(3.0, "HU", ASSUMED, "fixed")
    cupping_reach_mm: float = knob(6.0, "mm", ASSUMED, "fixed")
    growth_mm_at_24h: float = knob(1.0, "mm", ASSUMED, "mr")
    growth_sd_mm: float = knob(0.6, "mm", ASSUMED, "mr")
    shine_through: float = knob(0.8, "1", ASSUMED, "mr")
    mr_angle_sd_deg: float = knob(5.0, "degrees", ASSUMED, "mr")
    mr_noise: float = knob(0.05, "1", ASSUMED, "mr")
    b0_grey: float = knob(1.25, "1", ASSUMED, "mr")
    b0_white: float = knob(1.0, "1", ASSUMED, "mr")
    b0_fluid: float = knob(3.0, "1", ASSUMED, "mr")
    b0_chronic: float = knob(2.4, "1", ASSUMED, "mr")
    adc_grey: float = knob(830.0, "1e-6 mm2/s", ASSUMED, "mr")
    adc_white: float = knob(730.0, "1e-6 mm2/s", ASSUMED, "mr")
    adc_fluid: float = knob(3000.0, "1e-6 mm2/s", ASSUMED, "mr")
    adc_chronic: float = knob(1900.0, "1e-6 mm2/s", ASSUMED, "mr")
    adc_acute: float = knob(450.0, "1e-6 mm2/s", INFARCT_ADC, "mr")
    ctp_slab_sd_mm: float = knob(5.0, "mm", ASSUMED, "perfusion_slab")
    ctp_growth_mm: float = knob(0.6, "mm", ASSUMED, "perfusion_slab")
    ctp_growth_sd_mm: float = knob(0.8, "mm", ASSUMED, "perfusion_slab")
    ctp_growth_uneven_mm: float = knob(1.2, "mm", ASSUMED, "perfusion_slab")
    ctp_grey_flow: float = knob(60.0, "mL/100 g/min", LEENDERS, "perfusion_flow")
    ctp_white_flow: float = knob(25.0, "mL/100 g/min", LEENDERS, "perfusion_flow")
    ctp_grey_volume: float = knob(4.0, "mL/100 g", LEENDERS, "perfusion_flow")
    ctp_white_volume: float = knob(2.0, "mL/100 g", LEENDERS, "perfusion_flow")
    ctp_chronic_flow: float = knob(8.0, "mL/100 g/min", ASSUMED, "perfusion_flow")
    ctp_chronic_volume: float = knob(0.8, "mL/100 g", ASSUMED, "perfusion_flow")
    ctp_flow_log_sd: float = knob(0.12, "1", ASSUMED, "perfusion_flow")
    ctp_voxel_log_sd: float = knob(0.10, "1", ASSUMED, "perfusion_flow")
    ctp_delay_s: float = knob(0.9, "s", ASSUMED, "perfusion_flow")
    ctp_delay_sd_s: float = knob(0.35, "s", ASSUMED, "perfusion_flow")
    ctp_dispersion_s: float = knob(0.7, "s", ASSUMED, "perfusion_flow")
    ctp_dispersion_log_sd: float = knob(0.3, "1", ASSUMED, "perfusion_flow")
    ctp_mismatch: float = knob(
        3.5, "1", "assumed: volume with Tmax above 6 s over the core's, median", "perfusion_flow"
    )
    ctp_mismatch_log_sd: float = knob(0.5, "1", ASSUMED, "perfusion_flow")
    ctp_penumbra_flow: float = knob(0.55, "1", ASSUMED, "perfusion_flow")
    ctp_penumbra_volume: float = knob(1.05, "1", ASSUMED, "perfusion_flow")
    ctp_penumbra_delay_s: float = knob(5.5, "s", OLIVOT, "perfusion_flow")
    ctp_penumbra_delay_sd_s: float = knob(0.9, "s", ASSUMED, "perfusion_flow")
    ctp_penumbra_dispersion_s: float = knob(1.3, "s", ASSUMED, "perfusion_flow")
    ctp_penumbra_edge_mm: float = knob(2.0, "mm", ASSUMED, "perfusion_flow")
    ctp_core_flow: float = knob(0.17, "1", CAMPBELL, "perfusion_flow")
    ctp_core_flow_sd: float = knob(0.07, "1", ASSUMED, "perfusion_flow")
    ctp_core_volume: float = knob(0.45, "1", WINTERMARK, "perfusion_flow")
    ctp_core_delay_s: float = knob(1.5, "s", ASSUMED, "perfusion_flow")
    ctp_aif_hu: float = knob(330.0, "HU", "assumed: peak in pure arterial blood at 80 kVp", "perfusion_input")
    ctp_aif_log_sd: float = knob(0.2, "1", ASSUMED, "perfusion_input")
    ctp_step_s: float = knob(
        1.0, "s", "Hakim et al. 2021, Stroke 52:2328 (43 to 64 time points, 1 s)", "perfusion_input"
    )
    ctp_step_sd_s: float = knob(0.03, "s", ASSUMED, "perfusion_input")
    ctp_pial_share: float = knob(0.3, "1", ASSUMED, "perfusion_vessels")
    ctp_noise_hu: float = knob(6.5, "HU", "assumed: SD of a pixel of 1 mm at 80 kVp and 5 mm", "perfusion_series")
    ctp_noise_blur_mm: float = knob(0.8, "mm", ASSUMED, "perfusion_series")
    ctp_noise_log_sd: float = knob(0.15, "1", ASSUMED, "perfusion_series")
    ctp_motion_mm: float = knob(0.2, "mm", "assumed: SD of the shift in plane after registration", "perfusion_series")
    ctp_motion_deg: float = knob(0.1, "degrees", ASSUMED, "perfusion_series")
    ctp_motion_s: float = knob(8.0, "s", ASSUMED, "perfusion_series")
    smallest_ml: float = knob(0.5, "mL", ASSUMED, "draw_cohorts")


KNOBS = Knobs()


def knobs_csv(knobs: Knobs = KNOBS) -> str:
    """The table that ``data_manifests/knobs.csv`` holds, as text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("name", "value", "unit", "source", "used_in"))
    for f in dataclasses.fields(knobs):
        row = (f.metadata[key] for key in ("unit", "source", "used_in"))
        writer.writerow((f.name, getattr(knobs, f.name), *row))
    return out.getvalue()
