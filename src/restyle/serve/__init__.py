"""The web page and the HTTP API: ``create_app`` in ``app.py``, what it refuses in ``guard.py`` and ``limits.py``."""
