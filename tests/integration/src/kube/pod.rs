//! A container of a pod, started on this machine as kubelet and a container engine would: its own file tree (read-only where the
//! template says so), its volumes from the API server, its service account's token, its user, its environment. What it shares with
//! the machine is the network and the kernel. Takes root, `unshare`, `chroot` and `setpriv`.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use super::plane::ControlPlane;
use crate::certs::Authority;
use crate::tools;

/// Where every pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the image has beside the programs.
const IMAGE_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// For the programs that build the tree.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds the tree and becomes the program. `$1` is the folder of the tree, `$2` the user, `$3` the group, `$4` the further group,
/// `$5` the capabilities that are taken away (as setpriv says it), `$6` "ro" or "rw", `$7` a file with lines "SOURCE TARGET MODE"; the
/// rest is the command.
const ENTER: &str = r#"
set -eu
root=$1 user=$2 group=$3 groups=$4 drop=$5 tree=$6 mounts=$7; shift 7
mount -t tmpfs -o mode=0755 tmpfs "$root"
for part in /lib /lib64 /usr/lib; do
  [ -e "$part" ] || continue
  mkdir -p "$root$part"; mount --bind "$part" "$root$part"; mount -o remount,ro,bind "$root$part"
done
mkdir -p "$root/dev"; : > "$root/dev/null"; mount --bind /dev/null "$root/dev/null"
: > "$root/dev/setpriv"; mount --bind "$(command -v setpriv)" "$root/dev/setpriv"
while read -r source target mode; do
  if [ -d "$source" ]; then mkdir -p "$root$target"; else mkdir -p "$root$(dirname "$target")"; : > "$root$target"; fi
  mount --bind "$source" "$root$target"
  [ "$mode" = rw ] || mount -o remount,ro,bind "$root$target"
done < "$mounts"
[ "$tree" = rw ] || mount -o remount,ro "$root"
exec chroot "$root" /dev/setpriv --reuid="$user" --regid="$group" --groups="$groups" --bounding-set="$drop" --inh-caps="$drop" \
  --no-new-privs "$@"
"#;

/// What a pod sees of its node.
#[derive(Clone, Debug)]
pub struct Node {
    /// `status.hostIP`.
    pub address: IpAddr,
    /// What stands for folders of its file system.
    pub folders: Vec<(String, PathBuf)>,
}

/// A container that is about to start.
pub struct Container {
    /// The program and its arguments, from [`Container::program`] on to be run as they are.
    pub command: Vec<String>,
    /// Its environment, complete.
    pub environment: BTreeMap<String, String>,
    // Its volumes lie here.
    folder: TempDir,
}

impl Container {
    /// Prepares the container `name` of a template (`.spec.template` of a Deployment or Job). `pod` becomes the pod's name.
    pub async fn new(
        plane: &ControlPlane,
        namespace: &str,
        template: &Value,
        name: &str,
        pod: &str,
        node: &Node,
    ) -> Result<Container> {
        let spec = &template["spec"];
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let container = list(&spec["containers"]).into_iter().find(|container| container["name"] == name);
        let container = container.with_context(|| format!("no container {name} in {spec}"))?;
        let folder = tempfile::Builder::new().prefix("etcd-sync-pod-").tempdir()?;
        // A pod's user must reach what lies in it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let of = |field: &str| container["securityContext"][field].as_u64().or(spec["securityContext"][field].as_u64());
        let user = of("runAsUser").unwrap_or(0);
        let group = of("runAsGroup").unwrap_or(user);
        let files = Files { plane, namespace, spec, folder: folder.path(), fs_group: of("fsGroup"), node };
        let mut mounts = String::new();
        for mount in list(&container["volumeMounts"]) {
            let (volume, path) = (text(&mount, "name")?, text(&mount, "mountPath")?);
            let (source, writable) = files.volume(&volume).await?;
            let mode = if writable && mount["readOnly"] != true { "rw" } else { "ro" };
            mounts += &format!("{} {path} {mode}\n", source.display());
        }
        if spec["automountServiceAccountToken"] != false {
            mounts += &format!("{} {ACCOUNT} ro\n", files.account().await?.display());
        }
        for (program, file) in [("etcd-sync", tools::etcd_sync()?), ("etcd-sync-monitor", tools::etcd_sync_monitor()?)]
        {
            mounts += &format!("{} /usr/local/bin/{program} ro\n", file.display());
        }
        // The image has the authorities that everybody knows: of nobody here.
        let known = folder.path().join("ca-certificates.crt");
        Authority::create(&known)?;
        mounts += &format!("{} {IMAGE_AUTHORITIES} ro\n", known.display());
        let (root, list_file, script) =
            (folder.path().join("root"), folder.path().join("mounts"), folder.path().join("enter"));
        fs::create_dir(&root)?;
        fs::write(&list_file, mounts)?;
        fs::write(&script, ENTER)?;
        let tree = if container["securityContext"]["readOnlyRootFilesystem"] == true { "ro" } else { "rw" };
        let strings =
            |value: &Value| list(value).iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect::<Vec<_>>();
        let environment = environment(plane, namespace, pod, node, &list(&container["env"]))?;
        let mut program = strings(&container["command"]);
        ensure!(!program.is_empty(), "the container {name} has no command: the image's is not known here");
        if !program[0].starts_with('/') {
            program[0] = format!("/usr/local/bin/{}", program[0]);
        }
        program.extend(strings(&container["args"]));
        let expanded = program.iter().map(|word| expand(word, &environment));
        let groups = of("fsGroup").unwrap_or(group);
        let dropped = list(&container["securityContext"]["capabilities"]["drop"]);
        let drop = if dropped.iter().any(|one| one == "ALL") { "-all" } else { "+all" };
        let mut command = ["unshare", "--mount", "--propagation", "private", "sh"].map(str::to_owned).to_vec();
        command.extend([&script, &root].map(|path| path.display().to_string()));
        command.extend([
            user.to_string(),
            group.to_string(),
            groups.to_string(),
            drop.to_owned(),
            tree.to_owned(),
            list_file.display().to_string(),
        ]);
        command.extend(expanded);
        Ok(Container { command, environment, folder })
    }
}

impl Container {
    /// What must stay while it runs.
    pub(crate) fn into_folder(self) -> TempDir {
        self.folder
    }

    /// Runs it to its end.
    pub async fn run(&self) -> Result<std::process::Output> {
        let mut command = tokio::process::Command::new(&self.command[0]);
        command.args(&self.command[1..]).env_clear().envs(&self.environment).env("PATH", PATH);
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        command.output().await.context("start the container")
    }
}

/// What volumes are made of.
struct Files<'a> {
    plane: &'a ControlPlane,
    namespace: &'a str,
    spec: &'a Value,
    folder: &'a Path,
    fs_group: Option<u64>,
    node: &'a Node,
}

impl Files<'_> {
    /// The folder of a volume, and whether it may be written.
    async fn volume(&self, name: &str) -> Result<(PathBuf, bool)> {
        let volumes = self.spec["volumes"].as_array().context("there are volumes")?;
        let volume =
            volumes.iter().find(|volume| volume["name"] == name).with_context(|| format!("no volume {name}"))?;
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            let found = self.node.folders.iter().find(|(host, _)| host == path);
            return Ok((found.with_context(|| format!("nothing stands for {path}"))?.1.clone(), true));
        }
        let folder = self.folder.join(format!("volume-{name}"));
        if folder.exists() {
            return Ok((folder, volume["emptyDir"].is_object()));
        }
        fs::create_dir(&folder)?;
        if volume["emptyDir"].is_object() {
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
            return Ok((folder, true));
        }
        if volume["projected"].is_object() {
            for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
                self.source(source, &folder, volume["projected"]["defaultMode"].as_u64()).await?;
            }
            return Ok((folder, false));
        }
        self.source(volume, &folder, None).await?;
        Ok((folder, false))
    }

    /// Writes the files of a ConfigMap, a Secret or a token.
    async fn source(&self, source: &Value, folder: &Path, mode: Option<u64>) -> Result<()> {
        let (kind, field, decode) = if source["configMap"].is_object() {
            ("configmaps", "configMap", false)
        } else if source["secret"].is_object() {
            ("secrets", "secret", true)
        } else {
            bail!("a volume that this harness does not know: {source}")
        };
        let described = &source[field];
        let name = described["name"].as_str().or(described["secretName"].as_str()).context("a source has a name")?;
        let path = format!("/api/v1/namespaces/{}/{kind}/{name}", self.namespace);
        let Some(object) = self.plane.api().get(&path).await? else {
            ensure!(described["optional"] == true, "{kind} {name} is not there");
            return Ok(());
        };
        // As kubelet: a pod whose key is missing never starts.
        for item in described["items"].as_array().into_iter().flatten() {
            let key = text(item, "key")?;
            let there = object["data"][&key].is_string() || described["optional"] == true;
            ensure!(there, "{kind} {name} has no key {key}");
        }
        let mode = described["defaultMode"].as_u64().or(mode).unwrap_or(0o644);
        for (key, value) in object["data"].as_object().into_iter().flatten() {
            let items = described["items"].as_array();
            let target = match items {
                None => key.clone(),
                Some(items) => match items.iter().find(|item| item["key"] == key.as_str()) {
                    Some(item) => text(item, "path")?,
                    None => continue,
                },
            };
            let value = value.as_str().unwrap_or_default();
            let bytes = if decode { STANDARD.decode(value)? } else { value.as_bytes().to_vec() };
            self.write(&folder.join(target), &bytes, mode)?;
        }
        Ok(())
    }

    async fn account(&self) -> Result<PathBuf> {
        let folder = self.folder.join("account");
        fs::create_dir(&folder)?;
        let name = self.spec["serviceAccountName"].as_str().unwrap_or("default");
        let token = self.plane.api().token(self.namespace, name).await?;
        self.write(&folder.join("token"), token.as_bytes(), 0o644)?;
        self.write(&folder.join("namespace"), self.namespace.as_bytes(), 0o644)?;
        self.write(&folder.join("ca.crt"), &fs::read(self.plane.authority_file())?, 0o644)?;
        Ok(folder)
    }

    /// As kubelet does: the group of the pod may read what its owner may.
    fn write(&self, file: &Path, content: &[u8], mode: u64) -> Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, content)?;
        let mode = if self.fs_group.is_some() { mode | 0o440 } else { mode };
        fs::set_permissions(file, fs::Permissions::from_mode(u32::try_from(mode)?))?;
        let group = self.fs_group.map(u32::try_from).transpose()?;
        chown(file, Some(0), group).context("root makes the files of a pod")
    }
}

fn environment(
    plane: &ControlPlane,
    namespace: &str,
    pod: &str,
    node: &Node,
    given: &[Value],
) -> Result<BTreeMap<String, String>> {
    let address = plane.address();
    let (host, port) = address.rsplit_once(':').with_context(|| format!("an address: {address}"))?;
    let mut all = BTreeMap::from([
        ("KUBERNETES_SERVICE_HOST".to_owned(), host.to_owned()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_owned()),
        ("HOSTNAME".to_owned(), pod.to_owned()),
    ]);
    for variable in given {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            None => expand(variable["value"].as_str().unwrap_or_default(), &all),
            Some("metadata.name") => pod.to_owned(),
            Some("metadata.namespace") => namespace.to_owned(),
            Some("status.hostIP") => node.address.to_string(),
            Some("status.podIP") => "127.0.0.1".to_owned(),
            Some(other) => bail!("a field that this harness does not know: {other}"),
        };
        all.insert(text(variable, "name")?, value);
    }
    Ok(all)
}

/// `$(NAME)` becomes the variable, as kubelet does it.
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    environment.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}

fn text(value: &Value, field: &str) -> Result<String> {
    Ok(value[field].as_str().with_context(|| format!("no {field} in {value}"))?.to_owned())
}
