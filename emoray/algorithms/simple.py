"""Random search and the grid."""

from emoray.algorithms.study_space import ATTEMPTS, Drawn, Searcher, StudySpace, at_random, points


def random(study: StudySpace) -> Searcher:
    """Random search: each trial is drawn on its own (Bergstra & Bengio 2012)."""
    return _Random(study)


def grid(study: StudySpace) -> Searcher:
    """Every combination of a finite space, in the file's order."""
    return _Grid(study)


class _Random:
    def __init__(self, study: StudySpace) -> None:
        self.study = study

    def ask(self, index: int, attempt: int) -> Drawn | None:
        return at_random(self.study, index, attempt) if attempt < ATTEMPTS else None

    def restore(self, index: int, drawn: Drawn) -> None:
        pass

    def tell(self, index: int, score: float | None) -> None:
        pass


class _Grid:
    def __init__(self, study: StudySpace) -> None:
        self.points = points(study.space)
        self.taken: list[Drawn] = []

    def ask(self, index: int, attempt: int) -> Drawn | None:
        return next((point for point in self.points if point not in self.taken), None)

    def restore(self, index: int, drawn: Drawn) -> None:
        self.taken.append(drawn)

    def tell(self, index: int, score: float | None) -> None:
        pass
