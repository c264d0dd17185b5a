//! Charts as SVG, drawn by hand: axes, bars, lines, steps. Each is drawn twice, for wide and for narrow pages, and says its
//! numbers again in a table.

mod bars;
mod canvas;
mod lines;
mod scale;

pub(crate) use bars::{Bar, Bars};
pub(crate) use canvas::escaped;
pub(crate) use lines::{Axis, Lines, Point, Series, Style};
pub(crate) use scale::label;

const WIDE: f64 = 560.0;
const NARROW: f64 = 340.0;

pub(crate) enum Chart {
    Bars(Bars),
    Lines(Lines),
}

impl Chart {
    /// For wide pages and for narrow ones; the page shows one of them.
    pub(crate) fn svg(&self, title: &str) -> String {
        let one = |width, class| match self {
            Chart::Bars(bars) => bars.draw(width, class, title),
            Chart::Lines(lines) => lines.draw(width, class, title),
        };
        format!("{}{}", one(WIDE, "wide"), one(NARROW, "narrow"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All values of an attribute.
    fn numbers<'a>(svg: &'a str, attribute: &'a str) -> impl Iterator<Item = f64> + 'a {
        let parts = svg.split(attribute).skip(1);
        parts.map(|part| part.split('"').next().unwrap().parse().unwrap())
    }

    fn lines(log: bool, style: Style) -> Lines {
        let point = |x: f64, y: f64| Point {
            x,
            y,
            interval: Some((y / 2.0, y * 2.0)),
        };
        let series = |label: &str| Series {
            label: label.into(),
            style,
            points: vec![point(1.0, 30.0), point(10.0, 3_000.0), point(100.0, 90.0)],
        };
        Lines {
            x: Axis::new("packets a second", log),
            y: Axis::new("µs <added>", log),
            series: ["one & only", "a second series with a long name"]
                .map(series)
                .into(),
            levels: vec![(1_000.0, "a millisecond".into())],
            places: vec![(99.0, "what a core sustains".into())],
        }
    }

    #[test]
    fn whatever_is_drawn_lies_within_the_drawing() {
        for log in [false, true] {
            for style in [Style::Marked, Style::Line, Style::Steps] {
                for width in [WIDE, NARROW] {
                    let svg = lines(log, style).draw(width, "wide", "title");
                    let xs = numbers(&svg, " x=\"").chain(numbers(&svg, " x2=\""));
                    for x in xs.chain(numbers(&svg, " cx=\"")) {
                        assert!((0.0..=width).contains(&x), "{x}");
                    }
                }
            }
        }
    }

    #[test]
    fn text_is_escaped_and_a_logarithmic_axis_says_so() {
        let svg = Chart::Lines(lines(true, Style::Marked)).svg("a < b");
        assert!(svg.contains("one &amp; only") && svg.contains("aria-label=\"a &lt; b\""));
        assert!(svg.contains("µs &lt;added&gt;, logarithmic"));
        assert!(!svg.contains("<added>"));
        assert_eq!(svg.matches("<svg").count(), 2);
    }

    #[test]
    fn a_bar_is_as_long_as_its_value_and_parts_lie_end_to_end() {
        let bar = |parts: &[f64]| Bar {
            name: "xsk".into(),
            note: "8.8 µs".into(),
            parts: parts.to_vec(),
            interval: None,
            series: 0,
        };
        let bars = |names: &[&str], bars| Bars {
            axis: "ns".into(),
            parts: names.iter().map(|name| (*name).to_owned()).collect(),
            bars,
            log: false,
        };
        let one = bars(&[], vec![bar(&[50.0]), bar(&[100.0])]).draw(WIDE, "wide", "t");
        let widths: Vec<f64> = numbers(&one, " width=\"").collect();
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.01, "{widths:?}");
        let two = bars(&["port", "link"], vec![bar(&[30.0, 70.0])]).draw(WIDE, "wide", "t");
        let xs: Vec<f64> = numbers(&two, "rect class=\"f1\" x=\"").collect();
        // The last is the bar's, after the legend's.
        let all = WIDE - 24.0;
        assert!(
            (xs.last().unwrap() - (12.0 + 0.3 * all)).abs() < 0.2,
            "{xs:?}"
        );
    }

    #[test]
    fn a_step_holds_its_value_until_the_next() {
        let mut chart = lines(false, Style::Steps);
        chart.series.truncate(1);
        let svg = chart.draw(WIDE, "wide", "t");
        let path = svg.rsplit("points=\"").next().unwrap();
        let path = path.split('"').next().unwrap();
        let places: Vec<(f64, f64)> = path
            .split(' ')
            .map(|place| {
                let (x, y) = place.split_once(',').unwrap();
                (x.parse().unwrap(), y.parse().unwrap())
            })
            .collect();
        assert_eq!(places.len(), 5);
        assert!(
            places
                .windows(2)
                .all(|pair| pair[0].0 == pair[1].0 || pair[0].1 == pair[1].1)
        );
    }
}
