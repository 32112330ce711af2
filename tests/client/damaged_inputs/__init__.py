"""Seeded damage to everything that a site may hand to ``fedpsyau data`` and ``fedpsyau priors``.

`file_damage` harms any file whatever it holds; the other modules write good inputs of one kind,
know what can be wrong with these in particular, and call what reads them. `cases` runs them.
"""
