"""The command line: an application, a console, one file per command."""
