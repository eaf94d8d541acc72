//! BIND's `named` as name server of a zone, and as a resolver that remembers answers.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::ports;
use crate::process::Process;

const START: Duration = Duration::from_secs(120);

/// How often a server is started again that found its port taken.
const ATTEMPTS: usize = 3;

/// A TSIG key, as the server knows it.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Such as `hmac-sha256`.
    pub algorithm: String,
    /// The shared secret, in base64.
    pub secret: String,
}

/// What a server does.
#[derive(Clone, Debug)]
pub enum Zone {
    /// Has a zone itself.
    Primary {
        /// Its name.
        name: String,
        /// Its records, in the syntax of a zone file; SOA and NS (`ns1`, at 127.0.0.1) are there already.
        records: String,
        /// Name of the key that may update it.
        update: Option<String>,
    },
    /// Asks another server about a zone, and remembers the answers for their time to live.
    Forward {
        /// Its name.
        name: String,
        /// The other server's port on 127.0.0.1.
        port: u16,
    },
}

/// A running `named`, in a folder of its own, without rndc. Dropping it kills it.
#[derive(Debug)]
pub struct Bind {
    process: Mutex<Process>,
    lines: Arc<Mutex<Vec<String>>>,
    port: u16,
    folder: TempDir,
}

impl Key {
    /// One that was never used before this run.
    pub fn new(name: &str) -> Result<Key> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).context("random bytes")?;
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        // Hexadecimal digits are base64 too.
        Ok(Key { name: name.to_owned(), algorithm: "hmac-sha256".to_owned(), secret: hex })
    }

    /// The key statement, as `tsig-keygen` writes it.
    pub fn text(&self) -> String {
        let Key { name, algorithm, secret } = self;
        format!("key \"{name}\" {{\n\talgorithm {algorithm};\n\tsecret \"{secret}\";\n}};\n")
    }

    /// Writes a key file that only its owner may read.
    pub fn write(&self, file: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(file, self.text()).with_context(|| format!("write {file:?}"))?;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).context("set the mode")
    }
}

impl Bind {
    /// Starts a server with these keys and zones on a free port of 127.0.0.1 and waits until it answers.
    pub async fn start(keys: &[Key], zones: &[Zone]) -> Result<Bind> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let port = port()?;
            match Bind::start_on(port, keys, zones).await {
                Ok(bind) => return Ok(bind),
                Err(error) => last = format!("{error:#}"),
            }
            ports::release([port]);
        }
        bail!("named does not start: {last}")
    }

    async fn start_on(port: u16, keys: &[Key], zones: &[Zone]) -> Result<Bind> {
        let folder = tempfile::Builder::new().prefix("etcd-sync-named-").tempdir().context("make a folder")?;
        let file = folder.path().join("named.conf");
        std::fs::write(&file, config(folder.path(), port, keys, zones)?).context("write named.conf")?;
        let mut command = Command::new(named()?);
        command.arg("-g").arg("-c").arg(&file).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::spawn("named", command)?;
        let stderr = process.child().stderr.take().context("the standard error was asked for")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        // Ends with the process: then the pipe does.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(|line| line.ok()) {
                lock(&sink).push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let bind = Bind { process: Mutex::new(process), lines, port, folder };
        bind.wait_line("all zones loaded").await?;
        // It runs on without a port that it did not get.
        let listens = format!("listening on IPv4 interface lo, 127.0.0.1#{port}");
        ensure!(lock(&bind.lines).iter().any(|line| line.contains(&listens)), "no port {port}:\n{}", bind.tail());
        Ok(bind)
    }

    /// Its port on 127.0.0.1, and on ::1 where there is one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A folder for files of the test; it goes with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits for a line of its log, old lines included.
    pub async fn wait_line(&self, text: &str) -> Result<()> {
        let deadline = Instant::now() + START;
        while !lock(&self.lines).iter().any(|line| line.contains(text)) {
            let ended = lock(&self.process).exited()?;
            ensure!(ended.is_none() && Instant::now() < deadline, "named ({ended:?}): no {text:?}\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The IPv4 addresses of a name, as a client is told them; any trouble is "none".
    pub async fn lookup(&self, name: &str) -> Vec<Ipv4Addr> {
        // A datagram may be lost.
        for _ in 0..10 {
            if let Some(found) = self.ask(name).await {
                return found;
            }
        }
        Vec::new()
    }

    async fn ask(&self, name: &str) -> Option<Vec<Ipv4Addr>> {
        // One question, recursion desired (RFC 1035, 4.1).
        let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).ok()?);
            question.extend(label.as_bytes());
        }
        question.extend([0, 0, 1, 0, 1]);
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.ok()?;
        socket.send_to(&question, self.address()).await.ok()?;
        let mut answer = [0; 512];
        let length = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut answer)).await.ok()?.ok()?;
        let (answer, mut at) = (&answer[..length], question.len());
        let mut found = Vec::new();
        for _ in 0..u16::from_be_bytes([*answer.get(6)?, *answer.get(7)?]) {
            // The name is a pointer to the question's: 2 bytes; then type, class, time to live and length.
            let kind = u16::from_be_bytes(answer.get(at + 2..at + 4)?.try_into().ok()?);
            let size = usize::from(u16::from_be_bytes(answer.get(at + 10..at + 12)?.try_into().ok()?));
            let data = answer.get(at + 12..at + 12 + size)?;
            if let (1, Ok(address)) = (kind, <[u8; 4]>::try_from(data)) {
                found.push(Ipv4Addr::from(address));
            }
            at += 12 + size;
        }
        Some(found)
    }

    /// How many lines of its log hold this.
    pub fn count_lines(&self, text: &str) -> usize {
        lock(&self.lines).iter().filter(|line| line.contains(text)).count()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&self) -> Result<()> {
        lock(&self.process).kill().map(drop)
    }

    /// SIGSTOP: it takes what is sent, and answers nothing.
    pub fn pause(&self) -> Result<()> {
        lock(&self.process).signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        lock(&self.process).signal(Signal::SIGCONT)
    }

    /// The last 30 lines of its log, for messages.
    pub fn tail(&self) -> String {
        let lines = lock(&self.lines);
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- last lines of named on port {} ---\n{}", self.port, self.tail());
        }
        ports::release([self.port]);
    }
}

/// `named`: `ETCD_SYNC_NAMED` when set, else where the system keeps it. People have no `/usr/sbin` on their path.
pub fn named() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("ETCD_SYNC_NAMED") {
        let program = PathBuf::from(program);
        ensure!(program.is_file(), "ETCD_SYNC_NAMED is set, but {program:?} is no file");
        return Ok(program);
    }
    found("named")
}

/// BIND's client for look-ups.
pub fn nslookup() -> Result<PathBuf> {
    found("nslookup")
}

fn found(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|program| program.is_file());
    found.with_context(|| format!("no {program} (BIND) is found: run `make net`, which installs it"))
}

/// A port that is free for UDP too.
fn port() -> Result<u16> {
    for _ in 0..ATTEMPTS {
        let port = ports::free(1)?[0];
        if UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free for TCP and UDP")
}

fn config(folder: &Path, port: u16, keys: &[Key], zones: &[Zone]) -> Result<String> {
    let mut text: String = keys.iter().map(Key::text).collect();
    let recursion = if zones.iter().any(|zone| matches!(zone, Zone::Forward { .. })) { "yes" } else { "no" };
    write!(
        text,
        "options {{\n  directory {folder:?};\n  listen-on port {port} {{ 127.0.0.1; }};\n  listen-on-v6 port {port} {{ ::1; }};\n  \
         pid-file none;\n  session-keyfile none;\n  recursion {recursion};\n  dnssec-validation no;\n  notify no;\n  \
         empty-zones-enable no;\n}};\ncontrols {{ }};\n"
    )?;
    for (at, zone) in zones.iter().enumerate() {
        match zone {
            Zone::Primary { name, records, update } => {
                let file = folder.join(format!("zone-{at}"));
                let head = "$TTL 3\n@ IN SOA ns1 admin 1 60 60 600 2\n@ IN NS ns1\nns1 IN A 127.0.0.1\n";
                std::fs::write(&file, format!("{head}{records}\n")).context("write a zone")?;
                let allowed = update.as_ref().map_or("none".to_owned(), |key| format!("key \"{key}\""));
                writeln!(text, "zone \"{name}\" {{ type primary; file {file:?}; allow-update {{ {allowed}; }}; }};")?;
            }
            Zone::Forward { name, port } => {
                writeln!(
                    text,
                    "zone \"{name}\" {{ type forward; forward only; forwarders {{ 127.0.0.1 port {port}; }}; }};"
                )?;
            }
        }
    }
    Ok(text)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
