"""Cost against scale: seconds and memory of every stage over documents, labels, tokens, ranks, processes and cells.

    python -m benchmarks.scale                      every curve, at full size
    python -m benchmarks.scale --curve documents    one of them
    python -m benchmarks.scale --small              a try of a few seconds each; its figures mean nothing

A point is one stage at one size, measured in a process of its own. Figures go to ``results/scale_CURVE.json`` and
``results/scale_CURVE.svg``.
"""
