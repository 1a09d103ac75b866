//! A directory of the real file system.

use super::{Disk, DiskFile};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that says who uses the directory.
const LOCK: &str = "lock";

/// A directory that is locked against other processes for as long as this value lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// For syncing names.
    handle: File,
    /// Held locked; the operating system releases it even if the process is killed.
    _lock: File,
}

impl Directory {
    /// Opens a directory and locks it; creates it if it is missing.
    ///
    /// # Errors
    /// `ResourceBusy` if another process has it open, and what the file system says.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Directory> {
        let path = path.into();
        if !path.is_dir() {
            fs::create_dir_all(&path)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        Directory::lock(path)
    }

    /// Opens a directory that is there, and locks it.
    ///
    /// # Errors
    /// As [`Directory::open`]; `NotFound` if it is missing.
    pub fn open_existing(path: impl Into<PathBuf>) -> io::Result<Directory> {
        let path = path.into();
        fs::metadata(&path)?;
        Directory::lock(path)
    }

    fn lock(path: PathBuf) -> io::Result<Directory> {
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("{} is in use by another process; give each broker its own", path.display());
                return Err(io::Error::new(ErrorKind::ResourceBusy, text));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Directory { handle: File::open(&path)?, path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name != LOCK && entry.file_type()?.is_file() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create_new(true).open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path.join(name))?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn free(&self) -> io::Result<u64> {
        let space = rustix::fs::fstatvfs(&self.handle)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

impl DiskFile for File {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("leveret-directory-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn files_come_back_as_they_were_written() {
        let path = scratch("files");
        let disk = Directory::open(&path).expect("a new directory");
        let file = disk.create("a").expect("a new file");
        file.write(3, b"defg").expect("space");
        file.sync().expect("a healthy disk");
        let mut buffer = [9; 9];
        assert_eq!(disk.open("a").expect("created").read(1, &mut buffer).expect("readable"), 6);
        assert_eq!(&buffer, b"\0\0defg\x09\x09\x09");
        assert_eq!(disk.create("a").expect_err("taken").kind(), ErrorKind::AlreadyExists);
        assert_eq!(disk.list().expect("readable"), ["a"]);
        disk.remove("a").expect("there");
        assert_eq!((file.len().expect("still open"), disk.list().expect("readable").len()), (7, 0));
        disk.sync().expect("a healthy disk");
        assert!(disk.free().expect("a file system") > 0);
        fs::remove_dir_all(path).expect("ours");
    }

    #[test]
    fn a_directory_has_one_user() {
        let path = scratch("lock");
        assert_eq!(Directory::open_existing(&path).expect_err("missing").kind(), ErrorKind::NotFound);
        let first = Directory::open(&path).expect("a new directory");
        let error = Directory::open(&path).expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("in use by another process"), "{error}");
        drop(first);
        Directory::open(&path).expect("free again");
        fs::remove_dir_all(path).expect("ours");
    }
}
