//! What the page is made of, as HTML. Nothing is fetched and nothing runs: style and drawings are inside.

use std::fmt::Write;

use crate::plot::{Chart, escaped};

/// Rows under names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str], rows: Vec<Vec<String>>) -> Table {
        Table {
            head: head.iter().map(|name| (*name).to_owned()).collect(),
            rows,
        }
    }

    fn html(&self, out: &mut String) {
        out.push_str("<div class=\"wide-table\"><table><thead><tr>");
        for name in &self.head {
            let _ = write!(out, "<th>{}</th>", escaped(name));
        }
        out.push_str("</tr></thead><tbody>");
        for row in &self.rows {
            out.push_str("<tr>");
            for value in row {
                let _ = write!(out, "<td>{}</td>", escaped(value));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>\n");
    }
}

/// How to come by a figure's numbers.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) command: String,
    pub(super) file: String,
}

impl Source {
    fn html(&self, out: &mut String) {
        let file = escaped(&self.file);
        let _ = writeln!(
            out,
            "<p class=\"how\"><code>{}</code> · <a href=\"{file}\">{file}</a></p>",
            escaped(&self.command)
        );
    }
}

/// A drawing with all that belongs to it.
pub(super) struct Figure {
    /// What it shows, as a conclusion.
    pub(super) title: String,
    pub(super) chart: Chart,
    /// What one reads off it.
    pub(super) reading: String,
    pub(super) table: Table,
    pub(super) source: Source,
}

impl Figure {
    fn html(&self, out: &mut String) {
        let _ = writeln!(out, "<figure><h3>{}</h3>", escaped(&self.title));
        out.push_str(&self.chart.svg(&self.title));
        let _ = writeln!(out, "\n<figcaption>{}</figcaption>", escaped(&self.reading));
        self.source.html(out);
        out.push_str("<details><summary>The numbers</summary>");
        self.table.html(out);
        out.push_str("</details></figure>\n");
    }
}

/// A number in large type.
pub(super) struct Card {
    pub(super) asks: String,
    pub(super) says: Option<String>,
    pub(super) more: String,
}

/// Part of the page.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) text: Vec<String>,
    pub(super) figures: Vec<Figure>,
    /// A table that is shown at once.
    pub(super) table: Option<Table>,
}

impl Section {
    fn id(&self) -> String {
        let letters = self.title.to_lowercase();
        let letters = letters
            .chars()
            .map(|letter| match letter.is_alphanumeric() {
                true => letter,
                false => '-',
            });
        letters.collect()
    }

    fn html(&self, out: &mut String) {
        let _ = writeln!(out, "<h2 id=\"{}\">{}</h2>", self.id(), self.title);
        for text in &self.text {
            let _ = writeln!(out, "<p>{}</p>", escaped(text));
        }
        if !self.figures.is_empty() {
            out.push_str("<div class=\"figures\">\n");
            self.figures.iter().for_each(|figure| figure.html(out));
            out.push_str("</div>\n");
        }
        if let Some(table) = &self.table {
            table.html(out);
        }
    }
}

/// All of it.
pub(super) struct Page {
    /// Name and value, of machine and run.
    pub(super) facts: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
    pub(super) cards: Vec<Card>,
    pub(super) sections: Vec<Section>,
}

impl Page {
    pub(super) fn html(&self) -> String {
        let mut out = String::from(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>Fogmix, measured</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n",
        );
        out.push_str(include_str!("page.css"));
        out.push_str("</style></head>\n<body><main>\n<h1>Fogmix, measured</h1>\n");
        out.push_str(
            "<p class=\"lead\">What a part, a node and a network of it cost and carry, and what a watcher learns. \
             Every figure has its spread, its command and its raw data.</p>\n<nav>",
        );
        for section in &self.sections {
            let _ = write!(out, "<a href=\"#{}\">{}</a>", section.id(), section.title);
        }
        out.push_str("</nav>\n<dl>");
        for (name, value) in &self.facts {
            let (name, value) = (escaped(name), escaped(value));
            let _ = writeln!(out, "<dt>{name}</dt><dd>{value}</dd>");
        }
        out.push_str("</dl>\n");
        if !self.warnings.is_empty() {
            out.push_str("<ul class=\"warnings\">\n");
            for warning in &self.warnings {
                let _ = writeln!(out, "<li>{}</li>", escaped(warning));
            }
            out.push_str("</ul>\n");
        }
        out.push_str("<div class=\"cards\">\n");
        for card in &self.cards {
            let (class, says) = match &card.says {
                Some(says) => ("says", says.as_str()),
                None => ("says none", "not measured"),
            };
            let _ = writeln!(
                out,
                "<div class=\"card\"><div class=\"asks\">{}</div><div class=\"{class}\">{}</div><div class=\"more\">{}</div></div>",
                escaped(&card.asks),
                escaped(says),
                escaped(&card.more)
            );
        }
        out.push_str("</div>\n");
        self.sections
            .iter()
            .for_each(|section| section.html(&mut out));
        out.push_str("</main></body></html>\n");
        out
    }
}
