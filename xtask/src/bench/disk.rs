//! What the disk does without any server: the measure for everything that waits for it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Large enough that a device's own cache isn't all that is measured, small enough to be written at once.
const FILE: u64 = 32 << 20;
/// What is overwritten before each flush: a page, the least that a log writes.
const PAGE: u64 = 4096;
/// As long as a run's noise needs to even out.
const MEASURED: Duration = Duration::from_millis(500);

/// How long it takes to overwrite a page that was written before and to flush it (pwrite and fdatasync), in
/// microseconds: each attempt, in a file in `directory`.
///
/// # Errors
/// When the file can't be written.
pub fn overwriting_syncs(directory: &Path) -> Result<Vec<f64>> {
    let path = directory.join("overwritten");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let mut file = open.with_context(|| format!("cannot write {}", path.display()))?;
    if file.metadata()?.len() < FILE {
        // Not set_len: blocks that were never written cost more at their first flush.
        for _ in 0..FILE >> 20 {
            file.write_all(&vec![0xA5; 1 << 20])?;
        }
        file.sync_all()?;
    }
    let page = [0x5A; PAGE as usize];
    let mut micros = Vec::new();
    let (start, mut at) = (Instant::now(), 0);
    while start.elapsed() < MEASURED {
        let before = Instant::now();
        file.write_all_at(&page, at)?;
        file.sync_data()?;
        micros.push(before.elapsed().as_secs_f64() * 1e6);
        at = (at + PAGE) % FILE;
    }
    // The file stays until the directory goes: a removal would be felt by what is measured next.
    Ok(micros)
}

/// What has been written to a disk until now.
#[derive(Clone, Copy)]
pub struct Written {
    accounted: u64,
    device: Option<u64>,
}

impl Written {
    /// `accounted` is what the kernel says processes have had written to the disk that holds `directory`.
    pub fn now(accounted: u64, directory: &Path) -> Self {
        Self { accounted, device: device_bytes(directory) }
    }

    /// The bytes that those processes have written since `before`, at most. The kernel accounts a write of one page as
    /// the whole folio that the page is in, which may be a mebibyte; the device counts what it was given, but by
    /// everybody. The truth is below both.
    pub fn since(self, before: Self) -> u64 {
        let accounted = self.accounted.saturating_sub(before.accounted);
        let device = self.device.zip(before.device).map(|(now, before)| now.saturating_sub(before));
        device.map_or(accounted, |device| device.min(accounted))
    }
}

/// Bytes that the block device below `directory` was given since the machine's start. `None` if there is no such
/// device, as in memory or over a network.
fn device_bytes(directory: &Path) -> Option<u64> {
    let device = fs::metadata(directory).ok()?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    // The seventh number counts sectors of 512 bytes, whatever the device's own are.
    Some(stat.split_whitespace().nth(6)?.parse::<u64>().ok()? * 512)
}

/// Has the kernel forget what it has cached of files, so that the next reader has to read the disk. Says whether it
/// did: only root may.
pub fn drop_caches() -> bool {
    // Only what is clean can be forgotten.
    let synced = Command::new("sync").status().is_ok_and(|status| status.success());
    synced && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Bytes that the files of a directory and of those in it take on the disk.
///
/// # Errors
/// When they can't be looked at.
pub fn used(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // One that is removed at this moment takes nothing.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { used(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
