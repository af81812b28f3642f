"""Everything that touches torch. Importing this package alone imports none of it."""
