//! Words and drawings, written by a thread of its own: a terminal that was stopped (Ctrl-S), or a pipe that nobody reads,
//! holds that thread up and not the lab, whose documents are due every epoch.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What waits to be written; of more, the oldest is never seen.
const WAITING_MAX: usize = 1_000;

#[derive(Debug)]
enum Text {
    /// Stays.
    Said(String),
    /// Makes room for what comes after it.
    Drawn(String),
}

#[derive(Debug, Default)]
struct Waiting {
    texts: VecDeque<Text>,
    is_over: bool,
}

type Queue = Arc<(Mutex<Waiting>, Condvar)>;

/// How long what is left at the end may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Writes in the order of what it is given. Dropped, it waits until all of that is written, for five seconds at most.
#[derive(Debug)]
pub struct Printer {
    queue: Queue,
    thread: Option<JoinHandle<()>>,
}

impl Printer {
    /// Writes to `out`.
    pub fn new(mut out: impl Write + Send + 'static) -> Self {
        let queue = Queue::default();
        let own = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let mut drawn_lines = 0;
            while let Some(texts) = next(&own) {
                let mut bytes = String::new();
                for text in texts {
                    if drawn_lines > 0 {
                        let _ = write!(bytes, "\x1b[{drawn_lines}A\x1b[J");
                    }
                    let (text, lines) = match text {
                        Text::Said(text) => (text, 0),
                        Text::Drawn(text) => {
                            let lines = text.lines().count();
                            (text, lines)
                        }
                    };
                    bytes.push_str(&text);
                    drawn_lines = lines;
                }
                // A closed pipe ends the lab's words, not the lab.
                let _ = out.write_all(bytes.as_bytes()).and_then(|()| out.flush());
            }
        });
        Self {
            queue,
            thread: Some(thread),
        }
    }

    /// Writes lines that stay; the drawing, if any, is gone.
    pub fn say(&self, text: String) {
        self.give(|texts| texts.push_back(Text::Said(text)));
    }

    /// Draws over the last drawing; one that is not written yet is never seen.
    pub fn draw(&self, text: String) {
        self.give(|texts| {
            if matches!(texts.back(), Some(Text::Drawn(_))) {
                texts.pop_back();
            }
            texts.push_back(Text::Drawn(text));
        });
    }

    fn give(&self, give: impl FnOnce(&mut VecDeque<Text>)) {
        let (waiting, is_news) = &*self.queue;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        give(&mut waiting.texts);
        while waiting.texts.len() > WAITING_MAX {
            waiting.texts.pop_front();
        }
        drop(waiting);
        is_news.notify_one();
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        let (waiting, is_news) = &*self.queue;
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_over = true;
        is_news.notify_one();
        // A terminal that is stopped takes nothing, and nobody is kept from ending by it.
        let until = Instant::now() + LAST_WORDS;
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// What is to be written next; `None` when all is.
fn next(queue: &Queue) -> Option<VecDeque<Text>> {
    let (waiting, is_news) = &**queue;
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let mut waiting = is_news
        .wait_while(waiting, |waiting| {
            waiting.texts.is_empty() && !waiting.is_over
        })
        .unwrap_or_else(PoisonError::into_inner);
    let texts = std::mem::take(&mut waiting.texts);
    (!texts.is_empty()).then_some(texts)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A terminal that shows nothing before it is let go on.
    struct Stopped {
        go_on: Receiver<()>,
        begun: SyncSender<()>,
        shown: Arc<Mutex<String>>,
    }

    impl Write for Stopped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.begun.try_send(());
            // Whoever has let it go on is gone: it stays so.
            let _ = self.go_on.recv();
            let text = std::str::from_utf8(bytes).unwrap();
            self.shown.lock().unwrap().push_str(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A printer that is held up over its first word: it, what lets the terminal go on once dropped, and what that shows.
    fn stopped() -> (Printer, SyncSender<()>, Arc<Mutex<String>>) {
        let shown = Arc::new(Mutex::new(String::new()));
        let (go_on, wait) = sync_channel(0);
        let (begun, first) = sync_channel(1);
        let terminal = Stopped {
            go_on: wait,
            begun,
            shown: Arc::clone(&shown),
        };
        let printer = Printer::new(terminal);
        printer.say("up\n".to_owned());
        first.recv_timeout(Duration::from_secs(60)).unwrap();
        (printer, go_on, shown)
    }

    #[test]
    fn a_stopped_terminal_holds_nobody_up_and_shows_the_newest_when_it_goes_on() {
        let (printer, go_on, shown) = stopped();
        // From here on the thread waits. Had these to wait too, the channel would never be let go.
        for number in 0..WAITING_MAX + 5 {
            printer.draw(format!("{number}\n{number}\n"));
        }
        printer.say("node 3 is gone\n".to_owned());
        printer.draw("table\n".to_owned());
        drop(go_on);
        drop(printer);
        let last = WAITING_MAX + 4;
        assert_eq!(
            *shown.lock().unwrap(),
            format!("up\n{last}\n{last}\n\x1b[2A\x1b[Jnode 3 is gone\ntable\n")
        );
    }

    #[test]
    fn of_what_a_terminal_never_shows_the_oldest_is_given_up() {
        let (printer, go_on, shown) = stopped();
        for number in 0..WAITING_MAX + 5 {
            // What is drawn between counts too.
            printer.draw("table\n".to_owned());
            printer.say(format!("{number}\n"));
        }
        drop(go_on);
        drop(printer);
        let shown = shown.lock().unwrap();
        let said = |line: &&str| {
            line.trim_start_matches("\x1b[1A\x1b[J")
                .parse::<usize>()
                .is_ok()
        };
        assert_eq!(
            shown.lines().filter(said).count(),
            WAITING_MAX / 2,
            "{shown:.90}"
        );
        assert!(shown.ends_with(&format!("{}\n", WAITING_MAX + 4)));
    }
}
