"""Search algorithms: how the settings of a study's trials are drawn.

A public function takes a `StudySpace` and returns a `Searcher` (study_space.py). What a searcher draws depends on its
seed, the trial's index and the results it was told, never on time or on how many trials run at once.
"""
