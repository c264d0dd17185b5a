//! What goes wrong at a recipient: told once, tried again ever later.

use std::io;

use crate::transfer::Manifest;

const PAUSE_MIN_NS: u64 = 1_000_000_000;
const PAUSE_MAX_NS: u64 = 60_000_000_000;

/// Something that fails, and when to try it again.
pub(super) struct Trouble {
    text: String,
    pause_ns: u64,
    until_ns: u64,
}

impl Trouble {
    /// Whether it is time to try again.
    pub(super) fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.until_ns
    }

    /// It failed, perhaps again: waits twice as long. What to tell, if that is news.
    pub(super) fn strike(
        trouble: &mut Option<Self>,
        error: &io::Error,
        now_ns: u64,
    ) -> Option<String> {
        let text = error.to_string();
        let before = trouble.as_ref().filter(|before| before.text == text);
        let pause_ns = before.map_or(PAUSE_MIN_NS, |before| {
            (2 * before.pause_ns).min(PAUSE_MAX_NS)
        });
        let news = before.is_none().then(|| text.clone());
        *trouble = Some(Self {
            text,
            pause_ns,
            until_ns: now_ns.saturating_add(pause_ns),
        });
        news
    }

    /// A step for a file was tried. What to tell, if its outcome is news.
    pub(super) fn follow<T>(
        trouble: &mut Option<Self>,
        tried: &io::Result<T>,
        manifest: &Manifest,
        now_ns: u64,
    ) -> Option<String> {
        match tried {
            Ok(_) => trouble.take().map(|_| {
                let name = program::visible(&manifest.name);
                format!("\"{name}\": it can be stored again, going on")
            }),
            Err(error) => Self::strike(trouble, error, now_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_and_tried_ever_later() {
        let mut trouble = None;
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let mut now_ns = 5;
        let mut waits = Vec::new();
        let mut told = 0;
        for _ in 0..9 {
            told += Trouble::strike(&mut trouble, &full, now_ns).iter().count();
            let until_ns = trouble.as_ref().map_or(0, |trouble| trouble.until_ns);
            waits.push((until_ns - now_ns) / 1_000_000_000);
            now_ns = until_ns;
        }
        assert_eq!(told, 1);
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let gone = io::Error::from(io::ErrorKind::NotFound);
        assert!(Trouble::strike(&mut trouble, &gone, now_ns).is_some());
    }
}
