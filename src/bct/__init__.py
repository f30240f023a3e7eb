"""bct: video from peer to peer, paid piece by piece over BSV payment channels."""

__version__ = "0.1.0"
