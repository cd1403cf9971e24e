//! Builds the same trees with us and with the other builders, in one run, and prints a table.
//!
//! `cargo bench --bench builders -- [--runs N] [1m 100m 1g 100k 1000k]`, as root.
//!
//! The others are those of Debian 13, in a root of their own that is made once (`place.rs`). All
//! work on one disk, in turns, each run ending when its output is synced; the first turn is thrown
//! away. Every last result is mounted and compared with the tree (`compare.rs`).

#![allow(
    unreachable_pub,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used
)]

#[path = "../../harness/builders.rs"]
mod builders;
mod compare;
mod contestants;
#[path = "../../harness/debian.rs"]
mod debian;
#[path = "../measure.rs"]
mod measure;
mod place;
#[path = "../../harness/tools.rs"]
mod tools;
mod trees;

use contestants::{Contestant, contestants};
use measure::Run;
use place::Place;

/// Counted turns unless `--runs` says otherwise.
const RUNS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = args.as_slice()
        && first == measure::COMMAND
    {
        return measure::child(rest);
    }
    let mut runs = RUNS;
    let mut wanted = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // From cargo.
            "--bench" => {}
            "--runs" => {
                runs = args
                    .next()
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(RUNS)
            }
            size if trees::SIZES.contains(&size) || size == trees::MILLION => wanted.push(arg),
            _ => panic!(
                "expected --runs N or some of {:?} and {:?}, found {arg}",
                trees::SIZES,
                trees::MILLION
            ),
        }
    }
    if wanted.is_empty() {
        wanted = trees::SIZES.map(str::to_owned).to_vec();
    }

    let Some(place) = Place::prepare() else {
        return;
    };
    println!("{}\n", place::machine());
    for size in wanted {
        bench(&place, &size, runs);
    }
    if let Some(count) = place.instructions() {
        println!("Building the fixed small tree takes {count} instructions (callgrind).");
    }
}

fn bench(place: &Place, size: &str, runs: usize) {
    let tree = trees::make(place, size);
    println!(
        "### {size}: {} files, {:.1} MB\n",
        tree.files,
        megabytes(tree.bytes)
    );
    let mut contestants = contestants();
    contestants.retain(|contestant| size != trees::MILLION || !contestant.compresses);
    let mut measured: Vec<Vec<Run>> = contestants.iter().map(|_| Vec::new()).collect();
    for turn in 0..=runs {
        for (contestant, measured) in contestants.iter().zip(&mut measured) {
            let run = place.run(contestant);
            if turn > 0 {
                measured.push(run);
            }
        }
    }
    println!(
        "| builder | wall s (min–max) | CPU s | peak MiB | read MB | written MB | image MB | wall ratio | CPU ratio | content |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let ours: Vec<(f64, f64)> = measured
        .iter()
        .map(|runs| (wall(runs), cpu(runs)))
        .collect();
    for (index, (contestant, runs)) in contestants.iter().zip(&measured).enumerate() {
        let (against_wall, against_cpu) = ours[contestant.against];
        let (slowest, fastest) = spread(runs);
        println!(
            "| {} | {:.3} ({fastest:.3}–{slowest:.3}) | {:.2} | {:.0} | {:.1} | {:.1} | {:.1} | {} | {} | {} |",
            contestant.name,
            wall(runs),
            cpu(runs),
            median(runs, |run| run.peak_bytes as f64) / f64::from(1 << 20),
            megabytes(median(runs, |run| run.read_bytes as f64) as u64),
            megabytes(median(runs, |run| run.written_bytes as f64) as u64),
            megabytes(place.image_bytes(contestant)),
            ratio(index, contestant, wall(runs) / against_wall),
            ratio(index, contestant, cpu(runs) / against_cpu),
            verdict(place, contestant, &tree),
        );
    }
    println!();
    let hashing = place.hashing_seconds(place.image_bytes(&contestants[0]));
    println!("Hashing as many bytes with `openssl speed` on all processors: {hashing:.3} s\n");
}

fn verdict(place: &Place, contestant: &Contestant, tree: &trees::Made) -> String {
    match contestant.root {
        Some(_) => compare::compare(&tree.root, &place.mounted(contestant).path()),
        None => "–".to_owned(),
    }
}

fn ratio(index: usize, contestant: &Contestant, ratio: f64) -> String {
    match index == contestant.against {
        true => "1".to_owned(),
        false => format!("{ratio:.2}"),
    }
}

fn wall(runs: &[Run]) -> f64 {
    median(runs, |run| run.wall_seconds)
}

fn cpu(runs: &[Run]) -> f64 {
    median(runs, |run| run.cpu_seconds)
}

fn spread(runs: &[Run]) -> (f64, f64) {
    let walls = runs.iter().map(|run| run.wall_seconds);
    (
        walls.clone().fold(0.0, f64::max),
        walls.fold(f64::MAX, f64::min),
    )
}

fn median(runs: &[Run], value: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
