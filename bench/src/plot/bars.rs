//! Bars beside each other: with the interval of each, or stacked of parts. A bar lies under its name, so that narrow pages
//! have room for both.

use super::canvas::{Anchor, Canvas, width_of};
use super::scale::{Scale, label};

const ROW: f64 = 46.0;
const THICK: f64 = 16.0;
const SIDE: f64 = 12.0;
/// For the axis below.
const FOOT: f64 = 44.0;
const LEGEND: f64 = 20.0;

/// One bar.
pub(crate) struct Bar {
    pub(crate) name: String,
    /// What stands beside the name.
    pub(crate) note: String,
    /// Parts from the left, or one.
    pub(crate) parts: Vec<f64>,
    /// The interval of the sum.
    pub(crate) interval: Option<(f64, f64)>,
    /// Of a bar with one part.
    pub(crate) series: usize,
}

pub(crate) struct Bars {
    /// What the axis measures, with its unit.
    pub(crate) axis: String,
    /// Names of the parts, if there are several.
    pub(crate) parts: Vec<String>,
    pub(crate) bars: Vec<Bar>,
    /// Whether the axis is logarithmic; bars of many sizes.
    pub(crate) log: bool,
}

impl Bars {
    pub(super) fn draw(&self, width: f64, class: &str, title: &str) -> String {
        let mut canvas = Canvas::new(width);
        let right = width - SIDE;
        let ends = self.bars.iter().flat_map(|bar| {
            let sum = bar.parts.iter().sum();
            [sum, bar.interval.map_or(sum, |(_, high)| high)]
        });
        let scale = match self.log {
            true => Scale::log(ends.chain([1.0])),
            false => Scale::linear(ends),
        };
        let x = |value: f64| SIDE + scale.at(value) * (right - SIDE);
        let top = self.legend(&mut canvas, right);
        let bottom = top + self.bars.len() as f64 * ROW;
        for tick in scale.ticks() {
            canvas.line("grid", (x(tick), top), (x(tick), bottom));
            canvas.text(
                "tick",
                Anchor::Middle,
                (x(tick), bottom + 16.0),
                &label(tick),
            );
        }
        canvas.line("axis", (SIDE, top), (SIDE, bottom));
        let axis = match self.log {
            true => format!("{}, logarithmic", self.axis),
            false => self.axis.clone(),
        };
        canvas.text("unit", Anchor::End, (right, bottom + 34.0), &axis);
        for (number, bar) in self.bars.iter().enumerate() {
            let y = top + number as f64 * ROW;
            self.bar(&mut canvas, bar, y, right, &x);
        }
        canvas.finish(bottom + FOOT, class, title)
    }

    fn bar(&self, canvas: &mut Canvas, bar: &Bar, y: f64, right: f64, x: &dyn Fn(f64) -> f64) {
        canvas.text("name", Anchor::Start, (SIDE + 2.0, y + 16.0), &bar.name);
        canvas.text("note", Anchor::End, (right, y + 16.0), &bar.note);
        let mut sum = 0.0;
        for (number, part) in bar.parts.iter().enumerate() {
            let (from, to) = (x(sum), x(sum + part));
            sum += part;
            let stacked = !self.parts.is_empty();
            let title = match self.parts.get(number) {
                Some(name) => format!("{}, {name}: {}", bar.name, label(*part)),
                None => format!("{}: {}", bar.name, bar.note),
            };
            let series = if stacked { number } else { bar.series };
            // Neighbours are told apart by a gap too.
            let gap = if stacked { 1.0 } else { 0.0 };
            canvas.bar(series, (from, y + 23.0), (to - from - gap, THICK), &title);
            let text = label(*part);
            if stacked && to - from > width_of(&text) + 4.0 {
                let middle = f64::midpoint(from, to);
                canvas.text("inside", Anchor::Middle, (middle, y + 35.0), &text);
            }
        }
        if let Some((low, high)) = bar.interval {
            let middle = y + 23.0 + THICK / 2.0;
            canvas.line("whisker", (x(low), middle), (x(high), middle));
            for end in [low, high] {
                canvas.line("whisker", (x(end), middle - 4.0), (x(end), middle + 4.0));
            }
        }
    }

    /// Names of the parts; gives the height that they take.
    fn legend(&self, canvas: &mut Canvas, right: f64) -> f64 {
        let (mut x, mut y) = (SIDE, 4.0);
        for (number, part) in self.parts.iter().enumerate() {
            let wide = width_of(part) + 26.0;
            if x + wide > right && x > SIDE {
                (x, y) = (SIDE, y + LEGEND);
            }
            canvas.bar(number, (x, y), (12.0, 12.0), part);
            canvas.text("tick", Anchor::Start, (x + 17.0, y + 11.0), part);
            x += wide;
        }
        match self.parts.is_empty() {
            true => 4.0,
            false => y + LEGEND + 4.0,
        }
    }
}
