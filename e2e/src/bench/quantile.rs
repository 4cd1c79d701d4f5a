//! Quantiles of samples.

/// The smallest sample that this share of them, in percent, does not exceed; zero if there are none.
pub(super) fn quantile(percent: usize, samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples = [3.0, 1.0, 2.0, 4.0];
        let quantiles = [0, 25, 50, 51, 100].map(|percent| quantile(percent, &samples));
        assert_eq!(quantiles, [1.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(quantile(50, &[]), 0.0);
    }
}
