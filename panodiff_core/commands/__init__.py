"""The commands behind `python -m panodiff_core`: one module each, with `add_parser(subparsers)`."""
