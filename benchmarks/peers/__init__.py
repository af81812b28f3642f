"""The peers' sides. They run in an environment of their own (``peers.txt``) and know nothing of evalsuite."""
