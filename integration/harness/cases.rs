//! Tables of cases.

/// Runs all cases and fails with everything that is wrong, not only the first.
pub(crate) fn each<T>(cases: &[T], what: impl Fn(&T)) {
    let failed = cases
        .iter()
        .filter(|case| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| what(case))).is_err()
        })
        .count();
    assert_eq!(failed, 0, "cases failed, see above");
}
