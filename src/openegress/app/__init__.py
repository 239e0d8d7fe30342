"""The composition root: standalone, drop-in worker and own cluster differ only here."""
