"""What vectors/ is made of: each module here has `build() -> dict`, which becomes vectors/<module>.json.

A module may also have `documents() -> dict[path, text]`: pages of docs/ that are drawn from the code.
"""
