"""bct in a world made of memory: whole nodes on a virtual clock, a network and a chain that misbehave by dice.

The node's own code runs unchanged, from hub to watchman; what stands behind its Protocols is simulated. One seed is one
run: the same events in the same order, on any machine.
"""
