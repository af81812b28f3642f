"""Everything that touches torch. Importing this package alone imports none of it."""

import logging

# bitsandbytes warns at import that an optional kernel package is not there; nothing here needs it
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
