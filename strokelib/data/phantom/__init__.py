"""The embedded cohorts: real infarct masks painted into heads built from a real CT atlas
(``data_manifests/knobs.csv``)."""
