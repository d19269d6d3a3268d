//! A plot as SVG: a frame, two axes, lines, and a legend below.
//!
//! Pure: numbers in, text out. Colours are those of [`style`], by class, so that one picture serves a light page and a
//! dark one. Drawn for a width of 480 units, at which text can be read on a phone.

use std::fmt::Write as _;

use super::axis::Axis;
use super::markup::escape;

/// What is drawn.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// One line of a plot.
pub(super) struct Line {
    /// Whose line it is.
    pub(super) label: String,
    /// Which of the owner's lines, such as `p99`; empty if it has but one.
    pub(super) part: &'static str,
    /// The same for all lines of one owner, in all plots of a page.
    pub(super) colour_index: usize,
    pub(super) stroke: Stroke,
    /// From left to right, where there is something; a break in the line where there is nothing.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// How lines of one colour are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    Solid,
    Dashed,
    Dotted,
}

impl Plot {
    /// As an element to be put into a page that holds [`style`].
    pub(super) fn svg(&self) -> String {
        let height = PLOT_BOTTOM + AXIS_HEIGHT + LEGEND_ROW * f64::from(self.legend_row_count());
        let (title, summary) = (escape(&self.title), escape(&self.summary()));
        let mut svg = format!(
            "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"{title}. {summary}\">\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"18\">{title}</text>\n"
        );
        self.draw_axes(&mut svg);
        for line in &self.lines {
            draw_line(&mut svg, line, &self.x, &self.y);
        }
        if self.lines.iter().all(|line| line.points.iter().all(|(_, y)| y.is_none())) {
            let (x, y) = (middle(LEFT, RIGHT), middle(TOP, PLOT_BOTTOM));
            let _ = writeln!(svg, "<text class=\"nothing\" x=\"{x}\" y=\"{y}\">nothing was measured</text>");
        }
        self.draw_legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    /// As a file of its own.
    pub(super) fn standalone(&self) -> String {
        self.svg().replacen(">\n", &format!(">\n<style>\n{GROUND}{}</style>\n", style()), 1)
    }

    /// What is shown, for those who cannot see it.
    fn summary(&self) -> String {
        let lines: Vec<_> = self.lines.iter().map(Line::name).collect();
        format!("{} by {}. Lines: {}", self.y.label, self.x.label, lines.join("; "))
    }

    fn draw_axes(&self, svg: &mut String) {
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {TOP}V{PLOT_BOTTOM}H{RIGHT}\"/>");
        for (value, text) in &self.y.ticks {
            let y = y_at(&self.y, *value);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
            let _ = writeln!(svg, "<text class=\"y\" x=\"{}\" y=\"{:.1}\">{text}</text>", LEFT - 6.0, y + 4.5);
        }
        for (value, text) in &self.x.ticks {
            let x = x_at(&self.x, *value);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{PLOT_BOTTOM}\"/>");
            // What is said of the right end has little room beyond it.
            let room = WIDTH - 2.0 - LETTER * f64::from(u32::try_from(text.len()).expect("a tick is short")) / 2.0;
            let y = PLOT_BOTTOM + 16.0;
            let _ = writeln!(svg, "<text class=\"x\" x=\"{:.1}\" y=\"{y}\">{text}</text>", x.min(room));
        }
        let (x, y) = (middle(LEFT, RIGHT), PLOT_BOTTOM + 35.0);
        let _ = writeln!(svg, "<text class=\"x\" x=\"{x}\" y=\"{y}\">{}</text>", escape(&self.x.label));
        let y = middle(TOP, PLOT_BOTTOM);
        let label = escape(&self.y.label);
        let _ = writeln!(svg, "<text class=\"x\" transform=\"translate(14 {y}) rotate(-90)\">{label}</text>");
    }

    fn draw_legend(&self, svg: &mut String) {
        // Down one column, then the next: with two owners of as many lines, each has a column.
        let rows = (0..self.legend_row_count()).map(|row| PLOT_BOTTOM + AXIS_HEIGHT + LEGEND_ROW * f64::from(row));
        let places = LEGEND_COLUMNS.into_iter().flat_map(|x| rows.clone().map(move |y| (x, y)));
        for (line, (x, y)) in self.lines.iter().zip(places) {
            let (class, end) = (line.class(), x + SWATCH);
            let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{x} {}H{end}\"/>", y - 5.0);
            let _ = writeln!(svg, "<text x=\"{}\" y=\"{y}\">{}</text>", end + 6.0, escape(&line.short_name()));
        }
    }

    fn legend_row_count(&self) -> u32 {
        u32::try_from(self.lines.len().div_ceil(LEGEND_COLUMNS.len())).expect("nobody draws so many lines")
    }
}

impl Line {
    fn name(&self) -> String {
        format!("{} {}", self.label, self.part).trim_end().to_owned()
    }

    /// The name at a length that its column of the legend has room for.
    fn short_name(&self) -> String {
        let room = LEGEND_LETTERS - self.part.len();
        if self.label.chars().count() <= room {
            return self.name();
        }
        let kept: String = self.label.chars().take(room - 1).collect();
        format!("{kept}… {}", self.part).trim_end().to_owned()
    }

    fn class(&self) -> String {
        let stroke = match self.stroke {
            Stroke::Solid => "",
            Stroke::Dashed => " dashed",
            Stroke::Dotted => " dotted",
        };
        format!("line c{}{stroke}", self.colour_index % COLOURS.len())
    }
}

fn draw_line(svg: &mut String, line: &Line, x: &Axis, y: &Axis) {
    let (class, name) = (line.class(), escape(&line.name()));
    // What has neighbours is a path; what stands alone is a dot.
    let mut path = String::new();
    let mut dots = Vec::new();
    for stretch in line.points.split(|(_, y)| y.is_none()) {
        let placed: Vec<_> =
            stretch.iter().filter_map(|(at, value)| Some((x_at(x, *at), y_at(y, (*value)?)))).collect();
        match placed.as_slice() {
            [] => {}
            [alone] => dots.push(*alone),
            [(x, y), rest @ ..] => {
                let _ = write!(path, "M{x:.1} {y:.1}");
                for (x, y) in rest {
                    let _ = write!(path, "L{x:.1} {y:.1}");
                }
            }
        }
    }
    if !path.is_empty() {
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"{path}\"><title>{name}</title></path>");
    }
    for (x, y) in dots {
        let _ = writeln!(
            svg,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"><title>{name}</title></circle>"
        );
    }
}

fn x_at(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.place(value) * (RIGHT - LEFT)
}

fn y_at(axis: &Axis, value: f64) -> f64 {
    PLOT_BOTTOM - axis.place(value) * (PLOT_BOTTOM - TOP)
}

fn middle(from: f64, to: f64) -> f64 {
    f64::midpoint(from, to)
}

/// What all plots look like, light and dark.
pub(super) fn style() -> String {
    let (mut light, mut dark) = (String::new(), String::new());
    for (index, colour) in COLOURS.iter().enumerate() {
        let _ = write!(light, "--c{index}:{};", colour.light);
        let _ = write!(dark, "--c{index}:{};", colour.dark);
    }
    let mut style = format!(
        ".plot{{--text:{TEXT_LIGHT};--grid:#d5d9df;{light}}}\n\
         @media(prefers-color-scheme:dark){{.plot{{--text:{TEXT_DARK};--grid:#3a414b;{dark}}}}}\n\
         .plot text{{font:13px system-ui,sans-serif;fill:var(--text)}}\n\
         .plot .title{{font-weight:600}}.plot .y{{text-anchor:end}}.plot .x,.plot .nothing{{text-anchor:middle}}\n\
         .plot .grid{{fill:none;stroke:var(--grid);stroke-width:1}}\n\
         .plot .line{{fill:none;stroke-width:1.8;stroke-linejoin:round}}\n\
         .plot .dashed{{stroke-dasharray:6 3}}.plot .dotted{{stroke-dasharray:1.5 3}}\n",
    );
    for index in 0..COLOURS.len() {
        let _ = writeln!(style, ".plot .c{index}{{stroke:var(--c{index})}}");
    }
    style
}

/// The ground that a file of its own stands on; a page has its own.
const GROUND: &str = ".plot{background:#fff}@media(prefers-color-scheme:dark){.plot{background:#14171c}}\n";

/// One owner's colour on either ground.
struct Colour {
    light: &'static str,
    dark: &'static str,
}

/// Told apart with any of the common kinds of colour blindness, and at least 3:1 against their ground.
const COLOURS: [Colour; 6] = [
    Colour { light: "#0068a8", dark: "#56b4e9" },
    Colour { light: "#c75000", dark: "#ff9a4d" },
    Colour { light: "#00785a", dark: "#2fc99b" },
    Colour { light: "#a8467f", dark: "#e39bc6" },
    Colour { light: "#806400", dark: "#f0e442" },
    Colour { light: "#4d4d4d", dark: "#c8c8c8" },
];
const TEXT_LIGHT: &str = "#1c2128";
const TEXT_DARK: &str = "#e3e6ea";

const WIDTH: f64 = 480.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 466.0;
const TOP: f64 = 32.0;
const PLOT_BOTTOM: f64 = 242.0;
/// A digit is about so wide.
const LETTER: f64 = 7.4;
/// From the frame to the first row of the legend.
const AXIS_HEIGHT: f64 = 60.0;
const LEGEND_ROW: f64 = 20.0;
/// Left edges.
const LEGEND_COLUMNS: [f64; 2] = [16.0, 250.0];
const SWATCH: f64 = 26.0;
/// As many letters as a column has room for.
const LEGEND_LETTERS: usize = 26;

#[cfg(test)]
mod tests;
