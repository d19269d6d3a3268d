//! Tests of the plots.

use super::*;
use crate::report::samples::HOSTILE;

fn line(label: &str, points: &[(f64, Option<f64>)]) -> Line {
    Line { label: label.to_owned(), part: "", colour_index: 0, stroke: Stroke::Solid, points: points.to_vec() }
}

fn plot(lines: Vec<Line>) -> Plot {
    let (x, y) = (Axis::time("time, s", 4.0), Axis::from_zero("latency, ms", 10.0));
    Plot { title: "Latency".to_owned(), x, y, lines }
}

/// `UPDATE=1` in the environment writes the file anew.
#[test]
fn a_small_plot_is_the_golden_one() {
    let ours = Line {
        part: "p99",
        stroke: Stroke::Dashed,
        ..line("ours", &[(0.0, Some(10.0)), (2.0, Some(5.0)), (4.0, Some(0.0))])
    };
    let theirs = Line {
        colour_index: 1,
        ..line("theirs & co", &[(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(9.0))])
    };
    let svg = plot(vec![ours, theirs]).standalone();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(GOLDEN, &svg).unwrap();
    }
    assert_eq!(svg, std::fs::read_to_string(GOLDEN).unwrap());
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/plot.svg");

#[test]
fn points_stand_where_their_values_are() {
    let svg = plot(vec![line("a", &[(0.0, Some(0.0)), (4.0, Some(10.0)), (2.0, Some(5.0))])]).svg();
    assert!(svg.contains("d=\"M62.0 242.0L466.0 32.0L264.0 137.0\""), "{svg}");
}

#[test]
fn a_gap_breaks_the_line_and_a_lone_point_is_a_dot() {
    let points = [(0.0, Some(1.0)), (1.0, Some(1.0)), (2.0, None), (3.0, Some(1.0)), (3.5, None), (4.0, None)];
    let svg = plot(vec![line("a", &points)]).svg();
    assert_eq!(svg.matches("<circle").count(), 1, "{svg}");
    assert_eq!(svg.matches("<title>a</title>").count(), 2, "{svg}");
}

#[test]
fn a_plot_of_nothing_says_so() {
    for lines in [vec![], vec![line("a", &[])], vec![line("a", &[(1.0, None)])]] {
        let svg = plot(lines).svg();
        assert!(svg.contains("nothing was measured") && !svg.contains("NaN"), "{svg}");
    }
    assert!(!plot(vec![line("a", &[(1.0, Some(1.0))])]).svg().contains("nothing was measured"));
}

#[test]
fn hostile_names_are_only_text() {
    let mut plot = plot(vec![line(HOSTILE, &[(0.0, Some(1.0)), (1.0, Some(2.0))])]);
    plot.title = HOSTILE.to_owned();
    let svg = plot.svg();
    assert!(!svg.contains("<script") && !svg.contains("alert('"), "{svg}");
    assert!(!svg.contains('\u{0}') && !svg.contains('\u{1b}'), "{svg}");
}

#[test]
fn long_names_are_cut_but_keep_their_part() {
    let mut long = line("a.broker.with.a.very.long.name:9092", &[]);
    long.part = "p99.9";
    assert_eq!(long.short_name(), "a.broker.with.a.very… p99.9");
    assert_eq!(line("short", &[]).short_name(), "short");
    assert_eq!(line(&"é".repeat(40), &[]).short_name(), format!("{}…", "é".repeat(25)));
}

#[test]
fn the_legend_has_a_row_for_two_lines() {
    let height = |count: usize| {
        let svg = plot((0..count).map(|_| line("a", &[])).collect()).svg();
        svg.split("viewBox=\"0 0 480 ").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
    };
    let heights: Vec<_> = [1, 2, 3].map(height).into();
    assert_eq!(heights, [322.0, 322.0, 342.0]);
}

/// WCAG asks 3:1 of graphics and 4.5:1 of text.
#[test]
fn colours_stand_out_from_both_grounds() {
    for colour in COLOURS {
        assert!(contrast(colour.light, GROUND_LIGHT) >= 3.0, "{}", colour.light);
        assert!(contrast(colour.dark, GROUND_DARK) >= 3.0, "{}", colour.dark);
    }
    assert!(contrast(TEXT_LIGHT, GROUND_LIGHT) >= 4.5 && contrast(TEXT_DARK, GROUND_DARK) >= 4.5);
}

#[test]
fn what_is_said_of_the_right_end_stays_inside() {
    let mut plot = plot(vec![]);
    plot.x = Axis::nines("percentile", 4.5);
    let svg = plot.svg();
    assert!(svg.contains("<text class=\"x\" x=\"455.8\" y=\"258\">99.999</text>"), "{svg}");
    assert!(svg.contains("<text class=\"x\" x=\"385.2\" y=\"258\">99.99</text>"), "{svg}");
}

#[test]
fn two_owners_of_three_lines_have_a_column_each() {
    let names = ["a1", "a2", "a3", "b1", "b2", "b3"];
    let svg = plot(names.iter().map(|name| line(name, &[])).collect()).svg();
    let (_, legend) = svg.split_once("nothing was measured").unwrap();
    let columns: Vec<_> = legend.matches("<text x=\"48\"").chain(legend.matches("<text x=\"282\"")).collect();
    assert_eq!(columns.len(), 6, "{legend}");
    assert!(legend.contains("x=\"48\" y=\"342\">a3<") && legend.contains("x=\"282\" y=\"302\">b1<"), "{legend}");
}

const GROUND_LIGHT: &str = "#ffffff";
const GROUND_DARK: &str = "#14171c";

/// As WCAG 2 defines it.
fn contrast(one: &str, other: &str) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

fn luminance(colour: &str) -> f64 {
    let channel = |from: usize| {
        let value = f64::from(u8::from_str_radix(&colour[from..from + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}
