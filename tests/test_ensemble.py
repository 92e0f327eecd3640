"""Ensemble methods, temperatures and the honest estimate of their gain, on simulated pools."""

import inspect
import json
import time
import tracemalloc
from functools import partial

import numpy as np
import pytest
from scipy import optimize, stats

from emoray import bootstrap, calibration, crossfit, ensemble, metrics, solvers
from emoray.blend import Blend, softmax
from emoray.errors import UserError

SHARES = np.array([14, 2, 14, 25, 17, 11, 17]) / 100  # FER2013's classes
METHODS = {
    name: function
    for name, function in inspect.getmembers(ensemble, inspect.isfunction)
    if function.__module__ == ensemble.__name__ and not name.startswith("_")
}
METRICS = (*metrics.METRICS, "recall_1")


def _pool(seed, members, n, *, spread=0.05, own=0.6, classes=7):
    """Members whose log-odds share most of their noise; each has some of its own, a strength, a wrong temperature."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n, p=SHARES[:classes] / SHARES[:classes].sum())
    shared = rng.normal(0.0, 1.2, (n, classes)).astype(np.float32)
    strengths, sharpness = rng.normal(1.9, spread, members), np.exp(rng.normal(0.3, 0.5, members))
    probabilities = np.empty((members, n, classes), np.float32)
    for member, strength, sharp in zip(probabilities, strengths, sharpness, strict=True):
        logits = shared + rng.normal(0.0, own, (n, classes)).astype(np.float32)
        logits[np.arange(n), labels] += strength
        member[...] = softmax(np.float32(sharp) * logits)
    return probabilities, labels


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("members", "n"), [(1, 40), (2, 40), (9, 60), (4, 2), (3, 1)])
def test_every_method_gives_a_prediction_however_small_the_data(method, metric, members, n):
    probabilities, labels = _pool(n, members, n)
    blend = method(probabilities, labels, metric)
    predicted = blend.predict(probabilities)
    assert predicted.shape == (n, 7)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted.sum(1), 1.0, rtol=1e-5)
    if blend.weights:
        assert len(blend.weights) == members
        assert min(blend.weights) >= 0
        assert sum(blend.weights) == pytest.approx(1.0)
    again = Blend.from_json(json.loads(json.dumps(blend.to_json())))
    assert again == blend
    assert method(probabilities, labels, metric) == blend  # no unseeded randomness


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_member_that_guesses_hardly_counts(method):
    probabilities, labels = _pool(0, 4, 1500)
    probabilities[2] = np.random.default_rng(1).dirichlet(np.ones(7), len(labels))
    blend = method(probabilities, labels, "accuracy")
    if blend.weights:
        assert blend.weights[2] < 0.1
    with_it = metrics.value("accuracy", labels, blend.predict(probabilities))
    assert with_it >= max(metrics.value("accuracy", labels, member) for member in probabilities) - 0.005


def test_members_that_are_not_used_need_not_be_computed():
    probabilities, labels = _pool(3, 5, 300)
    blend = ensemble.single(probabilities, labels, "accuracy")
    without = np.full_like(probabilities, np.nan)
    without[list(blend.used)] = probabilities[list(blend.used)]
    np.testing.assert_array_equal(blend.predict(without), blend.predict(probabilities))
    with pytest.raises(ValueError, match="5 members, but got 4"):
        blend.predict(probabilities[:4])


def test_single_and_uniform_choose_by_the_metric():
    probabilities, labels = _pool(1, 6, 400, spread=0.3)
    for metric in METRICS:
        values = [metrics.value(metric, labels, member) for member in probabilities]
        (best,) = ensemble.single(probabilities, labels, metric).used
        assert values[best] == max(values)
        chosen = ensemble.uniform(probabilities, labels, metric)
        reached = metrics.value(metric, labels, chosen.predict(probabilities))
        for k in range(1, 7):
            fixed = ensemble.uniform(probabilities, labels, metric, top_k=k)
            assert len(fixed.used) == k
            assert reached >= metrics.value(metric, labels, fixed.predict(probabilities)) - 1e-9


@pytest.mark.parametrize("metric", METRICS)
def test_greedy_takes_what_a_plain_search_would(metric):
    probabilities, labels = _pool(2, 5, 250, spread=0.3)
    blend = ensemble.greedy(probabilities, labels, metric, rounds=12, sorted_start=0)
    chosen, history = [int(np.argmax(ensemble.single(probabilities, labels, metric).weights))], []
    while True:
        history.append(metrics.value(metric, labels, probabilities[chosen].mean(0)))
        if len(chosen) == 12:
            break
        means = [probabilities[[*chosen, m]].mean(0) for m in range(5)]
        keys = [(round(metrics.value(metric, labels, p), 9), -metrics.log_loss(labels, p)) for p in means]
        chosen.append(max(range(5), key=keys.__getitem__))
    reached = metrics.value(metric, labels, blend.predict(probabilities))
    assert reached == pytest.approx(max(history), abs=1e-6)


def test_greedy_settings():
    probabilities, labels = _pool(4, 8, 300)
    three = ensemble.greedy(probabilities, labels, "accuracy", rounds=3)
    assert all(round(w * k) == pytest.approx(w * k) for k in [len(three.used)] for w in three.weights)
    bagged = ensemble.greedy(probabilities, labels, "accuracy", bags=8, seed=1)
    assert bagged != ensemble.greedy(probabilities, labels, "accuracy", bags=8, seed=2)
    assert len(bagged.used) > len(three.used)


@pytest.mark.parametrize(("members", "n"), [(2, 50), (10, 500), (30, 20)])
@pytest.mark.parametrize("pull", [0.0, 5.0, 1e6])
def test_log_loss_weights_are_the_optimum(members, n, pull):
    probabilities, labels = _pool(members, members, n, spread=0.3)
    likelihoods = probabilities[:, np.arange(n), labels]
    weights = np.array(ensemble.log_loss(probabilities, labels, "accuracy", pull=pull).weights)

    def loss(w):
        return -np.log(w @ likelihoods).sum() - (pull * np.log(w).mean() if pull else 0.0)

    start = np.full(members, 1 / members)
    reference = optimize.minimize(
        loss,
        start,
        method="SLSQP",
        bounds=[(1e-9, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: 1 - w.sum()},
    )
    assert loss(weights) <= reference.fun + 1e-4
    if pull == 1e6:
        np.testing.assert_allclose(weights, start, rtol=0.01)


def test_log_loss_shares_among_equal_members_and_drops_a_worse_one():
    probabilities, labels = _pool(0, 1, 400)
    worse = 0.5 * probabilities[0] + 0.5 / 7
    weights = solvers.mixture_weights(
        np.stack([probabilities[0], probabilities[0], worse])[:, np.arange(400), labels], 0
    )
    assert weights[:2].sum() == pytest.approx(1.0, abs=0.2)
    assert np.isfinite(weights).all()


def test_cma_es_finds_the_lowest_point_of_hard_functions():
    def ellipsoid(points):
        return (10.0 ** (6 * np.arange(8) / 7) * (points - 1.0) ** 2).sum(axis=1)

    def rosenbrock(points):
        return (100 * (points[:, 1:] - points[:, :-1] ** 2) ** 2 + (1 - points[:, :-1]) ** 2).sum(axis=1)

    for function in (ellipsoid, rosenbrock):
        found = solvers.cma_es(function, np.zeros(8), 0.5, 8000, seed=0)
        np.testing.assert_allclose(found, 1.0, atol=1e-3)


def test_stacking_repairs_what_no_weights_can():
    probabilities, labels = _pool(5, 3, 4000)
    probabilities = probabilities[:, :, [1, 0, 2, 3, 4, 5, 6]]  # every member confuses the first two classes
    half = slice(0, 2000), slice(2000, None)
    blends = [METHODS[m](probabilities[:, half[0]], labels[half[0]], "accuracy") for m in ("stacking", "log_loss")]
    stacked, weighted = (
        metrics.value("accuracy", labels[half[1]], blend.predict(probabilities[:, half[1]])) for blend in blends
    )
    assert stacked > weighted + 0.05


def test_stacking_with_a_strong_penalty_is_the_geometric_mean():
    probabilities, labels = _pool(6, 4, 200)
    blend = ensemble.stacking(probabilities, labels, "accuracy", penalty=1e6)
    np.testing.assert_allclose(
        blend.predict(probabilities), softmax(np.log(np.maximum(probabilities, metrics.FLOOR)).mean(0)), atol=1e-3
    )
    assert len(ensemble.stacking(probabilities, labels, "accuracy", top_k=2).used) == 2


def test_temperature_recovers_what_was_done_to_the_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 2.0, (20_000, 7))
    shares = softmax(logits)
    labels = (shares.cumsum(1) < rng.random((20_000, 1))).sum(1).clip(max=6)
    for factor in (0.2, 1.0, 6.0):
        found = calibration.temperature(factor * logits, labels)
        assert found == pytest.approx(factor, rel=0.03)
        logs = calibration.log_probabilities(softmax(factor * logits))
        grid = [metrics.log_loss(labels, calibration.apply(logs, found * x)) for x in (0.9, 1.0, 1.1)]
        assert grid[1] == min(grid)
    sharp = softmax(6.0 * logits)
    assert metrics.ece(labels, calibration.apply(np.log(sharp), 6.0)) < 0.02 < metrics.ece(labels, sharp)


def test_temperature_is_bounded_where_there_is_no_best_one():
    perfect = np.eye(3)[[0, 1, 2]] * 5
    assert calibration.temperature(perfect, np.array([0, 1, 2])) == pytest.approx(calibration.COLDEST, rel=0.01)
    assert calibration.temperature(perfect, np.array([1, 2, 0])) == pytest.approx(calibration.HOTTEST, rel=0.01)
    assert (
        calibration.COLDEST <= calibration.temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])) <= calibration.HOTTEST
    )


def test_folds_are_stratified():
    labels = np.repeat([0, 1, 2, 3], [31, 7, 1, 21])
    fold_of = crossfit.stratified_folds(labels, 5, seed=0)
    assert np.ptp(np.bincount(fold_of)) <= 1
    for label in range(4):
        assert np.ptp(np.bincount(fold_of[labels == label], minlength=5)) <= 1
    assert (fold_of != crossfit.stratified_folds(labels, 5, seed=1)).any()


@pytest.mark.parametrize("metric", METRICS)
def test_report_of_a_tiny_selection_split(metric):
    probabilities, labels = _pool(7, 3, 60)
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
    probabilities, labels = _pool(0, 2, 30)
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
    probabilities, labels = _pool(8, 3, 50)
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
    probabilities, labels = _pool(8, 2, 80)
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
    probabilities, labels = _pool(10, 2, 300)
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


def test_auto_keeps_uniform_unless_another_is_surely_better():
    noise, labels = _pool(9, 6, 300, spread=0.0)
    assert ensemble.auto(noise, labels, "accuracy").method == "uniform"
    clear, labels = _pool(9, 6, 3000, spread=0.0)
    clear = clear[:, :, [1, 0, 2, 3, 4, 5, 6]]
    assert ensemble.auto(clear, labels, "log_loss").method == "stacking"


@pytest.mark.parametrize("metric", METRICS)
def test_bootstrap_equals_resampling_the_images_themselves(metric):
    probabilities, labels = _pool(10, 2, 300)
    draws = bootstrap.resampled(metric, labels, probabilities, seed=0)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 300, (2000, 300))
    plain = np.array([[metrics.value(metric, labels[i], p[i]) for p in probabilities] for i in images])
    for of in (lambda x: x[:, 0], lambda x: x[:, 1] - x[:, 0]):  # a score and a paired gain
        expected, found = of(plain)[~np.isnan(of(plain))], of(draws)[~np.isnan(of(draws))]
        assert found.mean() == pytest.approx(expected.mean(), abs=5 * expected.std() / 2000**0.5)
        assert found.std() == pytest.approx(expected.std(), rel=0.1)


def test_bootstrap_interval_of_a_test_score():
    probabilities, labels = _pool(11, 1, 2000)
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
        probabilities, labels = _pool(seed, 12, n + 3000)
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
        probabilities, labels = _pool(seed, 12, n + 3000)
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


def test_a_pool_is_not_copied_whole():
    probabilities, labels = _pool(12, 20, 4000)
    for name, method in METHODS.items():
        tracemalloc.start()
        method(probabilities, labels, "accuracy")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (3.0 if name == "auto" else 1.5) * probabilities.nbytes, name


def test_a_report_takes_less_than_three_times_the_predictions(monkeypatch):
    """With `auto`, which needs most; the size above which it takes two folds is scaled down like the pool."""
    probabilities, labels = _pool(1, 150, 2500)
    monkeypatch.setattr(ensemble, "MANY", 1250)
    methods = {name: METHODS[name] for name in ("single", "uniform", "auto")}
    tracemalloc.start()
    crossfit.evaluate(probabilities, labels, methods, "accuracy", folds=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert probabilities.nbytes + peak < 3.0 * probabilities.nbytes


def test_speed_of_the_fast_methods():
    """A fifth of the promised size in far more than a fifth of the promised time: catches only a lost algorithm."""
    probabilities, labels = _pool(13, 50, 4000)
    for method in (ensemble.log_loss, ensemble.greedy):
        begin = time.process_time()
        method(probabilities, labels, "accuracy")
        assert time.process_time() - begin < 2.0


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_auto_is_not_taken_in_by_copies(metric):
    """40 images, 30 times each: whoever has seen one copy knows the others, and chance repeated 30 times looks sure."""
    probabilities, labels = _pool(3, 6, 40, spread=0.0)
    copies = np.tile(np.arange(40), 30)
    probabilities, labels = probabilities[:, copies], labels[copies]
    assert ensemble.auto(probabilities, labels, metric).method == "stacking"
    assert ensemble.auto(probabilities, labels, metric, copies).method == "uniform"
    methods = {"single": ensemble.single, "uniform": ensemble.uniform, "auto": ensemble.auto}
    report = crossfit.evaluate(probabilities, labels, methods, metric, groups=copies)
    assert report.methods["auto"].blend.method == "uniform", "a report hands on the groups that it was given"


def test_stacking_chooses_its_penalty_on_images_that_it_has_not_seen():
    """Copies alone speak for the weakest penalty."""
    probabilities, labels = _pool(3, 6, 60, spread=0.0)
    copies = np.tile(np.arange(60), 10)
    probabilities, labels = probabilities[:, copies], labels[copies]
    by_hand = {p: ensemble.stacking(probabilities, labels, "accuracy", penalty=p) for p in (10.0, 1.0, 0.001)}
    assert ensemble.stacking(probabilities, labels, "accuracy", None) == by_hand[0.001]
    assert ensemble.stacking(probabilities, labels, "accuracy", copies) in (by_hand[10.0], by_hand[1.0])
