"""One recipe per model. Each module has NAME, HELP, DEFAULTS, add_arguments(parser) and build(args)."""
