//! What is forgotten: records that are old, and unfinished transfers beyond a number.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{DiskStorage, Record, part_path};
use crate::store::files::unhex;
use crate::transfer::TransferId;

/// Unfinished transfers on the disk.
pub(super) const UNFINISHED_MAX: usize = 256;
/// What is finished or silent so long is forgotten: thirty days.
pub(in crate::store) const KEPT: Duration = Duration::from_secs(30 * 86_400);

impl DiskStorage {
    /// Forgets what is finished, or has been silent, for too long, and counts what is not.
    pub(super) fn prune(&mut self, now: SystemTime) {
        self.pruned = Some(now);
        self.unfinished.clear();
        let entries = fs::read_dir(&self.records).into_iter().flatten();
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(transfer) = name.and_then(unhex) else {
                continue;
            };
            let touched = |path: &Path| fs::metadata(path).ok()?.modified().ok();
            let log = self.log_path(&transfer);
            let touched = touched(&log).max(touched(&entry.path()));
            let age = touched.and_then(|touched| now.duration_since(touched).ok());
            let record = self.saved(&transfer).ok().flatten();
            if age.is_some_and(|age| age > KEPT) && !self.open.contains_key(&transfer) {
                self.remove(&transfer, record.as_ref());
            } else if record.is_some_and(|record| !record.done) {
                let bytes = fs::metadata(&log).map_or(0, |found| found.len());
                self.unfinished.insert(transfer, bytes);
            }
        }
    }

    /// Removes record and log, and the part file of what is not finished.
    pub(super) fn remove(&mut self, transfer: &TransferId, record: Option<&Record>) {
        // What can't be removed now is tried again at the next pruning.
        if let Some(record) = record.filter(|record| !record.done) {
            let _ = fs::remove_file(part_path(&record.out, transfer));
        }
        let _ = fs::remove_file(self.log_path(transfer));
        let _ = fs::remove_file(self.record_path(transfer));
        self.unfinished.remove(transfer);
    }

    /// Makes room among the unfinished transfers: the one with the fewest chunks goes, so that manifests with a chunk
    /// each push out each other.
    pub(super) fn keep_quota(&mut self) {
        while self.unfinished.len() >= UNFINISHED_MAX {
            let idle = self.unfinished.iter();
            let idle = idle.filter(|(transfer, _)| !self.open.contains_key(*transfer));
            let fewest = idle.min_by_key(|(transfer, bytes)| (**bytes, **transfer));
            let Some(transfer) = fewest.map(|(transfer, _)| *transfer) else {
                return;
            };
            let record = self.saved(&transfer).ok().flatten();
            self.remove(&transfer, record.as_ref());
        }
    }
}
