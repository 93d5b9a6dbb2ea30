//! Ring throughput by burst, ours and the peer's, as a picture.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::compare::{Bench, Rounds};
use crate::line::{Unit, Work};
use crate::machine::Machine;
use crate::ours::ring::Shape;
use crate::statistics::Quartiles;

/// The bursts, and items of a round of each: about a third of a second of the slower side.
const BURSTS: [(usize, u64); 7] = [
    (1, 6_000_000),
    (2, 12_000_000),
    (4, 20_000_000),
    (8, 30_000_000),
    (16, 50_000_000),
    (32, 80_000_000),
    (64, 100_000_000),
];

/// Width and height of the picture, and of the part with the curves, with its upper left corner.
const SIZE: (f64, f64) = (760.0, 460.0);
const PLACE: (f64, f64) = (70.0, 50.0);
const AREA: (f64, f64) = (660.0, 320.0);

/// A curve.
struct Curve {
    name: &'static str,
    /// Its colour, and how its line is broken.
    stroke: (&'static str, &'static str),
    ours: bool,
    shape: Shape,
    peer: &'static str,
}

const CURVES: [Curve; 5] = [
    Curve {
        name: "Forebay, one to one",
        stroke: ("#c2410c", ""),
        ours: true,
        shape: Shape::Spsc,
        peer: "",
    },
    Curve {
        name: "Forebay, four lanes to one",
        stroke: ("#0e7490", ""),
        ours: true,
        shape: Shape::Fanin,
        peer: "",
    },
    Curve {
        name: "rte_ring SP/SC, pointers",
        stroke: ("#c2410c", "6 4"),
        ours: false,
        shape: Shape::Spsc,
        peer: "spsc",
    },
    Curve {
        name: "rte_ring SP/SC, 4-byte elements",
        stroke: ("#a8a29e", "2 3"),
        ours: false,
        shape: Shape::Spsc,
        peer: "spsc-u32",
    },
    Curve {
        name: "rte_ring MP/SC, pointers",
        stroke: ("#0e7490", "6 4"),
        ours: false,
        shape: Shape::Fanin,
        peer: "mpsc",
    },
];

/// Measures all curves and draws them.
pub(crate) fn run(
    bench: &Bench<'_>,
    machine: &Machine,
    rounds: u32,
    (file, rounds_file): (&Path, &mut Rounds),
) -> Result<()> {
    let mut values = vec![vec![Vec::new(); BURSTS.len()]; CURVES.len()];
    for round in 0..rounds {
        for (column, (burst, items)) in BURSTS.into_iter().enumerate() {
            eprintln!("plot: round {} of {rounds}, bursts of {burst}", round + 1);
            for (curve, values) in CURVES.iter().zip(&mut values) {
                let work = Work::Ring {
                    shape: curve.shape,
                    burst,
                    peer: curve.peer,
                };
                bench.neighbours()?;
                let round_of = if curve.ours {
                    bench.ours(work, items)?
                } else if bench.has_peer(work) {
                    bench.theirs(work, items)?
                } else {
                    continue;
                };
                let value = Unit::Rate.of(round_of.items, round_of.seconds);
                rounds_file.write(&serde_json::json!({
                    "curve": curve.name, "burst": burst, "round": round, "unit": "M/s", "value": value,
                }))?;
                values[column].push(value);
            }
        }
    }
    let medians: Vec<Vec<f64>> = values
        .into_iter()
        .map(|curve| {
            let median = |values: Vec<f64>| Quartiles::of(values).map(|found| found.median);
            curve.into_iter().filter_map(median).collect()
        })
        .collect();
    let about = format!(
        "{}, {} cores, Linux {}, {}, commit {}, median of {rounds} rounds, {}",
        machine.cpu,
        machine.cores,
        machine.kernel,
        bench.peers.as_ref().map_or_else(
            || "no peer".to_owned(),
            |peers| format!("DPDK {}", peers.version)
        ),
        machine.commit,
        machine.date()
    );
    fs::write(file, draw(&medians, &about))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("plot: {}", file.display());
    Ok(())
}

/// The picture.
fn draw(medians: &[Vec<f64>], about: &str) -> String {
    let most = medians.iter().flatten().copied().fold(1.0, f64::max);
    let step = [25.0, 50.0, 100.0, 200.0, 250.0, 500.0, 1000.0];
    let step = step
        .into_iter()
        .find(|step| most / step <= 8.0)
        .unwrap_or(2000.0);
    let top = (most / step).ceil() * step;
    let x = |column: usize| {
        AREA.0
            .mul_add(column as f64 / (BURSTS.len() - 1) as f64, PLACE.0)
    };
    let y = |value: f64| AREA.1.mul_add(1.0 - value / top, PLACE.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Ring throughput by burst</title>\n<desc>{}</desc>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{}\" y=\"26\" font-size=\"16\">Ring throughput between two cores, by burst (rings of 1024)</text>\n",
        SIZE.0,
        SIZE.1,
        escape(about),
        PLACE.0
    );
    // Writing to a string cannot fail.
    let mut value = 0.0;
    while value <= top {
        let at = y(value);
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {at:.1}h{:.1}\" stroke=\"#e7e5e4\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            PLACE.0,
            AREA.0,
            PLACE.0 - 8.0,
            at + 4.0
        );
        value += step;
    }
    for (column, (burst, _)) in BURSTS.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{burst}</text>",
            x(column),
            PLACE.1 + AREA.1 + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">items to a call</text>\n\
         <text x=\"16\" y=\"{:.1}\" transform=\"rotate(-90 16 {:.1})\" text-anchor=\"middle\">millions of items a second</text>",
        PLACE.0 + AREA.0 / 2.0,
        PLACE.1 + AREA.1 + 38.0,
        PLACE.1 + AREA.1 / 2.0,
        PLACE.1 + AREA.1 / 2.0
    );
    let mut row = 0.0;
    for (curve, medians) in CURVES
        .iter()
        .zip(medians)
        .filter(|(_, medians)| !medians.is_empty())
    {
        let (colour, dashes) = curve.stroke;
        let points: Vec<String> = medians
            .iter()
            .enumerate()
            .map(|(column, value)| format!("{:.1},{:.1}", x(column), y(*value)))
            .collect();
        let line = format!(
            "fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\""
        );
        let told: Vec<String> = medians.iter().map(|value| format!("{value:.0}")).collect();
        let at = PLACE.1 + 14.0 + row;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" {line}><title>{}: {}</title></polyline>\n\
             <path d=\"M{:.1} {at:.1}h28\" {line}/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            points.join(" "),
            curve.name,
            told.join(", "),
            PLACE.0 + 12.0,
            PLACE.0 + 48.0,
            at + 4.0,
            curve.name
        );
        row += 18.0;
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\" fill=\"#78716c\">{}</text>\n</svg>",
        PLACE.0,
        SIZE.1 - 12.0,
        escape(about)
    );
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_has_a_point_for_each_value_and_scales_to_the_most() {
        let medians = vec![vec![100.0, 200.0, 390.0]];
        let svg = draw(&medians, "a & b");
        assert!(svg.contains("a &amp; b"));
        let points = svg
            .split("points=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert_eq!(points, "70.0,290.0 180.0,210.0 290.0,58.0");
        assert_eq!(svg.matches("<polyline").count(), 1);
    }
}
