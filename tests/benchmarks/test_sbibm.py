"""The benchmark of general estimators: its simulators are right, nothing is measured twice, and its tables say what is there."""

import bz2
import hashlib
import json
import re
import zipfile

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import kstest, norm

from benchmarks import jsonl
from benchmarks.sbibm import __main__ as command
from benchmarks.sbibm import dynamics, published, run, table, wheel
from benchmarks.sbibm.tasks import LINEAR_VARIANCE, stabilised, tasks

N = 40_000
rng = np.random.default_rng


def design():
    """A stimulus as sbibm's: a constant, and nine delays of white noise."""
    noise = rng(42).normal(size=108)
    return np.stack([np.ones(100), *(noise[8 - k : 108 - k] for k in range(9))], -1)


TASKS = tasks(design())


def repeated(theta, n=N):
    return np.repeat(np.atleast_2d(theta).astype(float), n, 0)


def test_the_tasks_are_those_that_others_have_published_figures_of():
    assert set(TASKS) == set(published.NPE) == set(published.NPE_MAF) == set(published.MODERN) | set(published.UNLIMITED)


@pytest.mark.parametrize("name", TASKS)
def test_draws_depend_on_the_seed_alone_and_lie_within_their_bounds(name):
    task = TASKS[name]
    theta, again = task.prior(200, rng(3)), task.prior(200, rng(3))
    assert np.array_equal(theta, again)
    x = task.simulate(theta, rng(4))
    assert np.array_equal(x, task.simulate(theta, rng(4)))
    assert not np.array_equal(x, task.simulate(theta, rng(5)))
    assert np.isfinite(task.features(x)).all()
    for values, pair in zip(theta.T, task.bounds or [], strict=False):
        assert pair[0] < values.min()
        assert pair[1] is None or values.max() < pair[1]


def test_linear_tasks_have_noise_of_a_variance_of_a_tenth_and_the_known_posterior():
    theta = TASKS["gaussian_linear"].prior(N, rng(0))
    x = TASKS["gaussian_linear"].simulate(theta, rng(1))
    covariance = np.cov(np.concatenate([theta, x], 1).T)
    unit = np.eye(10) * LINEAR_VARIANCE
    np.testing.assert_allclose(covariance, np.block([[unit, unit], [unit, 2 * unit]]), atol=0.005)
    # so the posterior is normal about x / 2 with half the variance
    rest = theta - x / 2
    assert kstest(rest.ravel() / np.sqrt(LINEAR_VARIANCE / 2), norm.cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(np.concatenate([rest, x], 1).T)[:10, 10:]).max() < 0.025


def test_the_mixture_has_two_widths():
    x = TASKS["gaussian_mixture"].simulate(repeated([2.0, -3.0]), rng(0)) - [2.0, -3.0]
    np.testing.assert_allclose(x.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(x.T), 0.505 * np.eye(2), atol=0.02)
    # both dimensions have the same of the two widths
    assert np.corrcoef(np.abs(x).T)[0, 1] > 0.3


def test_moons_are_half_circles_that_are_folded():
    theta = rng(0).uniform(-1, 1, (N, 2))
    x = TASKS["two_moons"].simulate(theta, rng(1))
    c = 1 / np.sqrt(2)
    centre = np.stack([0.25 - np.abs(theta.sum(1)) * c, (theta[:, 1] - theta[:, 0]) * c], -1)
    along, across = (x - centre).T
    assert along.min() >= 0
    np.testing.assert_allclose([np.hypot(along, across).mean(), np.hypot(along, across).std()], [0.1, 0.01], rtol=0.02)
    assert kstest(np.arctan2(across, along), "uniform", (-np.pi / 2, np.pi)).pvalue > 1e-3
    mirrored = TASKS["two_moons"].simulate(-theta[:, ::-1], rng(1))
    np.testing.assert_allclose(mirrored, x, atol=1e-12)


def test_the_four_points_have_the_mean_and_covariance_that_the_parameters_say():
    x = TASKS["slcp"].simulate(repeated([0.5, -1.0, -1.3, 0.8, 0.6]), rng(0)).reshape(N, 4, 2)
    s, t = 1.3**2, 0.8**2
    expected = [[s * s, np.tanh(0.6) * s * t], [np.tanh(0.6) * s * t, t * t]]
    for point in x.transpose(1, 0, 2):
        np.testing.assert_allclose(point.mean(0), [0.5, -1.0], atol=0.05)
        np.testing.assert_allclose(np.cov(point.T), expected, atol=0.1)
    assert abs(np.corrcoef(x[:, 0, 0], x[:, 1, 0])[0, 1]) < 0.02


def test_the_bernoulli_model_has_its_prior_and_its_expected_sums():
    theta = TASKS["bernoulli_glm"].prior(N, rng(0))
    steps = np.eye(9) - np.eye(9, k=-1)
    root = steps @ steps + np.diag(np.sqrt(np.arange(9) / 9))
    covariance = np.linalg.inv(root.T @ root)
    np.testing.assert_allclose(np.cov(theta[:, 1:].T), covariance, atol=0.03 * covariance.max())
    np.testing.assert_allclose(theta[:, 0].var(), 2, rtol=0.05)
    chance = 1 / (1 + np.exp(-design() @ theta[0]))
    x = TASKS["bernoulli_glm"].simulate(repeated(theta[0]), rng(1))
    spread = np.sqrt(design().T ** 2 @ (chance * (1 - chance)))
    assert np.abs((x.mean(0) - design().T @ chance) / (spread / np.sqrt(N))).max() < 4
    np.testing.assert_allclose(x.std(0), spread, rtol=0.03)


def exact(slope, start, theta, times):
    """SciPy's answer, of a system written in its plain form."""
    found = solve_ivp(lambda _, y: slope(y, theta), (0, times[-1]), start, "LSODA", times, rtol=1e-11, atol=1e-13)
    assert found.success
    return found.y


def epidemic(y, theta):
    ill = theta[0] * y[0] * y[1] / 1e6
    return [-ill, ill - theta[1] * y[1]]


def hunt(y, theta):
    return [theta[0] * y[0] - theta[1] * y[0] * y[1], theta[3] * y[0] * y[1] - theta[2] * y[1]]


def test_epidemics_are_those_of_scipy():
    theta = np.concatenate([TASKS["sir"].prior(20, rng(0)), [[3.0, 0.05], [0.05, 0.3]]])
    expected = [exact(epidemic, [1e6 - 1, 1], t, dynamics.SIR_DAYS)[1] / 1e6 for t in theta]
    np.testing.assert_allclose(dynamics.share_ill(theta), expected, rtol=2e-4, atol=1e-13)


def test_predators_and_prey_are_those_of_scipy():
    theta = np.concatenate([TASKS["lotka_volterra"].prior(20, rng(0)), [[1.8, 0.03, 0.6, 0.08], [0.3, 0.2, 3.0, 0.02]]])
    expected = [exact(hunt, [30, 1], t, dynamics.PREY_TIMES).ravel() for t in theta]
    np.testing.assert_allclose(dynamics.populations(theta), expected, rtol=1e-3, atol=1e-8)


def test_a_step_that_is_too_long_is_noticed():
    """From steps that are far too long it comes to the same answer, by halving; and it says when that is not enough."""
    theta = TASKS["lotka_volterra"].prior(50, rng(1)).T
    start = np.log([30.0, 1.0])
    one, other = (dynamics.solve(dynamics.prey_slope, start, theta, dynamics.PREY_TIMES, steps) for steps in (4, 64))
    np.testing.assert_allclose(one, other, atol=2e-3)
    assert np.abs(dynamics._runge_kutta(dynamics.prey_slope, start, theta, dynamics.PREY_TIMES, 4) - other).max() > 0.1
    with pytest.raises(RuntimeError, match="1 problems still change with 512 steps"):
        dynamics.solve(dynamics.prey_slope, start, np.full((4, 1), 1e4), dynamics.PREY_TIMES, 1)


def test_data_of_the_dynamic_tasks_scatter_as_they_should():
    theta = [0.5, 0.15]
    share = dynamics.share_ill(np.array([theta]))[0]
    x = TASKS["sir"].simulate(repeated(theta, 4000), rng(0))
    np.testing.assert_allclose(x.mean(0), 1000 * share, atol=0.6)
    np.testing.assert_allclose(x.std(0), np.sqrt(1000 * share * (1 - share)), rtol=0.06, atol=0.02)
    many = (share > 0.02) & (share < 0.98)
    np.testing.assert_allclose(stabilised(x).std(0)[many], 0.5 / np.sqrt(1000), rtol=0.06)
    theta = [0.7, 0.05, 0.9, 0.06]
    logs = np.log(TASKS["lotka_volterra"].simulate(repeated(theta, 4000), rng(0)))
    np.testing.assert_allclose(logs.mean(0), np.log(dynamics.populations(np.array([theta]))[0]), atol=0.008)
    np.testing.assert_allclose(logs.std(0), 0.1, rtol=0.06)


@pytest.fixture
def small_wheel(tmp_path, monkeypatch):
    """A wheel of two observations of one task, known by its own hash."""
    path = tmp_path / wheel.FILE
    with zipfile.ZipFile(path, "w") as archive:
        for number in (1, 2):
            folder = f"sbibm/tasks/gaussian_linear/files/num_observation_{number}"
            archive.writestr(f"{folder}/observation.csv", "a,b\n" + ",".join(["0.25"] * 10) + "\n")
            archive.writestr(f"{folder}/true_parameters.csv", "a,b\n" + ",".join([f"{number}.5"] * 10) + "\n")
            draws = rng(number).normal(0.125, np.sqrt(LINEAR_VARIANCE / 2), (200, 10))
            text = "a\n" + "\n".join(",".join(map(str, row)) for row in draws)
            archive.writestr(f"{folder}/reference_posterior_samples.csv.bz2", bz2.compress(text.encode()))
        archive.writestr("sbibm/tasks/bernoulli_glm/files/design_matrix.pt", b"header" + design().astype("<f4").tobytes())
    monkeypatch.setattr(wheel, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_the_wheels_tables_are_read(small_wheel):
    read = wheel.Wheel(wheel.fetched(small_wheel))
    assert np.array_equal(read.observation("gaussian_linear", 2), np.full(10, 0.25))
    assert np.array_equal(read.true_parameters("gaussian_linear", 2), np.full(10, 2.5))
    assert read.reference("gaussian_linear", 1).shape == (200, 10)
    np.testing.assert_allclose(read.design, design(), rtol=1e-6)


def test_a_damaged_wheel_is_refused(small_wheel):
    data = bytearray(small_wheel.read_bytes())
    data[len(data) // 2] ^= 1
    small_wheel.write_bytes(data)
    with pytest.raises(wheel.WheelError, match=r"not the wheel of sbibm==1.1.0, or is damaged: expected sha256 .*; remove it"):
        wheel.fetched(small_wheel)
    with pytest.raises(SystemExit, match="damaged"):
        command.main(["--wheel", str(small_wheel)])


def test_without_a_network_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(wheel.WheelError, match=r"(?s)could not be downloaded.*pip download --no-deps sbibm==1.1.0\nand copy .*--wheel"):
        wheel.fetched(tmp_path / wheel.FILE)


class Exact:
    """The posterior of the linear task, in place of an estimator."""

    def encode(self, inputs):
        return inputs["x"], {}

    def sample(self, context, noise):
        return context[:, None] / 2 + noise * np.sqrt(LINEAR_VARIANCE / 2)

    def log_prob(self, theta, context):
        return norm.logpdf(theta, context[:, None] / 2, np.sqrt(LINEAR_VARIANCE / 2)).sum(-1)


@pytest.fixture
def trainings(monkeypatch):
    """Trainings that were asked for; none takes place."""
    asked = []
    monkeypatch.setattr(run, "train_estimator", lambda theta, x, settings: asked.append((theta.shape, settings)) or Exact())
    monkeypatch.setattr(run, "DRAWS", 200)
    return asked


def test_what_is_there_is_not_measured_again(tmp_path, small_wheel, trainings, capsys):
    results = tmp_path / "results.jsonl"
    arguments = ["--wheel", str(small_wheel), "--results", str(results), "--tasks", "gaussian_linear", "--budgets", "1000"]
    command.main([*arguments, "--observations", "1"])
    first = results.read_text()
    command.main([*arguments, "--observations", "1"])
    assert results.read_text() == first
    assert len(trainings) == 1, "one training, and none for what is there"
    # a line that was cut off is measured again, and what was whole stays
    results.write_text(first + '{"task": "gaussian_lin')
    command.main([*arguments, "--observations", "1", "2"])
    assert results.read_text().startswith(first)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["observation"] for line in lines] == [1, 2]
    assert {line["settings"] for line in lines} == {run.digest_of("recommended")}
    assert [shape for shape, _ in trainings] == [(1000, 10), (1000, 10)]
    assert all(line["seconds_per_10000_draws"] > 0 and 0.35 < line["c2st"] < 0.65 for line in lines), "exact draws cannot be told apart"
    entropy = 5 * np.log(2 * np.pi * np.e * LINEAR_VARIANCE / 2)
    assert all(abs(line["log_score"] + entropy) < 0.15 for line in lines), "the score of the exact posterior"
    mean = np.mean([line["c2st"] for line in lines])
    out = capsys.readouterr().out.split("not yet run")
    assert f"| gaussian_linear | {mean:.3f} (2 of 5) | 0.694 | 0.694 | 0.540 |" in " not yet run".join(out)


def line_of(number, **more):
    return {"task": "sir", "simulations": 1000, "estimator": "recommended", "observation": number, "c2st": 0.5 + number / 100, **more}


def test_other_settings_or_packages_are_measured_again_and_never_mixed_in_silence(monkeypatch):
    cell = run.Cell("sir", 1000, "recommended")
    now = run.digest_of("recommended")
    assert now != run.digest_of("maf")
    assert run.missing(cell, [1, 2], [line_of(1, settings=now)]) == [2]
    assert run.missing(cell, [1, 2], [line_of(1, settings="another")]) == [1, 2]
    old = line_of(1)
    monkeypatch.setattr(run, "FIRST", {"recommended": now})
    assert run.missing(cell, [1, 2], [old]) == [2], "lines of before are of the first settings"
    monkeypatch.setattr(run, "version", lambda name: "9.9")
    assert run.missing(cell, [1, 2], [old]) == [1, 2], "another package"
    results = [old, line_of(2, settings="another"), {**line_of(3), "estimator": "maf"}]
    assert table.mixed(results) == ["sir, 1000 simulations, recommended"]
    assert table.c2st_cell(table.lines_of(results, *cell)) == "0.515 (settings differ) (2 of 5)"
    again = [*results, line_of(1, settings="another")]
    assert table.mixed(again) == [], "the last line of an observation counts"
    assert len(table.lines_of(again, *cell)) == 2


def test_the_plan_is_the_recommended_estimator_first_and_the_others_at_most_simulations():
    cells = command.plan(["slcp", "sir"], published.BUDGETS, None)
    assert cells[:2] == [("slcp", 100_000, "recommended"), ("sir", 100_000, "recommended")]
    assert len(set(cells)) == len(cells) == 2 * (3 + len(run.FLOWS) - 1)
    assert {cell.simulations for cell in cells if cell.estimator != "recommended"} == {100_000}
    assert command.plan(["sir"], [1000], ["maf"]) == [("sir", 1000, "maf")]


@pytest.mark.parametrize("estimator", run.FLOWS)
def test_every_estimator_is_a_configuration(estimator):
    settings = run.settings_of(TASKS["sir"], estimator)
    assert settings.bounds == ((0.0, None), (0.0, None))
    assert estimator in ("recommended", settings.flow.kind)


def test_the_commands_of_the_readme_are_understood(root):
    lines = re.findall(r"^python -m benchmarks\.sbibm([^#\n]*)", (root / "benchmarks" / "sbibm" / "README.md").read_text(), re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        given = command.arguments_of(line.split())
        assert given.results == root / "benchmarks" / "sbibm" / "results.jsonl"


@pytest.mark.parametrize("document", ["benchmarks/sbibm/README.md", "docs/choosing.md"])
def test_the_documents_tables_are_those_of_the_results(root, document):
    results = jsonl.read(root / "benchmarks" / "sbibm" / "results.jsonl")
    assert table.mixed(results) == []
    text = (root / document).read_text()
    if document.startswith("docs"):
        assert table.kinds(results) in text
    else:
        assert table.everything(results) in text
