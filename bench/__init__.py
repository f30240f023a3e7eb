"""bct measured beside other programs: `./run bench [NAME] [--json FILE]`.

Each module here with a function ``rows() -> list[Row]`` is a benchmark and goes by its module's name.
"""
