//! A line on the terminal while something takes longer than a second.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::output::Screen;
use crate::io::progress::{Progress, Stage};

/// What is over sooner needs no line.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(200);
/// Back to the first column, and the rest of the line empty (ECMA-48).
const CLEAR: &str = "\r\x1b[K";
/// A line may not break, and terminals have at least so many columns.
const COLUMNS: usize = 79;

/// Does the work and shows how far it is, if standard error is a terminal and not to be quiet.
pub(crate) fn watch<T>(screen: &Screen, work: impl FnOnce(&Progress) -> T) -> T {
    let progress = Progress::new();
    if screen.quiet || !io::stderr().is_terminal() {
        return work(&progress);
    }
    thread::scope(|scope| {
        let (done, waiting) = channel::<()>();
        let progress = &progress;
        let shown = scope.spawn(move || {
            let mut look = PATIENCE;
            let mut stage = (0, Instant::now());
            while let Err(RecvTimeoutError::Timeout) = waiting.recv_timeout(look) {
                let (now, bytes) = progress.now();
                if now.number != stage.0 {
                    stage = (now.number, Instant::now());
                }
                // Nobody is left to tell if this fails.
                let text = line(&now, bytes, stage.1.elapsed());
                let _ = write!(io::stderr().lock(), "{CLEAR}{text}");
                look = INTERVAL;
            }
            if look == INTERVAL {
                let _ = write!(io::stderr().lock(), "{CLEAR}");
            }
        });
        let result = work(progress);
        drop(done);
        // A thread that only prints has no result.
        let _ = shown.join();
        result
    })
}

/// Stage, bytes, rate and time left.
fn line(stage: &Stage, bytes: u64, elapsed: Duration) -> String {
    let megabytes = |bytes: f64| format!("{:.1} MB", bytes / 1e6);
    let rate = bytes as f64 / elapsed.as_secs_f64().max(1e-3);
    let mut text = stage.what.clone();
    if bytes > 0 {
        text.push_str(": ");
        text.push_str(&megabytes(bytes as f64));
        if stage.total > 0 {
            let share = bytes as f64 / stage.total as f64 * 100.0;
            text.push_str(&format!(
                " of {} ({share:.0} %)",
                megabytes(stage.total as f64)
            ));
        }
        text.push_str(&format!(", {}/s", megabytes(rate)));
        // Nothing can be foretold from the first moments.
        if stage.total > 0 && elapsed >= INTERVAL * 2 {
            let left = stage.total.saturating_sub(bytes) as f64 / rate;
            text.push_str(&format!(", {} left", duration(left)));
        }
    }
    text.chars().take(COLUMNS).collect()
}

fn duration(seconds: f64) -> String {
    match seconds.ceil() {
        seconds if seconds < 60.0 => format!("{seconds:.0} s"),
        seconds => format!("{:.0} min", (seconds / 60.0).ceil()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(total: u64) -> Stage {
        Stage {
            number: 1,
            what: "building tools".to_owned(),
            total,
        }
    }

    #[test]
    fn a_line_tells_what_is_known() {
        let second = Duration::from_secs(1);
        assert_eq!(line(&stage(0), 0, second), "building tools");
        assert_eq!(
            line(&stage(0), 2_500_000, second),
            "building tools: 2.5 MB, 2.5 MB/s"
        );
        assert_eq!(
            line(&stage(10_000_000), 2_500_000, second),
            "building tools: 2.5 MB of 10.0 MB (25 %), 2.5 MB/s, 3 s left"
        );
        let late = line(&stage(1_000_000_000_000), 1_000_000_000, second);
        assert!(late.ends_with(", 17 min left"), "{late}");
        let first = line(&stage(10_000_000), 5_000_000, Duration::ZERO);
        assert!(!first.contains("left"), "{first}");
    }

    #[test]
    fn a_line_stays_a_line() {
        let long = Stage {
            what: "building ".to_owned() + &"ü".repeat(200),
            ..stage(1)
        };
        assert_eq!(line(&long, 1, PATIENCE).chars().count(), COLUMNS);
    }
}
