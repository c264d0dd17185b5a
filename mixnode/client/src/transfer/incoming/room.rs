//! Which file makes room for another.

use super::{FILES_OPEN_MAX, FILES_OVER_MAX, File, Incoming, OpenFile};
use crate::transfer::TransferId;

impl OpenFile {
    /// Whether all is here and on its way to its place, a way that begins anew when a step fails.
    fn is_finishing(&self) -> bool {
        self.chunks.is_full() && self.trouble.is_none()
    }
}

impl Incoming {
    /// Makes room among the files of one kind; whether there is any.
    pub(super) fn make_room(&mut self) -> bool {
        let is_over = |file: &File| !matches!(file, File::Open(_));
        let mut over = self.files.iter().filter(|(_, file)| is_over(file));
        if let Some(transfer) = over.nth(FILES_OVER_MAX).map(|(transfer, _)| *transfer) {
            self.files.remove(&transfer);
        }
        // One that is finishing is silent by nature, and would begin to finish anew.
        let silent = |(transfer, file): (&TransferId, &File)| match file {
            File::Open(open) => Some((open.is_finishing(), open.heard_ns, *transfer)),
            File::Complete | File::Refused => None,
        };
        let open = self.files.iter().filter_map(silent);
        if open.clone().count() < FILES_OPEN_MAX {
            return true;
        }
        let Some((false, _, transfer)) = open.min() else {
            return false;
        };
        self.storage.close(&transfer);
        self.files.remove(&transfer);
        true
    }
}
