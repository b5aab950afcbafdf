"""Train what the claims of the four papers compare, at one declared small size, with several seeds, and score it.

``sizes`` says how small, ``trainings`` which row of which study a claim needs, ``studies`` trains and scores one,
``campaign`` does it for many and writes the two committed files. What follows from the scores is computed in
:mod:`strokelib.claims`, which trains nothing.
"""

from strokelib.claiming.campaign import Campaign, check, run
from strokelib.claiming.sizes import SIZE, SIZES
from strokelib.claiming.trainings import Row, chosen, rows_of, why_not

__all__ = ["SIZE", "SIZES", "Campaign", "Row", "check", "chosen", "rows_of", "run", "why_not"]
