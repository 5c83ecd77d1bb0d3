"""Names of the files in a run's directory."""

CONFIG, PROVENANCE, STATUS = "config.json", "provenance.json", "status.json"
EVAL_FOLDER = "eval"  # of the figures of an evaluation or a sweep
EXAMPLE_FILE = "example.json"  # of a typical scene in it
RESULTS_FILE = "results.json"  # of an evaluation
VERDICT_FILE = "overfit.json"  # of the overfit gate
SEARCH_FILE = "search.json"  # of a search
ALIGNMENT_FILE = "alignment.json"  # of an alignment check
REPORT_FILE = "report.html"
