"""``strokelib predict``: demo weights on a scan or a folder of scans."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = "mark what a method's demo weights take for infarct; not for clinical use"
EXAMPLE = "strokelib predict papl head.nii.gz --out predictions"
SHIPPED = "demo"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("method", help="papl, adn, ssl_nnunet, unet, or pseudo_dwi (which needs CT perfusion)")
    parser.add_argument(
        "input", help="a NIfTI file, DICOM files (folder or zip), a prepared case, or a folder of scans or cases"
    )
    parser.add_argument("--out", required=True, help="folder for masks, probabilities and their JSON files")
    parser.add_argument(
        "--weights", default=SHIPPED, help="demo (shipped, default) or a file that `strokelib train --export` wrote"
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="a voxel above it is lesion (default 0.5)")
    parser.add_argument("--layout", default="auto", help="of a folder of scans, as `strokelib prepare` takes it")
    parser.add_argument("--force", action="store_true", help="replace results that are there already")


def run(args: argparse.Namespace) -> int:
    """Predict every scan; one that cannot be used stops no other."""
    from strokelib import repro
    from strokelib.errors import DataError, ParameterError
    from strokelib.methods import prediction, weights

    if not 0 <= args.threshold < 1:
        raise ParameterError("threshold", found=args.threshold, wanted="0 to below 1", next_step="give 0.5")
    repro.seed_everything(0)
    demo = weights.load(args.method, None if args.weights == SHIPPED else Path(args.weights))
    source, out = Path(args.input), Path(args.out)
    scans = list(prediction.scans_of(source, demo, layout=args.layout, progress=True))
    if not args.force:
        prediction.refuse_to_overwrite(scans, out, demo.key)
    print(f"{demo.title}, row {demo.row}: demo weights {demo.sha256[:12]}, status {demo.status}")
    failed = 0
    for scan in scans:
        try:
            found = prediction.predict_scan(demo, scan, out, threshold=args.threshold)
        except DataError as error:
            if len(scans) == 1:
                raise
            failed += 1
            print(f"left out  {scan.name}\n      {error}")
            continue
        print(f"{scan.name}: {found.facts['volume_ml']:.1f} mL marked, {os.path.relpath(found.files[0])}")
    print(f"predicted: {len(scans) - failed} of {len(scans)} scans. {prediction.WARNING}")
    return 1 if failed else 0
