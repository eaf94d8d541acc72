//! Files of saved keys on disk: made so that nobody else can read them, whole and safe before anything is deleted.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use etcd_sync_core::etcd::kv::KeyValue;
use etcd_sync_operations::saved::{self, Decoder, Encoder, Head, Said};

/// Only the owner may read values.
const MODE: u32 = 0o600;

/// A longer line holds no key: etcd takes values of 1.5 MiB, and base64 makes them a third longer.
const LINE_MAX: u64 = 16 << 20;

/// A file being written. It is removed again unless it was finished, or is [`Saving::kept`].
#[derive(Debug)]
pub struct Saving {
    /// `None`: it is stdout.
    path: Option<PathBuf>,
    file: BufWriter<File>,
    encoder: Encoder,
    finished: bool,
    kept: bool,
}

impl Saving {
    /// Makes the file; it must not exist.
    pub fn create(path: &Path, head: &Head) -> Result<Saving> {
        let failed = || format!("cannot make the file {} (--backup FILE): nothing was deleted", path.display());
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path).with_context(failed)?;
        Saving::begin(Some(path.to_owned()), file, head)
    }

    /// Writes to stdout, where nothing may come between the lines. Whether they reach a disk nobody knows here.
    pub fn to_stdout(head: &Head) -> Result<Saving> {
        let stdout = std::io::stdout().as_fd().try_clone_to_owned().context("cannot write to stdout")?;
        Saving::begin(None, File::from(stdout), head)
    }

    fn begin(path: Option<PathBuf>, file: File, head: &Head) -> Result<Saving> {
        let (encoder, line) = Encoder::begin(head);
        let mut saving = Saving { path, file: BufWriter::new(file), encoder, finished: false, kept: false };
        saving.write(&line)?;
        Ok(saving)
    }

    /// From now on it stays, whatever happens: its values may be nowhere else any more.
    pub fn kept(mut self) -> Saving {
        self.kept = true;
        self
    }

    /// Saves a key.
    pub fn add(&mut self, kv: &KeyValue) -> Result<()> {
        let line = self.encoder.key(kv);
        self.write(&line)
    }

    /// Waits until what was saved so far is on the disk.
    pub fn sync(&mut self) -> Result<()> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        synced.with_context(|| self.failed())
    }

    /// Ends the file, and waits until file and name are on the disk.
    pub fn finish(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let line = self.encoder.clone().end();
        self.write(&line)?;
        self.file.flush().with_context(|| self.failed())?;
        if let Some(path) = &self.path {
            self.file.get_ref().sync_all().with_context(|| self.failed())?;
            let folder = match path.parent() {
                Some(folder) if folder != Path::new("") => folder,
                _ => Path::new("."),
            };
            File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| self.failed())?;
        }
        self.finished = true;
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> Result<()> {
        self.file.write_all(line).with_context(|| self.failed())
    }

    fn failed(&self) -> String {
        match (&self.path, self.kept) {
            (None, _) => "cannot write the saved values to stdout: nothing was deleted".to_owned(),
            (Some(path), true) => format!("cannot write the file {}: make room there", path.display()),
            (Some(path), false) => {
                format!("cannot write the file {} (--backup FILE): nothing was deleted", path.display())
            }
        }
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if self.kept {
            // Without its end it says that it is cut off, and is read as far as it goes by whoever must.
            let _ = self.end();
        } else if let Some(path) = &self.path {
            // It holds nothing that is not in the cluster still.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Where a file keeps one of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    start: u64,
    length: u64,
}

/// A whole file, proved to be unchanged since it was written.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    file: File,
}

impl Saved {
    /// Decrypts a file and reads it to its end; `each` is given every key with its place. Nothing may be done with them
    /// before this has returned: only the end of the file proves the rest.
    pub async fn open(path: &Path, mut each: impl AsyncFnMut(KeyValue, Place)) -> Result<(Saved, Head)> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mode = file.metadata().map(|data| data.permissions().mode()).unwrap_or(MODE);
        if mode & 0o077 != 0 {
            let mode = format!("{:04o}", mode & 0o7777);
            tracing::warn!(file = %path.display(), mode, "others may read the values in this file: chmod 0600");
        }
        let unusable = || format!("{} cannot be used", path.display());
        let (mut decoder, mut head, mut start) = (Decoder::default(), None, 0);
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
            let length = read.with_context(|| format!("cannot read {}", path.display()))? as u64;
            if length == 0 {
                break;
            }
            match decoder.line(&line).with_context(unusable)? {
                Said::Head(found) => head = Some(found),
                Said::Key(kv) => each(kv, Place { start, length }).await,
                Said::End => {}
            }
            start += length;
        }
        decoder.finish().with_context(unusable)?;
        let head = head.with_context(unusable)?;
        Ok((Saved { path: path.to_owned(), file }, head))
    }

    /// Reads one key again.
    pub fn read(&self, place: Place) -> Result<KeyValue> {
        let mut line = vec![0; usize::try_from(place.length)?];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place.start)).and_then(|_| file.read_exact(&mut line))?;
        match saved::key(&line) {
            Some(kv) => Ok(kv),
            None => bail!("{} was changed while it was read", self.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use etcd_sync_operations::saved::{FORMAT, What};

    use super::*;

    fn head() -> Head {
        Head {
            etcd_sync_saved_keys: FORMAT,
            what: What::Prune,
            link: "default".into(),
            cluster: "c1".into(),
            revision: 1,
            at: "2026-01-02T03:04:05Z".into(),
            keys: 2,
        }
    }

    fn kv(key: &'static str) -> KeyValue {
        let value = Bytes::from_static(b"value");
        KeyValue { key: Bytes::from_static(key.as_bytes()), value, create_revision: 1, mod_revision: 2, lease: 0 }
    }

    #[tokio::test]
    async fn what_is_saved_is_read_again_by_its_place() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("saved");
        let mut saving = Saving::create(&path, &head())?;
        saving.add(&kv("/a"))?;
        saving.add(&kv("/b"))?;
        saving.finish()?;
        assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o7777, 0o600);
        assert!(Saving::create(&path, &head()).is_err(), "a file was overwritten");
        let mut places = Vec::new();
        let (saved, found) = Saved::open(&path, async |kv, place| places.push((kv, place))).await?;
        assert_eq!((found, places.len()), (head(), 2));
        for (kv, place) in places {
            assert_eq!(saved.read(place)?, kv);
        }
        Ok(())
    }

    #[test]
    fn what_is_not_finished_is_removed() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("saved");
        Saving::create(&path, &head())?.add(&kv("/a"))?;
        assert!(!path.exists());
        Ok(())
    }

    #[tokio::test]
    async fn what_is_kept_is_whole_although_nobody_finished_it() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("saved");
        Saving::create(&path, &head())?.kept().add(&kv("/a"))?;
        let mut keys = Vec::new();
        Saved::open(&path, async |kv, _| keys.push(kv)).await?;
        assert_eq!(keys, [kv("/a")]);
        Ok(())
    }
}
