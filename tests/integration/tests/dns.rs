//! `dns switch` and `dns verify` against real name servers: BIND as primary of a zone, and as a resolver that remembers.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::bind::{Bind, Key, Zone};
use etcd_sync_integration::daemon::{Output, run_command_with};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::terminal::Terminal;
use etcd_sync_integration::{ports, tools};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

const NAME: &str = "global.example.test";
const OLD: &str = "global 2 IN A 10.0.0.1\nglobal 2 IN AAAA fd00::1\n";
const NEW: &str = "--dns-address=10.0.0.2,fd00::2";

/// A zone with the name, a resolver in front of it, and a key file.
struct Fixture {
    primary: Bind,
    resolver: Bind,
    key: Key,
    folder: TempDir,
}

impl Fixture {
    async fn start(records: &str) -> Result<Fixture> {
        let key = Key::new("failover-key")?;
        let zone =
            Zone::Primary { name: "example.test".into(), records: records.into(), update: Some(key.name.clone()) };
        let closed = Zone::Primary { name: "closed.test".into(), records: OLD.into(), update: None };
        let primary = Bind::start(std::slice::from_ref(&key), &[zone, closed]).await?;
        let forward = |name: &str| Zone::Forward { name: name.into(), port: primary.port() };
        let resolver = Bind::start(&[], &[forward("example.test"), forward("closed.test")]).await?;
        let folder = tempfile::tempdir()?;
        key.write(&folder.path().join("key"))?;
        Ok(Fixture { primary, resolver, key, folder })
    }

    fn key_file(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// The flags of everything but the way of the change.
    fn asking(&self) -> Vec<String> {
        vec![
            format!("--domain={NAME}"),
            NEW.to_owned(),
            "--dns-ttl=2".to_owned(),
            format!("--dns-authoritative={}", self.primary.address()),
            format!("--dns-resolver={}", self.resolver.address()),
            "--dns-verify-timeout=30s".to_owned(),
        ]
    }

    /// The flags with updates.
    fn updating(&self) -> Vec<String> {
        let mut flags = self.asking();
        flags.push(format!("--dns-server={}", self.primary.address()));
        flags.push("--dns-zone=example.test".to_owned());
        flags.push(format!("--dns-tsig-key-file={}", self.key_file().display()));
        flags
    }

    /// The addresses that one of the servers gives, sorted; by `verify`, which asks as others do.
    async fn addresses(&self, server: &str) -> Result<Vec<String>> {
        let mut flags = self.asking();
        flags.retain(|flag| !flag.starts_with("--dns-authoritative") && !flag.starts_with("--dns-verify"));
        flags.retain(|flag| !flag.starts_with("--dns-resolver"));
        let more = [format!("--dns-authoritative={server}"), format!("--dns-resolver={server}")];
        flags.extend(more);
        flags.extend(["--dns-verify-timeout=0".to_owned(), "-o=json".to_owned()]);
        let output = dns("verify", &flags, &[]).await?;
        let answer: Value = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
        let found = answer["answers"][1]["addresses"].as_array().with_context(|| format!("{answer}"))?;
        Ok(found.iter().filter_map(|address| address.as_str().map(str::to_owned)).collect())
    }
}

async fn dns(command: &str, flags: &[String], env: &[(&str, &str)]) -> Result<Output> {
    let args: Vec<String> = ["dns".to_owned(), command.to_owned()].iter().chain(flags).cloned().collect();
    let output = run_command_with(&args, env, PATIENCE).await?;
    ensure!(!output.stderr.contains("panicked"), "{}", output.stderr);
    Ok(output)
}

fn with(mut flags: Vec<String>, more: &[&str]) -> Vec<String> {
    flags.extend(more.iter().map(|&flag| flag.to_owned()));
    flags
}

/// Ends with this code, with all parts on stderr.
fn ended(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.code, Some(code), "{}\n{}", output.stdout, output.stderr);
    for part in parts {
        assert!(output.stderr.contains(part), "no {part:?} in {}", output.stderr);
    }
}

#[tokio::test]
async fn both_families_are_switched_and_an_old_answer_runs_out() -> Result<()> {
    let fixture = Fixture::start(OLD).await?;
    // From now on the resolver remembers the old answer.
    assert_eq!(fixture.addresses(&fixture.resolver.address()).await?, ["10.0.0.1", "fd00::1"]);
    let output = dns("switch", &with(fixture.updating(), &["--yes"]), &[]).await?;
    ended(&output, 0, &[]);
    for part in [
        "Now:    10.0.0.1, fd00::1 (TTL 2s)\n",
        "  global.example.test. 2 IN A 10.0.0.2\n",
        "\nprereq yxrrset global.example.test. AAAA fd00::1\n",
        "Changed: global.example.test was 10.0.0.1, fd00::1, is 10.0.0.2, fd00::2.\n",
        "good    authoritative 127.0.0.1:",
        "good    resolver 127.0.0.1:",
        "points at the target on every server queried (2).\n",
    ] {
        assert!(output.stdout.contains(part), "no {part:?} in {}", output.stdout);
    }
    assert!(output.stdout.lines().all(|line| line.len() <= 80 || line.contains("nsupdate -k")), "{}", output.stdout);
    for bind in [&fixture.primary, &fixture.resolver] {
        assert_eq!(fixture.addresses(&bind.address()).await?, ["10.0.0.2", "fd00::2"]);
    }
    // A second run finds nothing to do, and needs no word.
    let output = dns("switch", &with(fixture.updating(), &["-o=json"]), &[]).await?;
    ended(&output, 0, &[]);
    let told: Value = serde_json::from_str(&output.stdout)?;
    assert_eq!((&told["switched"], &told["verified"]["verdict"]), (&json!({"kind": "already"}), &json!("good")));
    assert_eq!(fixture.primary.count_lines("adding an RR at"), 2, "{}", fixture.primary.tail());
    let all = format!("{}{}", output.stdout, output.stderr);
    assert!(!all.contains(&fixture.key.secret), "the secret is shown");
    Ok(())
}

#[tokio::test]
async fn a_rejected_update_says_what_to_do_and_changes_nothing() -> Result<()> {
    let fixture = Fixture::start(OLD).await?;
    let folder = fixture.folder.path();
    let key = |name: &str, key: Key| -> Result<String> {
        let file = folder.join(name);
        key.write(&file)?;
        Ok(format!("--dns-tsig-key-file={}", file.display()))
    };
    let unknown = key("unknown", Key::new("unknown")?)?;
    let secret = key("secret", Key::new(&fixture.key.name)?)?;
    let algorithm = key("algorithm", Key { algorithm: "hmac-sha512".into(), ..fixture.key.clone() })?;
    let (closed_name, closed_zone) = ("--domain=global.closed.test".to_owned(), "--dns-zone=closed.test".to_owned());
    let foreign = ["--domain=global.foreign.test".to_owned(), "--dns-zone=foreign.test".to_owned()];
    for (changes, parts) in [
        (&[unknown][..], ["does not know the TSIG key unknown", "(BADKEY)"]),
        (&[secret], ["knows the TSIG key failover-key, but with another secret", "(BADSIG)"]),
        (&[algorithm], ["does not know the TSIG key failover-key with that algorithm", "(BADKEY)"]),
        (&[closed_name, closed_zone], ["refuses to change the zone closed.test", "allow-update or update-policy"]),
        (&foreign, ["it answers with an error: REFUSED", "primary server of --dns-zone"]),
    ] {
        let mut flags = with(fixture.updating(), &["--yes"]);
        for change in changes {
            let (name, _) = change.split_once('=').context("a flag")?;
            flags.retain(|flag| !flag.starts_with(&format!("{name}=")));
            flags.push(change.clone());
        }
        let output = dns("switch", &flags, &[]).await?;
        ended(&output, 2, &parts);
        ended(&output, 2, &["nothing was changed: "]);
        assert!(!output.stderr.contains(&fixture.key.secret) && !output.stdout.contains(&fixture.key.secret));
    }
    let mut unsigned = with(fixture.updating(), &["--yes"]);
    unsigned.retain(|flag| !flag.starts_with("--dns-tsig-key-file"));
    ended(&dns("switch", &unsigned, &[]).await?, 2, &["is --dns-tsig-key-file missing?"]);
    assert_eq!(fixture.addresses(&fixture.primary.address()).await?, ["10.0.0.1", "fd00::1"]);
    Ok(())
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() -> Result<()> {
    let alias = Fixture::start("global IN CNAME other\nother IN A 10.0.0.1\n").await?;
    let output = dns("switch", &with(alias.updating(), &["--yes"]), &[]).await?;
    ended(
        &output,
        2,
        &["global.example.test is an alias (CNAME) of other.example.test", "--domain other.example.test"],
    );
    let wildcard = Fixture::start("* IN A 10.0.0.1\n").await?;
    let output = dns("switch", &with(wildcard.updating(), &["--yes"]), &[]).await?;
    ended(&output, 2, &["nothing was changed", "says 10.0.0.1 for global.example.test", "a wildcard record"]);
    Ok(())
}

#[tokio::test]
async fn the_change_by_hand_works_as_it_is_printed() -> Result<()> {
    let fixture = Fixture::start(OLD).await?;
    let output = dns("switch", &with(fixture.updating(), &["--dry-run"]), &[]).await?;
    let (_, script) = output.stdout.split_once("By hand, where the zone takes updates:\n").context("it is shown")?;
    let pasted = tokio::process::Command::new("bash").args(["-ec", script]).output().await?;
    assert!(pasted.status.success(), "{pasted:?}\n{script}");
    assert_eq!(fixture.addresses(&fixture.primary.address()).await?, ["10.0.0.2", "fd00::2"]);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_with_the_change_to_make_by_hand() -> Result<()> {
    let fixture = Fixture::start(OLD).await?;
    fixture.primary.pause()?;
    let output = dns("switch", &with(fixture.updating(), &["--dry-run"]), &[]).await?;
    ended(&output, 2, &["nothing was changed: 127.0.0.1:", "no answer within"]);
    assert!(output.stdout.contains("\nupdate add global.example.test. 2 A 10.0.0.2\n"), "{}", output.stdout);
    fixture.primary.resume()?;
    fixture.primary.kill()?;
    let output = dns("switch", &with(fixture.updating(), &["--yes", "-o=json"]), &[]).await?;
    ended(&output, 2, &["it cannot be reached: Connection refused"]);
    let told: Value = serde_json::from_str(&output.stdout)?;
    assert_eq!(told["change"]["addresses"], json!(["10.0.0.2", "fd00::2"]));
    // Nobody knows where the name points: that is not good.
    let mut flags = fixture.asking();
    flags.retain(|flag| !flag.starts_with("--dns-verify-timeout"));
    let output = dns("verify", &with(flags, &["--dns-verify-timeout=0"]), &[]).await?;
    ended(&output, 1, &["no authoritative and no resolver server says anything"]);
    Ok(())
}

#[tokio::test]
async fn a_command_of_the_operators_does_it() -> Result<()> {
    let fixture = Fixture::start(OLD).await?;
    let seen = fixture.folder.path().join("seen");
    let program = tools::etcd_sync()?;
    let updates: Vec<String> = fixture.updating().iter().map(|flag| format!("'{flag}'")).collect();
    let script = format!(
        "echo \"$ETCD_SYNC_DNS_ACTION $ETCD_SYNC_DNS_NAME $ETCD_SYNC_DNS_ADDRESSES $ETCD_SYNC_DNS_TTL \
         $ETCD_SYNC_DNS_OLD_ADDRESSES [$ETCD_SYNC_DNS_RUN] / $*\" > '{}'; echo noise; '{}' dns switch {} --yes",
        seen.display(),
        program.display(),
        updates.join(" ")
    );
    let flags = with(fixture.asking(), &["--yes", "-o=json", &format!("--dns-command={script}")]);
    let output = dns("switch", &flags, &[]).await?;
    ended(&output, 0, &["noise"]);
    let told: Value = serde_json::from_str(&output.stdout)?;
    assert_eq!((&told["switched"]["kind"], &told["verified"]["verdict"]), (&json!("ran"), &json!("good")));
    assert_eq!(
        std::fs::read_to_string(&seen)?.trim(),
        "set global.example.test 10.0.0.2,fd00::2 2 10.0.0.1,fd00::1 [] / set global.example.test 10.0.0.2 fd00::2"
    );
    // It is not run again for what is done already.
    std::fs::remove_file(&seen)?;
    let output = dns("switch", &flags, &[]).await?;
    ended(&output, 0, &[]);
    assert!(output.stdout.contains("\"already\"") && !seen.exists());
    Ok(())
}

#[tokio::test]
async fn a_command_that_fails_is_told_with_what_it_wrote() -> Result<()> {
    let fixture = Fixture::start(OLD).await?;
    for (script, more, parts) in [
        ("echo first >&2; echo 'no such zone'; exit 3", "30s", ["exit status: 3", "no such zone"]),
        ("exit 1", "30s", ["exit status: 1", "check whether the name is changed"]),
        ("echo waiting >&2; exec sleep 600", "5s", ["did not end within 5 s, and its shell was killed", "waiting\n"]),
    ] {
        let limit = format!("--dns-command-timeout={more}");
        let flags = with(fixture.asking(), &["--yes", &limit, &format!("--dns-command={script}")]);
        ended(&dns("switch", &flags, &[]).await?, 2, &parts);
    }
    Ok(())
}

#[tokio::test]
async fn a_change_by_people_is_waited_for() -> Result<()> {
    let fixture = Fixture::start(OLD).await?;
    let args = [&["dns".to_owned(), "switch".to_owned()], &fixture.asking()[..]].concat();
    let terminal = Terminal::start(&args)?;
    terminal.wait_for("This command changes nothing", PATIENCE).await?;
    terminal.wait_for("does NOT point at the target yet", PATIENCE).await?;
    let output = dns("switch", &with(fixture.updating(), &["--yes"]), &[]).await?;
    ended(&output, 0, &[]);
    let (status, shown) = terminal.wait(PATIENCE).await?;
    assert!(status.success() && shown.contains("points at the target on every server queried (2)."), "{shown}");
    Ok(())
}

#[tokio::test]
async fn people_are_asked_before_a_change() -> Result<()> {
    let fixture = Fixture::start(OLD).await?;
    let output = dns("switch", &fixture.updating(), &[]).await?;
    ended(&output, 1, &["nothing was changed: this is no terminal to ask on"]);
    let output = dns("switch", &with(fixture.updating(), &["-o=json"]), &[]).await?;
    ended(&output, 1, &["JSON output cannot ask"]);
    let args = [&["dns".to_owned(), "switch".to_owned()], &fixture.updating()[..]].concat();
    for (typed, code) in [("yes", 1), (NAME, 0)] {
        let mut terminal = Terminal::start(&args)?;
        terminal.wait_for("Type the name (global.example.test) to change it", PATIENCE).await?;
        terminal.type_line(typed)?;
        let (status, shown) = terminal.wait(PATIENCE).await?;
        assert_eq!(status.code(), Some(code), "{shown}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_outlasts_the_limit_is_named_with_its_time() -> Result<()> {
    let fixture = Fixture::start("global 600 IN A 10.0.0.1\n").await?;
    assert_eq!(fixture.addresses(&fixture.resolver.address()).await?, ["10.0.0.1"]);
    let mut flags = with(fixture.updating(), &["--yes"]);
    flags.retain(|flag| !flag.starts_with("--dns-verify-timeout"));
    flags.push("--dns-verify-timeout=5s".to_owned());
    let output = dns("switch", &flags, &[]).await?;
    ended(&output, 1, &["does NOT point at the target yet: 1 of 2 say otherwise", "empty that resolver's cache"]);
    assert!(output.stdout.contains("OLD     resolver 127.0.0.1:"), "{}", output.stdout);
    // It may have learned of the other address meanwhile.
    assert!(output.stdout.contains("        10.0.0.1"), "{}", output.stdout);
    assert!(output.stdout.contains("; it may keep this for 9m "), "{}", output.stdout);
    Ok(())
}

#[tokio::test]
async fn nothing_given_is_an_error_that_names_the_flag() -> Result<()> {
    for command in ["switch", "verify"] {
        ended(&dns(command, &[], &[]).await?, 2, &["--domain is missing (ETCD_SYNC_DOMAIN"]);
        let output = dns(command, &[], &[("ETCD_SYNC_DOMAIN", NAME)]).await?;
        ended(&output, 2, &["--dns-address is missing (ETCD_SYNC_DNS_ADDRESS"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_key_file_is_judged_before_anything_is_sent() -> Result<()> {
    let fixture = Fixture::start(OLD).await?;
    let file = fixture.key_file();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
    let output = dns("switch", &with(fixture.updating(), &["--dry-run"]), &[]).await?;
    ended(&output, 0, &["may be read by others (mode 0644): chmod 600"]);
    std::fs::write(&file, fixture.key.text().replace("secret", "sekret"))?;
    let output = dns("switch", &with(fixture.updating(), &["--yes"]), &[]).await?;
    ended(&output, 2, &["(--dns-tsig-key-file): line 3: expected algorithm, secret or }"]);
    assert!(!output.stderr.contains(&fixture.key.secret), "{}", output.stderr);
    std::fs::remove_file(&file)?;
    let output = dns("switch", &with(fixture.updating(), &["--yes"]), &[]).await?;
    ended(&output, 2, &["cannot read", "(--dns-tsig-key-file): No such file"]);
    Ok(())
}

#[tokio::test]
async fn servers_of_the_zone_are_found_and_large_answers_taken_whole() -> Result<()> {
    let all: Vec<String> = (1..=60).map(|n| format!("10.0.1.{n}")).collect();
    let records: String = all.iter().map(|address| format!("global IN A {address}\n")).collect();
    let fixture = Fixture::start(&records).await?;
    let address = format!("--dns-address={}", all.join(","));
    let resolver = format!("--dns-resolver={}", fixture.resolver.address());
    let domain = format!("--domain={NAME}");
    let mut flags = vec![domain, address, resolver, "--dns-verify-timeout=0".to_owned(), "-o=json".to_owned()];
    let told: Value = serde_json::from_str(&dns("verify", &flags, &[]).await?.stdout)?;
    // Found by the NS records; at port 53 there is nobody, or somebody who does not have the zone.
    let owner = told["answers"][0]["server"].as_str().unwrap_or_default();
    assert!(owner.starts_with("ns1.example.test") && told["answers"][0]["kind"] == "authoritative", "{told}");
    assert_eq!(told["answers"][1]["mark"], "good", "{told}");
    flags.push(format!("--dns-authoritative={}", fixture.primary.address()));
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        flags.push(format!("--dns-authoritative=[::1]:{}", fixture.primary.port()));
    }
    ended(&dns("verify", &flags, &[]).await?, 0, &[]);
    Ok(())
}

/// What happens to an update on its way to the zone's server.
#[derive(Clone)]
enum Fault {
    /// It arrives; its answer does not.
    AnswerLost,
    /// It does not arrive.
    Lost,
    /// It arrives after somebody else's, which these flags make.
    Late(Vec<String>),
}

/// Stands in front of the zone's server: questions (UDP) pass, updates (TCP) have the fault.
struct DnsProxy {
    port: u16,
    tasks: [JoinHandle<Result<()>>; 2],
}

impl DnsProxy {
    async fn start(server: u16, fault: Fault) -> Result<DnsProxy> {
        let port = ports::free(1)?[0];
        let questions = UdpSocket::bind(("127.0.0.1", port)).await?;
        let updates = TcpListener::bind(("127.0.0.1", port)).await?;
        let asked = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = questions.recv_from(&mut buffer).await?;
                let behind = UdpSocket::bind("127.0.0.1:0").await?;
                behind.connect(("127.0.0.1", server)).await?;
                behind.send(&buffer[..length]).await?;
                let length = behind.recv(&mut buffer).await?;
                questions.send_to(&buffer[..length], from).await?;
            }
        });
        let updated = tokio::spawn(async move {
            loop {
                let (mut front, _) = updates.accept().await?;
                let update = message(&mut front).await?;
                if let Fault::Late(flags) = &fault {
                    ended(&dns("switch", flags, &[]).await?, 0, &[]);
                }
                if !matches!(fault, Fault::Lost) {
                    let mut behind = TcpStream::connect(("127.0.0.1", server)).await?;
                    behind.write_all(&update).await?;
                    let answer = message(&mut behind).await?;
                    if !matches!(fault, Fault::AnswerLost) {
                        front.write_all(&answer).await?;
                    }
                }
            }
        });
        Ok(DnsProxy { port, tasks: [asked, updated] })
    }
}

impl Drop for DnsProxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        ports::release([self.port]);
    }
}

/// One message and the length in front of it.
async fn message(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.resize(2 + usize::from(length), 0);
    stream.read_exact(&mut bytes[2..]).await?;
    Ok(bytes)
}

#[tokio::test]
async fn what_became_of_an_update_is_asked_and_never_guessed() -> Result<()> {
    let through = async |fixture: &Fixture, fault: Fault| {
        let proxy = DnsProxy::start(fixture.primary.port(), fault).await?;
        let mut flags = with(fixture.updating(), &["--yes"]);
        flags.retain(|flag| !flag.starts_with("--dns-server"));
        flags.push(format!("--dns-server=127.0.0.1:{}", proxy.port));
        dns("switch", &flags, &[]).await
    };
    let fixture = Fixture::start(OLD).await?;
    let output = through(&fixture, Fault::Lost).await?;
    ended(&output, 2, &["the update got lost (the connection broke", "the name is as it was"]);
    let output = through(&fixture, Fault::AnswerLost).await?;
    ended(&output, 0, &[]);
    assert!(output.stdout.contains("is 10.0.0.2, fd00::2.\n"), "{}", output.stdout);
    assert_eq!(fixture.primary.count_lines("adding an RR at"), 2, "sent once: {}", fixture.primary.tail());

    let fixture = Fixture::start(OLD).await?;
    let mut theirs = with(fixture.updating(), &["--yes"]);
    theirs.retain(|flag| !flag.starts_with("--dns-address"));
    theirs.push("--dns-address=10.0.0.9".to_owned());
    let output = through(&fixture, Fault::Late(theirs)).await?;
    ended(&output, 2, &["somebody else changes global.example.test at the same time", "it says 10.0.0.9 now"]);
    assert_eq!(fixture.addresses(&fixture.primary.address()).await?, ["10.0.0.9"]);
    Ok(())
}
