"""Methods for nerfstudio 1.1: ``ns-train hisplat`` and ``ns-train hisplat-init``.

nerfstudio loads every method's configuration whenever one of its commands starts. So ``config``,
``pipeline`` and ``model`` import nothing but nerfstudio and what it stands on; the rest of this
project is imported when a training begins.
"""
