"""Training-time compression: smaller networks that come out of one training run.

ST, ST++, GKT, STP and S2HPruner as steps of one training loop, over any residual network.
"""
