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
    /// Held locked; the operating system releases it even if the process is killed. `None` if there is no lock file and
    /// none may be made.
    _lock: Option<File>,
    writable: bool,
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

    /// Opens a directory only to read it; nothing in it can be changed then, and nothing is made. No broker can open it
    /// meanwhile.
    ///
    /// # Errors
    /// As [`Directory::open`]; `NotFound` if it is missing.
    pub fn open_to_read(path: impl Into<PathBuf>) -> io::Result<Directory> {
        let path = path.into();
        let handle = File::open(&path)?;
        if !handle.metadata()?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        let lock = match File::open(path.join(LOCK)) {
            Ok(lock) => {
                locked(lock.try_lock_shared(), &path)?;
                Some(lock)
            }
            // No broker has ever used it.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Directory { handle, path, _lock: lock, writable: false })
    }

    fn lock(path: PathBuf) -> io::Result<Directory> {
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join(LOCK))?;
        locked(lock.try_lock(), &path)?;
        Ok(Directory { handle: File::open(&path)?, path, _lock: Some(lock), writable: true })
    }

    fn changes(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(ErrorKind::ReadOnlyFilesystem.into()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Says who has it, if it is not locked.
fn locked(locked: Result<(), TryLockError>, path: &Path) -> io::Result<()> {
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let text = format!("{} is in use by another process; give each broker its own", path.display());
            Err(io::Error::new(ErrorKind::ResourceBusy, text))
        }
        Err(TryLockError::Error(error)) => Err(error),
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
        self.changes()?;
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create_new(true).open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(self.writable).open(self.path.join(name))?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.changes()?;
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
    fn what_is_opened_to_read_cannot_be_changed_and_is_nobody_elses_meanwhile() {
        let path = scratch("read");
        assert_eq!(Directory::open_to_read(&path).expect_err("missing").kind(), ErrorKind::NotFound);
        fs::create_dir(&path).expect("a place for temporary files");
        drop(Directory::open_to_read(&path).expect("empty"));
        assert_eq!(fs::read_dir(&path).expect("ours").count(), 0, "nothing is made");
        let broker = Directory::open(&path).expect("free");
        broker.create("a").expect("space").write(0, b"a").expect("space");
        assert_eq!(Directory::open_to_read(&path).expect_err("in use").kind(), ErrorKind::ResourceBusy);
        drop(broker);
        let disk = Directory::open_to_read(&path).expect("free");
        assert_eq!(Directory::open(&path).expect_err("being read").kind(), ErrorKind::ResourceBusy);
        let file = disk.open("a").expect("there");
        assert_eq!(file.read(0, &mut [0; 9]).expect("readable"), 1);
        assert!(file.write(0, b"b").is_err() && disk.create("b").is_err() && disk.remove("a").is_err());
        fs::remove_dir_all(path).expect("ours");
    }

    #[test]
    fn a_directory_has_one_user() {
        let path = scratch("lock");
        let first = Directory::open(&path).expect("a new directory");
        let error = Directory::open(&path).expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("in use by another process"), "{error}");
        drop(first);
        Directory::open(&path).expect("free again");
        fs::remove_dir_all(path).expect("ours");
    }
}
