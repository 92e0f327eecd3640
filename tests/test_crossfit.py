"""The honest estimate of an ensemble's gain, on simulated pools."""

import json
import tracemalloc
from functools import partial

import numpy as np
import pytest
from scipy import stats

from emoray import bootstrap, calibration, crossfit, ensemble, metrics
from emoray.blend import Blend
from emoray.errors import UserError
from tests.pools import METHODS, METRICS, pool


def test_folds_are_stratified():
    labels = np.repeat([0, 1, 2, 3], [31, 7, 1, 21])
    fold_of = crossfit.stratified_folds(labels, 5, seed=0)
    assert np.ptp(np.bincount(fold_of)) <= 1
    for label in range(4):
        assert np.ptp(np.bincount(fold_of[labels == label], minlength=5)) <= 1
    assert (fold_of != crossfit.stratified_folds(labels, 5, seed=1)).any()


@pytest.mark.parametrize("metric", METRICS)
def test_report_of_a_tiny_selection_split(metric):
    probabilities, labels = pool(7, 3, 60)
    labels[labels == 1] = 0
    labels[0] = 1  # a class with one image
    report = crossfit.evaluate(probabilities, labels, METHODS, metric)
    assert report.methods.keys() == METHODS.keys()
    assert json.loads(json.dumps(report.to_json()))["methods"]["greedy"]["blend"]["method"] == "greedy"
    for entry in report.methods.values():
        gain = entry.gain_over_single
        assert np.isnan(gain.low) or gain.low <= gain.estimate + 1e-9
        sign = -1 if metric == "log_loss" else 1
        assert gain.estimate == pytest.approx(sign * (entry.cross_fitted - report.methods["single"].cross_fitted))
    assert report.methods["single"].gain_over_single == bootstrap.Interval(0.0, 0.0, 0.0)
    assert report.predict("auto", probabilities).shape == (60, 7)


def test_what_cannot_be_evaluated_is_said():
    probabilities, labels = pool(0, 2, 30)
    methods = {"single": ensemble.single, "uniform": ensemble.uniform}
    with pytest.raises(UserError, match=r"leaves 1 different images.*at least 2"):
        crossfit.evaluate(probabilities[:, :1], labels[:1], methods, "accuracy")
    with pytest.raises(UserError, match="there is no metric 'acuracy': did you mean 'accuracy'"):
        crossfit.evaluate(probabilities, labels, methods, "acuracy")
    with pytest.raises(ValueError, match="uniform"):
        crossfit.evaluate(probabilities, labels, {"single": ensemble.single}, "accuracy")
    probabilities[1, 3] = np.nan
    with pytest.raises(UserError, match=r"member 1 .*not finite"):
        crossfit.evaluate(probabilities, labels, methods, "accuracy")


def test_nothing_is_fitted_on_the_fold_that_it_is_scored_on():
    probabilities, labels = pool(8, 3, 50)
    seen = []

    def spy(pool, its_labels, metric):
        seen.append((len(its_labels), pool.copy()))
        return ensemble.uniform(pool, its_labels, metric)

    crossfit.evaluate(probabilities, labels, {"single": spy, "uniform": spy}, "accuracy", seed=3)
    fold_of = crossfit.stratified_folds(labels, 5, 3)
    assert [size for size, _ in seen] == [50] * 2 + [40] * 10
    of_folds = seen[2:]
    for fold in range(5):
        rest = np.flatnonzero(fold_of != fold)
        scales = [calibration.temperature(calibration.log_probabilities(m[rest]), labels[rest]) for m in probabilities]
        expected = calibration.calibrated(probabilities, scales, rest)
        np.testing.assert_allclose(of_folds[2 * fold][1], expected, atol=1e-5)


def test_copies_of_an_image_are_never_fitted_and_scored():
    """Each image three times: a method that knows by heart what it has seen is right by chance alone."""
    probabilities, labels = pool(8, 2, 80)
    copies = np.tile(np.arange(80), 3)
    labels = np.random.default_rng(0).integers(0, 7, 80)[copies]

    def by_heart(pool, its_labels, metric):
        seen = {row.tobytes(): label for row, label in zip(pool[0].round(3), its_labels, strict=True)}

        class Memory(Blend):
            def predict(self, pool):
                found = [seen.get(row.tobytes(), 0) for row in pool[0].round(3)]
                return np.eye(7, dtype=np.float32)[found]

        return Memory("by heart", (1.0, 0.0))

    methods = {"single": by_heart, "uniform": by_heart}
    scores = [
        crossfit.evaluate(probabilities[:, copies], labels, methods, "accuracy", groups=groups, calibrate=False)
        for groups in (None, copies)
    ]
    leaked, honest = (report.methods["single"].cross_fitted for report in scores)
    assert leaked > 0.9
    assert honest < 0.3
    fold_of = crossfit.stratified_folds(labels, 5, 0, groups=copies)
    assert (fold_of == fold_of[copies]).all()
    assert np.ptp(np.bincount(fold_of)) <= 3


@pytest.mark.parametrize("metric", METRICS)
def test_images_of_a_group_are_drawn_together(metric):
    probabilities, labels = pool(10, 2, 300)
    groups = np.arange(300)
    groups[100:200] = np.arange(100, 200) // 4  # 25 groups of four, of other labels and predictions each
    draws = bootstrap.resampled(metric, labels, probabilities, seed=0, groups=groups)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    rng = np.random.default_rng(1)
    plain = []
    for _ in range(2000):
        images = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        plain.append([metrics.value(metric, labels[images], p[images]) for p in probabilities])
    expected = np.array(plain)
    for of in (lambda x: x[:, 0], lambda x: x[:, 1] - x[:, 0]):
        wanted, found = of(expected)[~np.isnan(of(expected))], of(draws)[~np.isnan(of(draws))]
        assert found.mean() == pytest.approx(wanted.mean(), abs=5 * wanted.std() / 2000**0.5)
        assert found.std() == pytest.approx(wanted.std(), rel=0.1)
    alone = bootstrap.resampled(metric, labels, probabilities, seed=0, groups=np.arange(300))
    np.testing.assert_array_equal(alone, bootstrap.resampled(metric, labels, probabilities, seed=0))


@pytest.mark.parametrize("metric", METRICS)
def test_bootstrap_equals_resampling_the_images_themselves(metric):
    probabilities, labels = pool(10, 2, 300)
    draws = bootstrap.resampled(metric, labels, probabilities, seed=0)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 300, (2000, 300))
    plain = np.array([[metrics.value(metric, labels[i], p[i]) for p in probabilities] for i in images])
    for of in (lambda x: x[:, 0], lambda x: x[:, 1] - x[:, 0]):  # a score and a paired gain
        expected, found = of(plain)[~np.isnan(of(plain))], of(draws)[~np.isnan(of(draws))]
        assert found.mean() == pytest.approx(expected.mean(), abs=5 * expected.std() / 2000**0.5)
        assert found.std() == pytest.approx(expected.std(), rel=0.1)


def test_bootstrap_interval_of_a_test_score():
    probabilities, labels = pool(11, 1, 2000)
    accuracy = metrics.value("accuracy", labels, probabilities[0])
    interval = bootstrap.score_interval(labels, probabilities[0], "accuracy")
    error = (accuracy * (1 - accuracy) / 2000) ** 0.5
    assert interval.estimate == accuracy
    assert interval.low == pytest.approx(accuracy - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(accuracy + 1.96 * error, abs=0.15 * error)
    loss = bootstrap.score_interval(labels, probabilities[0], "log_loss")
    assert 0 < loss.low < metrics.log_loss(labels, probabilities[0]) < loss.high


def test_cross_fitted_gain_is_unbiased_where_the_in_sample_one_is_not():
    """Over many pools the truth, on fresh images, is met by the cross-fitted gain and missed by the in-sample one."""
    methods = {
        "single": ensemble.single,
        "uniform": partial(ensemble.uniform, top_k=12),
        "greedy": partial(ensemble.greedy, rounds=25),
        "cma_es": partial(ensemble.cma_es, evaluations=200),
    }
    n, errors = 150, {"greedy": [], "cma_es": []}
    for seed in range(60):
        probabilities, labels = pool(seed, 12, n + 3000)
        fresh, fresh_labels = probabilities[:, n:], labels[n:]
        report = crossfit.evaluate(probabilities[:, :n], labels[:n], methods, "accuracy")
        base = metrics.value("accuracy", fresh_labels, report.predict("uniform", fresh))
        for name, rows in errors.items():
            truth = metrics.value("accuracy", fresh_labels, report.predict(name, fresh)) - base
            entry = report.methods[name]
            claimed = entry.in_sample - report.methods["uniform"].in_sample
            rows.append((claimed - truth, entry.gain_over_uniform.estimate - truth))
    for name, rows in errors.items():
        bias = np.mean(rows, axis=0)
        error = np.std(rows, axis=0, ddof=1) / len(rows) ** 0.5
        assert bias[0] > 10 * error[0], f"{name}: in-sample {bias} +- {error}"
        assert abs(bias[1]) < 2.5 * error[1], f"{name}: cross-fitted {bias} +- {error}"
        assert abs(bias[1]) < 0.2 * bias[0]


def test_cross_fitted_gain_over_the_best_single_member_is_unbiased():
    """For the default method; its lower bound lies above the truth hardly more often than it may."""
    methods = {"single": ensemble.single, "uniform": partial(ensemble.uniform, top_k=12), "log_loss": ensemble.log_loss}
    n, pools, errors, above = 150, 120, [], 0
    for seed in range(pools):
        probabilities, labels = pool(seed, 12, n + 3000)
        fresh, fresh_labels = probabilities[:, n:], labels[n:]
        report = crossfit.evaluate(probabilities[:, :n], labels[:n], methods, "accuracy")
        ours, alone = (
            metrics.value("accuracy", fresh_labels, report.predict(m, fresh)) for m in ("log_loss", "single")
        )
        entry = report.methods["log_loss"]
        errors.append((entry.in_sample_gain - (ours - alone), entry.gain_over_single.estimate - (ours - alone)))
        above += entry.gain_over_single.low > ours - alone
    bias, error = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1) / pools**0.5
    assert abs(bias[0]) > 5 * error[0], f"in-sample {bias} +- {error}"
    assert abs(bias[1]) < 2.5 * error[1], f"cross-fitted {bias} +- {error}"
    assert above <= stats.binom.ppf(0.999, pools, 0.05), f"{above} of {pools}"


def test_a_report_takes_less_than_three_times_the_predictions(monkeypatch):
    """With `auto`, which needs most; the size above which it takes two folds is scaled down like the pool."""
    probabilities, labels = pool(1, 150, 2500)
    monkeypatch.setattr(ensemble, "MANY", 1250)
    methods = {name: METHODS[name] for name in ("single", "uniform", "auto")}
    tracemalloc.start()
    crossfit.evaluate(probabilities, labels, methods, "accuracy", folds=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert probabilities.nbytes + peak < 3.0 * probabilities.nbytes
