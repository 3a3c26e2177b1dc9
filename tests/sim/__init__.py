"""A cluster in virtual time: the daemon's own `Node`s and `Mesh`es, a simulated kernel and LAN.

One seed makes the cluster, its faults and its traffic. First faults, while safety is checked at
every step; then everything is healed, and convergence is demanded.
"""
