"""Live displays of trainings and searches."""
