"""Token lengths: the log-normal by hand and against scipy, partial expectations against integration, samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.stats import lognorm, norm

from distillcalc import TokenLengths
from distillcalc.workload.lengths import (
    COPULA_POINTS,
    WIDEST_P95_RATIO,
    LognormalLengths,
    Points,
    SampledLengths,
    copula_points,
)
from tests.workload.strategies import lengths, lognormal_lengths, numbers

Floats = NDArray[np.float64]


def column(*values: float) -> Floats:
    return np.array(values, dtype=float)[:, None]


def joint(
    mean_in: float = 900, sigma_in: float = 0.64, mean_out: float = 60, sigma_out: float = 0.8, correlation: float = 0.0
) -> LognormalLengths:
    return LognormalLengths(column(mean_in), column(mean_out), sigma_in, sigma_out, correlation)


# The log-normal of a mean and a p95


def test_sigma_of_a_mean_and_a_p95_by_hand() -> None:
    # p95 / mean = exp(z s - s^2 / 2) with z = 1.644854. For 2100 / 900: ln(7/3) = 0.847298, so
    # s = z - sqrt(z^2 - 2 x 0.847298) = 1.644854 - sqrt(2.705543 - 1.694596) = 1.644854 - 1.005459 = 0.639395
    assert TokenLengths(mean=900, p95=2100).sigma == pytest.approx(0.639395, abs=1e-6)


def test_p95_gives_back_what_was_stated() -> None:
    assert TokenLengths(mean=900, p95=2100).quantile(0.95) == pytest.approx(2100, rel=1e-9)


@given(stated=lognormal_lengths)
def test_scipys_lognormal_of_that_sigma_has_the_stated_mean_and_p95(stated: TokenLengths) -> None:
    assert stated.mean is not None
    assert stated.p95 is not None
    if stated.sigma > 0:
        same = lognorm(s=stated.sigma, scale=stated.mean * math.exp(-(stated.sigma**2) / 2))
        assert same.mean() == pytest.approx(stated.mean, rel=1e-9)
        assert same.ppf(0.95) == pytest.approx(stated.p95, rel=1e-6)


def test_a_large_sample_has_the_stated_mean_and_p95() -> None:
    stated = TokenLengths(mean=1_900, p95=3_400)
    drawn = stated.quantile(np.random.default_rng(0).random(1_000_000))
    # sigma is 0.386, so the mean's standard error is 0.04% and the p95's about 0.1%
    assert drawn.mean() == pytest.approx(1_900, rel=2e-3)
    assert np.quantile(drawn, 0.95) == pytest.approx(3_400, rel=5e-3)


def test_the_median_lies_below_the_mean_by_half_the_variance() -> None:
    # median = mean exp(-s^2 / 2) = 900 exp(-0.639395^2 / 2) = 900 x 0.815119 = 733.6
    assert TokenLengths(mean=900, p95=2100).quantile(0.5) == pytest.approx(733.6, abs=0.1)


def test_the_widest_lognormal_is_accepted_and_has_sigma_of_z95() -> None:
    # p95 / mean is largest where its derivative z - s is 0: s = z = 1.644854, exp(z^2 / 2) = exp(1.352771) = 3.8681
    assert pytest.approx(3.8681, abs=1e-4) == WIDEST_P95_RATIO
    widest = TokenLengths(mean=1000, p95=1000 * WIDEST_P95_RATIO)
    assert widest.sigma == pytest.approx(1.644854, abs=1e-5)


def test_p95_at_the_mean_is_the_narrow_root_not_the_wide_one() -> None:
    # ln(1) = 0 = s (z - s / 2) has the roots 0 and 2z = 3.29: stated without spread, it is fixed
    assert TokenLengths(mean=900, p95=900).sigma == 0


def test_a_number_is_a_fixed_length() -> None:
    fixed = TokenLengths.model_validate(42)
    assert fixed.sigma == 0
    assert fixed.is_lognormal
    assert fixed.quantile([0.001, 0.5, 0.999]).tolist() == [42, 42, 42]


def test_a_fixed_length_is_the_limit_of_narrow_ones() -> None:
    narrow = [TokenLengths(mean=900, p95=900 * (1 + width)) for width in (1e-2, 1e-4, 1e-6)]
    errors = [abs(float(each.quantile(0.9)) - 900) for each in narrow]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-2


def test_no_tokens_at_all_are_a_length() -> None:
    assert TokenLengths(mean=0).quantile(0.99) == 0


@given(stated=lengths, a=numbers(0.001, 0.999), b=numbers(0.001, 0.999))
def test_quantiles_rise_with_their_level(stated: TokenLengths, a: float, b: float) -> None:
    low, high = stated.quantile(min(a, b)), stated.quantile(max(a, b))
    assert low <= high * (1 + 1e-9)


# Quantiles and samples


def test_quantiles_are_met_where_they_are_stated() -> None:
    stated = TokenLengths(quantiles={"p50": 700, "p95": 2100, "p99": 4000})
    assert stated.quantile([0.5, 0.95, 0.99]) == pytest.approx([700, 2100, 4000], rel=1e-6)
    assert not stated.is_lognormal


def test_quantiles_are_log_linear_between_by_hand() -> None:
    # Halfway between the z of p50 (0) and of p95 (1.644854) is z = 0.822427, level 0.794582.
    # ln(1 + length) is halfway too: length = sqrt(701 x 2101) - 1 = 1213.59 - 1 = 1212.59
    stated = TokenLengths(quantiles={"p50": 700, "p95": 2100})
    assert stated.quantile(0.794582) == pytest.approx(1212.59, abs=0.02)


def test_quantiles_are_flat_beyond_the_outermost() -> None:
    stated = TokenLengths(quantiles={"p10": 100, "p95": 2100})
    assert stated.quantile([0.01, 0.999]) == pytest.approx([100, 2100])


@pytest.mark.parametrize("names", [("p50", "p95"), ("0.5", "0.95"), ("P50", "p95.0"), (" p50 ", "0.950")])
def test_quantile_names(names: tuple[str, str]) -> None:
    stated = TokenLengths.model_validate({names[0]: 700, names[1]: 2100})
    assert stated.quantile([0.5, 0.95]) == pytest.approx([700, 2100], rel=1e-6)


def test_quantiles_may_be_given_in_any_order() -> None:
    mixed = TokenLengths(quantiles={"p99": 4000, "p50": 700, "p95": 2100})
    assert mixed.quantile(0.95) == pytest.approx(2100, rel=1e-6)


def test_a_sample_is_equally_likely_lengths_and_never_one_between() -> None:
    # Of four, the first two make up exactly half: the median is the second, p51 the third.
    stated = TokenLengths(sample=(40, 10, 30, 20))
    assert stated.quantile([0.25, 0.5, 0.51, 0.75, 0.76, 1.0]).tolist() == [10, 20, 30, 30, 40, 40]


def test_a_rare_huge_request_counts_in_full() -> None:
    # Nine of 100 tokens and one of 10,000: the mean is (9 x 100 + 10,000) / 10 = 1,090. Linear interpolation
    # between the observations would give (9 x 100 + 10,000 - (100 + 10,000) / 2) / 9 = 650.
    stated = TokenLengths(sample=(100,) * 9 + (10_000,))
    mean, _ = copula_points(stated, TokenLengths(mean=1), 0.0).means
    assert mean == pytest.approx(1_090, rel=0.01)


# What is refused, and in which words


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"mean": 900, "p95": 800}, "p95 must be at least the mean for a log-normal. Got mean 900 and p95 800"),
        ({"mean": 1000, "p95": 3900}, "p95 can be at most 3.87 times the mean"),
        ({"mean": 0, "p95": 1}, "p95 can be at most 3.87 times the mean"),
        ({"p95": 2100}, "p95 needs a mean beside it"),
        ({}, "give one of: a number, mean and p95, quantiles, sample. Got nothing"),
        ({"mean": 5, "sample": [5]}, "Got mean, sample"),
        ({"sample": [5], "quantiles": {"p50": 1, "p95": 2}}, "Got quantiles, sample"),
        ({"quantiles": {"p50": 700}}, "quantiles needs at least two"),
        ({"quantiles": {"p50": 700, "p95": 600}}, "quantiles must rise with their level"),
        ({"quantiles": {"p50": -1, "p95": 600}}, "quantiles must be token counts between 0 and 1e+08"),
        ({"quantiles": {"p50": 1, "p95": math.inf}}, "quantiles must be token counts"),
        ({"quantiles": {"median": 1, "p95": 2}}, "a quantile is named like p50 or p99.9. Got 'median'"),
        ({"quantiles": {"p50": 1, "p101": 2}}, "a quantile is named like p50 or p99.9. Got 'p101'"),
        ([], "sample is empty"),
        ([100, -1], "sample holds token counts between 0 and 1e+08"),
        ([math.nan], "sample holds token counts"),
        (True, "Got a boolean"),
        (-1, "greater than or equal to 0"),
        (1e9, "less than or equal to 100000000"),
        (math.nan, "100000000"),
        ("many", "valid dictionary"),
        ({"mean": 5, "median": 4}, "Extra inputs"),
        ({0.5: 700, 0.95: 2100}, "Keys should be strings"),
    ],
)
def test_what_cannot_be_a_distribution_is_refused_and_named(value: Any, says: str) -> None:
    with pytest.raises(ValidationError) as error:
        TokenLengths.model_validate(value)
    assert says in str(error.value)


def test_lengths_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TokenLengths(mean=5).mean = 6  # type: ignore[misc]


# Shorthand and round trip


@pytest.mark.parametrize(
    ("short", "full"),
    [
        (300, TokenLengths(mean=300)),
        (2.5, TokenLengths(mean=2.5)),
        ([1, 2, 3], TokenLengths(sample=(1, 2, 3))),
        ((1, 2), TokenLengths(sample=(1, 2))),
        ({"p50": 700, "p95": 2100}, TokenLengths(quantiles={"p50": 700, "p95": 2100})),
        ({"mean": 900, "p95": 2100}, TokenLengths(mean=900, p95=2100)),
    ],
)
def test_shorthand(short: Any, full: TokenLengths) -> None:
    assert TokenLengths.model_validate(short) == full


@pytest.mark.parametrize(
    ("stated", "plain"),
    [
        (TokenLengths(mean=300), 300),
        (TokenLengths(mean=900, p95=2100), {"mean": 900, "p95": 2100}),
        (TokenLengths(sample=(1, 2)), {"sample": [1, 2]}),
        (TokenLengths(quantiles={"p50": 1, "p95": 2}), {"quantiles": {"p50": 1, "p95": 2}}),
    ],
)
def test_the_written_form_is_the_shortest(stated: TokenLengths, plain: Any) -> None:
    assert stated.model_dump() == plain


@given(stated=lengths)
def test_lengths_survive_a_dump_and_their_own_repr(stated: TokenLengths) -> None:
    assert TokenLengths.model_validate(stated.model_dump()) == stated
    assert eval(repr(stated), {"TokenLengths": TokenLengths}) == stated


# Partial expectations in closed form


def test_at_the_median_half_of_the_requests_and_more_than_half_of_the_tokens() -> None:
    # Above the median exp(mu): share 1/2, E[in; in > t] = mean Phi(s) = 900 Phi(0.64) = 900 x 0.738914 = 665.02.
    # Independent outputs: 60 x 1/2 = 30.
    above = joint().above(900 * math.exp(-(0.64**2) / 2))
    assert above.share.item() == pytest.approx(0.5, abs=1e-12)
    assert above.input_tokens.item() == pytest.approx(665.02, abs=0.01)
    assert above.output_tokens.item() == pytest.approx(30, rel=1e-9)


@pytest.mark.parametrize("correlation", [-1.0, -0.5, 0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("threshold", [50.0, 734.0, 5_000.0])
def test_partial_expectations_equal_the_integrals(correlation: float, threshold: float) -> None:
    s_in, s_out = 0.64, 0.8
    start = (math.log(threshold) - (math.log(900) - s_in**2 / 2)) / s_in  # z of the threshold
    z2, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / math.sqrt(2 * math.pi)

    def given_z1(z: float) -> float:
        logs = math.log(60) - s_out**2 / 2 + s_out * (correlation * z + math.sqrt(1 - correlation**2) * z2)
        return float(np.sum(weights * np.exp(logs)))

    share, _ = quad(norm.pdf, start, 12)
    tokens_in, _ = quad(lambda z: norm.pdf(z) * 900 * math.exp(s_in * z - s_in**2 / 2), start, 12)
    tokens_out, _ = quad(lambda z: norm.pdf(z) * given_z1(z), start, 12)

    above = joint(correlation=correlation).above(threshold)
    assert above.share.item() == pytest.approx(share, rel=1e-6)
    assert above.input_tokens.item() == pytest.approx(tokens_in, rel=1e-6)
    assert above.output_tokens.item() == pytest.approx(tokens_out, rel=1e-6)


def test_above_nothing_is_everything() -> None:
    above = joint().above(0)
    assert (above.share.item(), above.input_tokens.item(), above.output_tokens.item()) == (1, 900, 60)


def test_fixed_input_lies_wholly_on_one_side_and_not_above_itself() -> None:
    fixed = joint(sigma_in=0.0)
    assert fixed.above(899).output_tokens.item() == 60
    assert fixed.above(900).share.item() == 0  # a tier begins beyond its threshold
    assert fixed.above(901).input_tokens.item() == 0


def test_fixed_is_the_limit_of_narrow_partial_expectations() -> None:
    for threshold, share in ((899.0, 1.0), (901.0, 0.0)):
        assert joint(sigma_in=1e-5).above(threshold).share.item() == pytest.approx(share, abs=1e-9)


def test_the_array_call_is_the_scalar_call() -> None:
    many = LognormalLengths(column(300, 900, 2700), column(60, 60, 60), 0.64, 0.8, 0.3).above(1_000)
    for row, mean in enumerate((300, 900, 2700)):
        assert many.output_tokens[row, 0] == joint(mean_in=mean, correlation=0.3).above(1_000).output_tokens.item()


@pytest.mark.parametrize("sigma", [0.0, 0.64])
def test_each_scenario_may_have_its_own_threshold(sigma: float) -> None:
    thresholds = (0.0, 500.0, 900.0, 2_000.0)
    many = LognormalLengths(column(900, 900, 900, 900), column(60, 60, 60, 60), sigma, 0.8, 0.3).above(
        column(*thresholds)
    )
    for row, threshold in enumerate(thresholds):
        alone = joint(sigma_in=sigma, correlation=0.3).above(threshold)
        for name in ("share", "input_tokens", "output_tokens"):
            assert getattr(many, name)[row, 0] == pytest.approx(getattr(alone, name).item(), rel=1e-12)


def test_above_nothing_is_everything_even_without_any_input() -> None:
    empty = LognormalLengths(column(0, 900), column(60, 60), 0.0, 0.0, 0.0)
    for threshold in (0.0, column(0, 0)):
        assert empty.above(threshold).output_tokens[:, 0].tolist() == [60, 60]


def test_each_scenario_of_a_sample_may_have_its_own_threshold() -> None:
    # Above 0 all, above 150 the upper two, and of the doubled sample above 500 the upper one (600, half of the weight)
    many = SampledLengths(POINTS, column(225, 225, 450), column(22.5, 22.5, 22.5)).above(column(0, 150, 500))
    assert many.share[:, 0] == pytest.approx([1, 0.75, 0.5])
    assert many.input_tokens[:, 0] == pytest.approx([225, 200, 300])


@given(correlation=numbers(-1, 1), a=numbers(1, 1e5), b=numbers(1, 1e5))
def test_less_lies_above_a_higher_threshold(correlation: float, a: float, b: float) -> None:
    low, high = (joint(correlation=correlation).above(t) for t in sorted((a, b)))
    for name in ("share", "input_tokens", "output_tokens"):
        assert getattr(high, name).item() <= getattr(low, name).item() + 1e-12


@given(threshold=numbers(1, 1e5), a=numbers(-1, 1), b=numbers(-1, 1))
def test_correlation_moves_output_tokens_up_the_tiers(threshold: float, a: float, b: float) -> None:
    low, high = (joint(correlation=rho).above(threshold).output_tokens.item() for rho in sorted((a, b)))
    assert low <= high + 1e-9


def test_moments_and_quantiles_of_the_lognormal_pair() -> None:
    # E[in^2] = mean^2 exp(s^2) = 810,000 x exp(0.4096) = 810,000 x 1.506215 = 1,220,034
    pair = joint()
    assert pair.mean_input_squared.item() == pytest.approx(1_220_034, rel=1e-5)
    scipys = lognorm(s=0.8, scale=60 * math.exp(-0.32))
    assert pair.output_quantile(0.99).item() == pytest.approx(scipys.ppf(0.99), rel=1e-9)
    assert pair.input_quantile(0.5).item() == pytest.approx(900 * math.exp(-(0.64**2) / 2), rel=1e-9)


# Samples of pairs


POINTS = Points.of([300, 100, 200], [30, 10, 20], [2, 1, 1])  # means 225 and 22.5


def test_points_are_sorted_and_their_weights_sum_to_one() -> None:
    assert POINTS.inputs.tolist() == [100, 200, 300]
    assert POINTS.outputs.tolist() == [10, 20, 30]
    assert POINTS.weights.tolist() == [0.25, 0.25, 0.5]


def test_weighted_means_by_hand() -> None:
    # (100 + 200 + 2 x 300) / 4 = 225; (10 + 20 + 2 x 30) / 4 = 22.5
    assert POINTS.means == pytest.approx((225, 22.5))


def test_weighted_quantiles_by_hand() -> None:
    levels = (0.2, 0.25, 0.26, 0.5, 0.51, 1.0)
    assert [POINTS.quantile(POINTS.inputs, level) for level in levels] == [100, 100, 200, 200, 300, 300]


def test_partial_expectations_of_a_sample_by_hand() -> None:
    # Above 150 lie 200 (weight 1/4) and 300 (1/2): share 3/4, input 50 + 150, output 5 + 15
    above = SampledLengths(POINTS, column(225), column(22.5)).above(150)
    assert above.share.item() == pytest.approx(0.75)
    assert above.input_tokens.item() == pytest.approx(200)
    assert above.output_tokens.item() == pytest.approx(20)


def test_a_request_of_exactly_the_threshold_is_not_above_it() -> None:
    assert SampledLengths(POINTS, column(225), column(22.5)).above(200).share.item() == pytest.approx(0.5)


def test_a_scaled_sample_keeps_its_shape() -> None:
    # Twice the mean input: the requests are 200, 400, 600, so above 300 is what was above 150. E[in^2] grows fourfold:
    # (200^2 + 400^2 + 2 x 600^2) / 4 = 230,000.
    scaled = SampledLengths(POINTS, column(450), column(45))
    above = scaled.above(300)
    assert above.share.item() == pytest.approx(0.75)
    assert above.input_tokens.item() == pytest.approx(400)
    assert above.output_tokens.item() == pytest.approx(40)
    assert scaled.input_quantile(0.5).item() == pytest.approx(400)
    assert scaled.output_quantile(0.99).item() == pytest.approx(60)
    assert scaled.mean_input_squared.item() == pytest.approx(230_000)


def test_requests_without_input_are_requests() -> None:
    some_empty = SampledLengths(Points.of([0, 100], [10, 30]), column(50), column(20))
    above = some_empty.above(0)
    assert (above.share.item(), above.input_tokens.item(), above.output_tokens.item()) == (1, 50, 20)
    none_at_all = SampledLengths(Points.of([0, 0], [10, 30]), column(0), column(20))
    assert none_at_all.above(0).output_tokens.item() == 20
    assert none_at_all.above(10).share.item() == 0


@given(
    pairs=st.lists(st.tuples(numbers(1, 1e5), numbers(0, 1e4), numbers(0.01, 10)), min_size=1, max_size=30),
    threshold=numbers(0, 1e5),
    factor=numbers(0.1, 10),
)
def test_partial_expectations_are_the_sums_over_the_pairs(
    pairs: list[tuple[float, float, float]], threshold: float, factor: float
) -> None:
    x, y, w = (np.array(column_) for column_ in zip(*pairs, strict=True))
    w = w / w.sum()
    x = x * factor
    points = Points.of(x / factor, y, w)
    over = x > threshold
    assume(np.all(np.abs(x - threshold) > 1e-6 * x))  # closer, the side is a matter of rounding
    above = SampledLengths(points, column(factor * points.means[0]), column(points.means[1])).above(threshold)
    assert above.share.item() == pytest.approx(w[over].sum(), abs=1e-9)
    assert above.input_tokens.item() == pytest.approx((w * x)[over].sum(), rel=1e-9, abs=1e-9)
    assert above.output_tokens.item() == pytest.approx((w * y)[over].sum(), rel=1e-9, abs=1e-9)


# The copula's points


def test_copula_points_carry_means_and_correlation_of_logs() -> None:
    inputs, outputs = TokenLengths(mean=900, p95=2100), TokenLengths(mean=60, p95=140)
    for correlation in (-0.7, 0.0, 0.4, 0.95):
        points = copula_points(inputs, outputs, correlation)
        assert len(points.inputs) == COPULA_POINTS
        assert points.means == pytest.approx((900, 60), rel=0.01)
        logs = np.corrcoef(np.log(points.inputs), np.log(points.outputs))[0, 1]
        assert logs == pytest.approx(correlation, abs=0.02)


def test_copula_points_agree_with_the_closed_form_above_a_threshold() -> None:
    inputs, outputs = TokenLengths(mean=900, p95=2100), TokenLengths(mean=60, p95=140)
    points = copula_points(inputs, outputs, 0.5)
    sampled = SampledLengths(points, column(900), column(60)).above(1_500)
    closed = LognormalLengths(column(900), column(60), inputs.sigma, outputs.sigma, 0.5).above(1_500)
    assert sampled.share.item() == pytest.approx(closed.share.item(), abs=2e-3)
    assert sampled.input_tokens.item() == pytest.approx(closed.input_tokens.item(), rel=0.01)
    assert sampled.output_tokens.item() == pytest.approx(closed.output_tokens.item(), rel=0.02)


def test_full_correlation_puts_the_longest_answer_to_the_longest_prompt() -> None:
    inputs, outputs = TokenLengths(mean=900, p95=2100), TokenLengths(sample=(1, 2, 3))
    assert np.all(np.diff(copula_points(inputs, outputs, 1.0).outputs) >= 0)
    assert np.all(np.diff(copula_points(inputs, outputs, -1.0).outputs) <= 0)


def test_copula_points_of_fixed_lengths_are_one_point() -> None:
    points = copula_points(TokenLengths(mean=900), TokenLengths(mean=60), 0.5)
    assert set(points.inputs) == {900.0}
    assert set(points.outputs) == {60.0}


def test_copula_points_are_always_the_same() -> None:
    inputs, outputs = TokenLengths(mean=900, p95=2100), TokenLengths(sample=(5, 50))
    first, second = copula_points(inputs, outputs, 0.3), copula_points(inputs, outputs, 0.3)
    assert np.array_equal(first.inputs, second.inputs)
    assert np.array_equal(first.outputs, second.outputs)


@given(a=lengths, b=lengths, correlation=numbers(-1, 1))
def test_copula_points_stay_within_what_was_observed(a: TokenLengths, b: TokenLengths, correlation: float) -> None:
    points = copula_points(a, b, correlation)
    for stated, values in ((a, points.inputs), (b, points.outputs)):
        assert np.all(np.isfinite(values))
        assert values.min() >= 0
        if stated.sample is not None:
            assert values.min() >= min(stated.sample)
            assert values.max() <= max(stated.sample)

    assert points.weights.sum() == pytest.approx(1)


def test_copula_points_keep_the_mean_of_a_sample_with_a_huge_outlier() -> None:
    # Nine thousand nine hundred and ninety-nine requests of 10 tokens and one of a million: mean 109.999.
    stated = TokenLengths(sample=(*[10.0] * 9_999, 1e6))
    points = copula_points(stated, TokenLengths(mean=60, p95=140), 0.5)
    assert points.means[0] == pytest.approx(109.999)
    assert points.means[1] == pytest.approx(60)
