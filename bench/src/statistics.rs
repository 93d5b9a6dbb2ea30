//! Medians and quartiles of a few rounds.

/// The middle and the quarters of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quartiles {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Quartiles {
    /// Of values in any order; `None` of none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            lower: quantile(&sorted, 0.25)?,
            median: quantile(&sorted, 0.5)?,
            upper: quantile(&sorted, 0.75)?,
        })
    }
}

/// The value at `part` of the way, between its neighbours as the way lies between them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a few values"
)]
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (low, high) = (*sorted.get(below)?, *sorted.get(above)?);
    Some((high - low).mul_add(place.fract(), low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_lie_between_neighbours() {
        let found = Quartiles::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((found.lower, found.median, found.upper), (1.75, 2.5, 3.25));
        let one = Quartiles::of([7.0]).unwrap();
        assert_eq!((one.lower, one.upper), (7.0, 7.0));
        assert_eq!(Quartiles::of([]), None);
    }
}
