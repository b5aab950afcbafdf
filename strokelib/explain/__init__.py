"""What a trained network depends on, and whether such an explanation means anything.

Integrated gradients and their baselines; networks with their layers drawn anew, on which an explanation has to change;
how much of it lies in a lesion; and whether features tell lesions apart in heads that were not looked at.
"""
