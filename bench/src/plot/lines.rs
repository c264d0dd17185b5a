//! Points with lines or steps between them.

use super::canvas::{Anchor, Canvas, width_of};
use super::scale::{Scale, label};

const LEFT: f64 = 50.0;
const RIGHT: f64 = 14.0;
const FOOT: f64 = 44.0;
const LEGEND: f64 = 20.0;
/// Of the part that is drawn in.
const HIGH: f64 = 230.0;

/// One point, with its interval if it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) interval: Option<(f64, f64)>,
}

/// What is between the points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Marks where something was measured, and lines between them.
    Marked,
    /// A line alone: a theory, or many points.
    Line,
    /// Each value holds until the next.
    Steps,
}

pub(crate) struct Series {
    pub(crate) label: String,
    pub(crate) style: Style,
    pub(crate) points: Vec<Point>,
}

pub(crate) struct Axis {
    /// With its unit.
    pub(crate) name: String,
    pub(crate) log: bool,
}

pub(crate) struct Lines {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// Values of y that mean something, with what.
    pub(crate) levels: Vec<(f64, String)>,
    /// Values of x that mean something.
    pub(crate) places: Vec<(f64, String)>,
}

impl Axis {
    pub(crate) fn new(name: &str, log: bool) -> Axis {
        Axis {
            name: name.to_owned(),
            log,
        }
    }

    fn scale(&self, values: impl Iterator<Item = f64>) -> Scale {
        match self.log {
            true => Scale::log(values),
            false => Scale::linear(values),
        }
    }

    fn text(&self) -> String {
        match self.log {
            true => format!("{}, logarithmic", self.name),
            false => self.name.clone(),
        }
    }
}

impl Lines {
    pub(super) fn draw(&self, width: f64, class: &str, title: &str) -> String {
        let mut canvas = Canvas::new(width);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let places = self.places.iter().map(|(x, _)| *x);
        let xs = self.x.scale(points().map(|point| point.x).chain(places));
        let ends = points().flat_map(|point| {
            let (low, high) = point.interval.unwrap_or((point.y, point.y));
            [point.y, low, high]
        });
        let levels = self.levels.iter().map(|(y, _)| *y);
        let ys = self.y.scale(ends.chain(levels));
        let top = self.legend(&mut canvas, width - RIGHT);
        let bottom = top + HIGH;
        let x = |value: f64| LEFT + xs.at(value) * (width - RIGHT - LEFT);
        let y = |value: f64| bottom - ys.at(value) * HIGH;
        for tick in ys.ticks() {
            canvas.line("grid", (LEFT, y(tick)), (width - RIGHT, y(tick)));
            canvas.text(
                "tick",
                Anchor::End,
                (LEFT - 6.0, y(tick) + 4.0),
                &label(tick),
            );
        }
        let mut free = f64::MIN;
        for tick in xs.ticks() {
            canvas.line("grid", (x(tick), bottom), (x(tick), bottom + 4.0));
            let text = label(tick);
            let half = width_of(&text) / 2.0;
            if x(tick) - half > free {
                canvas.text("tick", Anchor::Middle, (x(tick), bottom + 18.0), &text);
                free = x(tick) + half + 6.0;
            }
        }
        canvas.line("axis", (LEFT, top), (LEFT, bottom));
        canvas.line("axis", (LEFT, bottom), (width - RIGHT, bottom));
        let unit = self.x.text();
        canvas.text("unit", Anchor::End, (width - RIGHT, bottom + 36.0), &unit);
        for (value, name) in &self.levels {
            canvas.line("rule", (LEFT, y(*value)), (width - RIGHT, y(*value)));
            canvas.text("unit", Anchor::End, (width - RIGHT, y(*value) - 5.0), name);
        }
        for (row, (value, name)) in self.places.iter().enumerate() {
            canvas.line("rule", (x(*value), top), (x(*value), bottom));
            // On the side that has room.
            let (anchor, aside) = match x(*value) + width_of(name) + 8.0 > width - RIGHT {
                true => (Anchor::End, -5.0),
                false => (Anchor::Start, 5.0),
            };
            let at = (x(*value) + aside, top + 12.0 + row as f64 * 15.0);
            canvas.text("unit", anchor, at, name);
        }
        for (number, series) in self.series.iter().enumerate() {
            self.series(&mut canvas, number, series, &x, &y);
        }
        canvas.finish(bottom + FOOT, class, title)
    }

    fn series(
        &self,
        canvas: &mut Canvas,
        number: usize,
        series: &Series,
        x: &dyn Fn(f64) -> f64,
        y: &dyn Fn(f64) -> f64,
    ) {
        let mut path = Vec::new();
        let mut level = None;
        for point in &series.points {
            if let (Style::Steps, Some(level)) = (series.style, level) {
                path.push((x(point.x), level));
            }
            path.push((x(point.x), y(point.y)));
            level = Some(y(point.y));
        }
        canvas.path(number, &path);
        for point in &series.points {
            if let Some((low, high)) = point.interval {
                canvas.line("whisker", (x(point.x), y(low)), (x(point.x), y(high)));
            }
        }
        if series.style != Style::Marked {
            return;
        }
        for point in &series.points {
            let interval = point.interval.map_or(String::new(), |(low, high)| {
                format!(" ({} to {})", label(low), label(high))
            });
            let title = format!(
                "{}: {} at {}{interval}",
                series.label,
                label(point.y),
                label(point.x)
            );
            canvas.mark(number, (x(point.x), y(point.y)), &title);
        }
    }

    /// Names of the series and, below them, of the y axis; gives the height that they take.
    fn legend(&self, canvas: &mut Canvas, right: f64) -> f64 {
        let (mut x, mut y) = (4.0, 6.0);
        for (number, series) in self.series.iter().enumerate() {
            let wide = width_of(&series.label) + 42.0;
            if x + wide > right && x > 4.0 {
                (x, y) = (4.0, y + LEGEND);
            }
            canvas.path(number, &[(x, y + 6.0), (x + 24.0, y + 6.0)]);
            if series.style == Style::Marked {
                canvas.mark(number, (x + 12.0, y + 6.0), &series.label);
            }
            canvas.text("tick", Anchor::Start, (x + 29.0, y + 10.0), &series.label);
            x += wide;
        }
        canvas.text(
            "unit",
            Anchor::Start,
            (4.0, y + LEGEND + 14.0),
            &self.y.text(),
        );
        y + 2.0 * LEGEND + 6.0
    }
}
