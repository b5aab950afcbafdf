"""strokelib: a notebook-first reproducible companion to four papers on acute ischemic stroke segmentation in CT.

Importing this package loads nothing else; import the module you need, e.g. ``from strokelib.data import cohorts``.
"""

__version__ = "0.1.0"
