//! Shapes of one drawing. Colours are classes, which the page gives a meaning in light and in dark.

use std::fmt::Write;

/// How series differ besides their colour.
const DASHES: [&str; 6] = ["", "6 3", "2 2", "8 3 2 3", "10 4", "1 3"];
/// Mean width of a letter at the size of the labels.
pub(super) const LETTER: f64 = 6.6;

/// Where text is held.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

pub(super) struct Canvas {
    body: String,
    width: f64,
}

/// Text that may stand between tags and within quotes.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// To a tenth of a unit, and no zeros.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

impl Canvas {
    pub(super) fn new(width: f64) -> Canvas {
        Canvas {
            body: String::new(),
            width,
        }
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = write!(
            self.body,
            r#"<line class="{class}" x1="{}" y1="{}" x2="{}" y2="{}"/>"#,
            short(from.0),
            short(from.1),
            short(to.0),
            short(to.1)
        );
    }

    /// A filled box that says what it is when it is pointed at.
    pub(super) fn bar(&mut self, series: usize, at: (f64, f64), size: (f64, f64), title: &str) {
        let _ = write!(
            self.body,
            r#"<rect class="f{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>"#,
            series % 6,
            short(at.0),
            short(at.1),
            short(size.0.max(0.5)),
            short(size.1),
            escaped(title)
        );
    }

    pub(super) fn text(&mut self, class: &str, anchor: Anchor, at: (f64, f64), text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let _ = write!(
            self.body,
            r#"<text class="{class}" x="{}" y="{}"{anchor}>{}</text>"#,
            short(at.0),
            short(at.1),
            escaped(text)
        );
    }

    pub(super) fn path(&mut self, series: usize, points: &[(f64, f64)]) {
        if points.is_empty() {
            return;
        }
        let places = points
            .iter()
            .map(|(x, y)| format!("{},{}", short(*x), short(*y)));
        let dash = match DASHES[series % 6] {
            "" => String::new(),
            dash => format!(r#" stroke-dasharray="{dash}""#),
        };
        let _ = write!(
            self.body,
            r#"<polyline class="s{}"{dash} points="{}"/>"#,
            series % 6,
            places.collect::<Vec<_>>().join(" ")
        );
    }

    /// A mark of a series' own shape.
    pub(super) fn mark(&mut self, series: usize, (x, y): (f64, f64), title: &str) {
        let shape = match series % 6 {
            0 => format!(r#"circle cx="{}" cy="{}" r="4""#, short(x), short(y)),
            1 => format!(
                r#"rect x="{}" y="{}" width="7" height="7""#,
                short(x - 3.5),
                short(y - 3.5)
            ),
            other => {
                let corners: &[(f64, f64)] = match other {
                    2 => &[(0.0, -4.5), (4.5, 3.5), (-4.5, 3.5)],
                    3 => &[(0.0, -5.0), (5.0, 0.0), (0.0, 5.0), (-5.0, 0.0)],
                    4 => &[(0.0, 4.5), (4.5, -3.5), (-4.5, -3.5)],
                    _ => &[(-2.0, -5.0), (2.0, -5.0), (2.0, 5.0), (-2.0, 5.0)],
                };
                let corners = corners.iter();
                let places = corners.map(|(dx, dy)| format!("{},{}", short(x + dx), short(y + dy)));
                let places: Vec<String> = places.collect();
                format!(r#"polygon points="{}""#, places.join(" "))
            }
        };
        let name = shape.split(' ').next().unwrap_or_default();
        let _ = write!(
            self.body,
            r#"<{shape} class="f{}"><title>{}</title></{name}>"#,
            series % 6,
            escaped(title)
        );
    }

    /// The drawing, which says what it shows to who can't see it.
    pub(super) fn finish(self, height: f64, class: &str, label: &str) -> String {
        format!(
            r#"<svg class="{class}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>"#,
            short(self.width),
            short(height),
            escaped(label),
            self.body
        )
    }
}

/// About how wide a text is.
pub(super) fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}
