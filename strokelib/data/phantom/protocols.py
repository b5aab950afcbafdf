"""How each cohort was scanned, when, and who drew its labels: one protocol a cohort, with sources."""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass

from strokelib.data.phantom.knobs import ASSUMED, CT, KNOBS

AISD = "AISD: 5 mm, 0.40 to 0.50 mm"


@dataclass(frozen=True)
class Protocol:
    """Scanner, course and readers of one cohort.

    Args:
        pixel_mm: Smallest and largest native pixel.
        slice_mm: Slice thicknesses that occur, drawn with equal chance.
        noise_sd_hu: SD of a native pixel at a slice of 5 mm.
        noise_blur_mm: Width of the noise's correlation: the reconstruction kernel.
        gantry_share: Share of scans with a tilted gantry.
        angle_sd_deg: SD of the head's turn in plane.
        onset_h: Median time from onset to the scan in hours.
        onset_log_sd: SD of its natural logarithm.
        mr_delay_h: Median time from the CT to the MR in hours.
        mr: ``dwi`` or ``adc``: what the MR image shows; empty where there is none.
        healthy: Heads without change of white matter, calcification or old infarct.
        ages: Mean and SD in years where the patient's age is unknown.
        sources: Field to source; a field without one is assumed.
    """

    pixel_mm: tuple[float, float]
    slice_mm: tuple[float, ...]
    noise_sd_hu: float
    noise_blur_mm: float
    gantry_share: float
    angle_sd_deg: float
    onset_h: float
    onset_log_sd: float
    mr_delay_h: float
    mr: str
    healthy: bool
    ages: tuple[float, float]
    sources: dict[str, str]

    def source(self, name: str) -> str:
        """Source of a field."""
        return self.sources.get(name, ASSUMED)


_AGES = (KNOBS.age_mean, KNOBS.age_sd)
_MEASURED = {"noise_sd_hu": CT, "noise_blur_mm": CT}

PROTOCOLS: dict[str, Protocol] = {
    "aisd": Protocol(
        (0.40, 0.50), (5.0,), 4.0, 0.445, 0.5, 5.0, 8.0, 0.75, 12.0, "dwi", False, _AGES,
        _MEASURED | {"pixel_mm": AISD, "slice_mm": AISD},
    ),
    "xwhd": Protocol(
        (0.40, 0.50), (5.0,), 3.5, 0.55, 0.2, 4.0, 6.02, 0.606, 24.0, "dwi", True, _AGES,
        {name: "Sun et al. 2024, Table I" for name in ("onset_h", "onset_log_sd")},
    ),
    "apis": Protocol((0.43, 0.49), (5.0,), 4.4, 0.40, 0.4, 6.0, 6.0, 0.75, 4.0, "adc", False, _AGES, {}),
    "icoais": Protocol((0.40, 0.49), (3.0, 5.0), 4.0, 0.50, 0.4, 5.0, 6.0, 0.75, 20.0, "adc", False, _AGES, {}),
    "center_tbi": Protocol(
        (0.40, 0.50), (3.0, 4.0, 5.0), 4.2, 0.42, 0.3, 6.0, 6.0, 0.75, 0.0, "", False, (50.0, 20.0), {},
    ),
    "isles2018": Protocol(
        (0.43, 0.50), (5.0,), 4.0, 0.50, 0.0, 5.0, 4.0, 0.5, 1.5, "", False, _AGES,
        {
            "onset_h": "assumed; Hakim et al. 2021, Stroke 52:2328: within 8 h of onset",
            "mr_delay_h": "assumed; Hakim et al. 2021, Stroke 52:2328: within 3 h of the CT perfusion",
            "mr": "on the grid of the perfusion series, not in a pose of its own: see perfusion.render_ctp",
        },
    ),
}  # fmt: skip


def protocols_csv() -> str:
    """The table that ``data_manifests/protocols.csv`` holds, as text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("cohort", "name", "value", "source"))
    for cohort, protocol in PROTOCOLS.items():
        for name in (f.name for f in dataclasses.fields(protocol) if f.name != "sources"):
            value = getattr(protocol, name)
            shown = " ".join(str(v) for v in value) if isinstance(value, tuple) else value
            writer.writerow((cohort, name, shown, protocol.source(name)))
    return out.getvalue()
