//! Expansion, case by case: `testdata/expand/NAME` holds `in.yaml`, and either
//! the exact bytes of `out.yaml` or what `error.txt` says.
