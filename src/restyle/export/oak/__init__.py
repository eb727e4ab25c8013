"""A model for the OAK-1, a camera that paints on its own chip (Myriad X). Needs the extras ``train`` and ``oak``.

``export.py`` puts all together: ``graph.py`` is the network, ``half.py`` its precision, ``compiler.py`` makes the
``.blob``, ``blob.py`` reads what came of it.
"""
