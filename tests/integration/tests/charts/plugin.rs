//! The plugin's manifests: valid for the platform's own schemas, named as the contract says, and filled in as the form would be.

mod package;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::helm::Helm;
use crate::schemas::Schemas;
use crate::{CHART, NAMESPACE, documents, file, object};

/// Shown name, and the key of the value.
const PARAMETERS: [(&str, &str); 6] = [
    ("Active Global Cluster VIP", "active_cluster_vip"),
    ("Active Global Cluster ETCD Endpoints", "active_cluster_etcd_endpoints"),
    ("Standby Cluster ETCD Endpoints", "standby_cluster_etcd_endpoints"),
    ("Active Global Cluster Token Secret", "active_cluster_token_secret_ref"),
    ("Data Check Interval", "monitor_check_interval"),
    ("Print detail logs", "detail"),
];
const SHOWN: &str = "Alauda Container Platform etcd Synchronizer";
/// The first is a link to [`PLUGIN`], the second is made of both sources.
const FILES: [&str; 3] = ["moduleplugin.yaml", "moduleconfig.yaml", "moduleinfo.example.yaml"];
/// The two sources, below the chart.
const PLUGIN: &str = "module-plugin.yaml";
const CONFIG: &str = "scripts/plugin-config.yaml";
/// Set, the test writes the ModuleConfig instead of comparing it.
const UPDATE: &str = "UPDATE_DOCS";
const HEADER: &str = "\
# What the platform makes of module-plugin.yaml and scripts/plugin-config.yaml in ../etcd-sync: for readers, nobody applies it.
# Made by a test: UPDATE_DOCS=1 cargo test -p etcd-sync-integration --test charts -- plugin::
";

/// Held against the platform's schemas, then applied, dry and for real.
pub async fn is_valid(fixture: &Fixture, schemas: &Schemas) -> Result<()> {
    for name in FILES {
        let path = path(name);
        schemas.check(&path)?;
        fixture.apply(&path, &["--dry-run=server"]).await?;
        fixture.apply(&path, &[]).await?;
    }
    let helm = Helm::new()?;
    let whole = helm.values("moduleinfo.yaml", &whole_example()?)?;
    schemas.check(&whole)?;
    fixture.apply(&whole, &[]).await?;
    let columns = fixture.plane.kubectl(&["get", "moduleinfoes", "-o", "wide"]).await?;
    ensure!(columns.contains("etcd-sync") && columns.contains("global"), "{columns}");
    the_commands_of_the_documents_are_taken(fixture).await
}

/// Those of docs/install.md with kubectl; the platform is played.
async fn the_commands_of_the_documents_are_taken(fixture: &Fixture) -> Result<()> {
    let page = std::fs::read_to_string(file("docs/install.md"))?;
    let run = async |command: &str| -> Result<String> {
        ensure!(page.contains(&format!("kubectl {command}")), "docs/install.md has no {command}");
        let command = command.replace("$version", env!("CARGO_PKG_VERSION")).replace(['"', '\''], "");
        fixture.plane.kubectl(&command.split(' ').collect::<Vec<_>>()).await
    };
    let (version, config) = (env!("CARGO_PKG_VERSION"), format!("etcd-sync-{}", env!("CARGO_PKG_VERSION")));
    for (kind, name, status) in [
        ("moduleplugin", "etcd-sync", json!({"latestVersion": version})),
        ("moduleconfig", config.as_str(), json!({"readyForDeploy": true})),
    ] {
        let status = json!({ "status": status }).to_string();
        fixture.plane.kubectl(&["patch", kind, name, "--subresource=status", "--type=merge", "-p", &status]).await?;
    }
    ensure!(run("get moduleplugin etcd-sync -o jsonpath='{.status.latestVersion}'").await? == version);
    run("wait --for=jsonpath='{.status.readyForDeploy}'=true \"moduleconfig/etcd-sync-$version\" --timeout=5m").await?;
    let labels = "-l cpaas.io/module-name=etcd-sync,cpaas.io/cluster-name=global";
    let named = run(&format!("get moduleinfo {labels} -o name")).await?;
    ensure!(named.trim() == "moduleinfo.cluster.alauda.io/global-etcd-sync", "{named}");
    let gone = run(&format!("delete moduleinfo {labels}")).await?;
    ensure!(gone.contains("deleted"), "{gone}");
    Ok(())
}

#[test]
fn the_plugin_is_called_what_the_contract_says() -> Result<()> {
    for name in FILES {
        let manifest = manifest(name)?;
        let (labels, annotations) = (&manifest["metadata"]["labels"], &manifest["metadata"]["annotations"]);
        ensure!(labels["cpaas.io/module-name"] == "etcd-sync" && labels["cpaas.io/module-type"] == "plugin", "{name}");
        ensure!(annotations.to_string().contains(SHOWN), "{name}: {annotations}");
        ensure!(manifest["spec"]["version"] == env!("CARGO_PKG_VERSION"), "{name}: another version");
        if name != FILES[2] {
            ensure!(manifest["spec"]["name"] == "etcd-sync");
            let chart = &manifest["spec"]["appReleases"][0]["chartVersions"][0];
            ensure!(chart["version"] == env!("CARGO_PKG_VERSION") && chart["name"] == manifest["spec"]["mainChart"]);
            for risk in ["deleteRiskDescription", "deleteRiskDescriptionEn"] {
                let risk = manifest["spec"][risk].as_str().context("no risk")?;
                for word in [
                    "svc etcd-sync-monitor",
                    "curl http://$svc/check",
                    "svc=\"[$svc]\"",
                    "curl -gf \"http://$svc/check?last=1\"",
                    "LOCAL ETCD missed keys",
                    "Machine",
                ] {
                    ensure!(risk.contains(word), "{name}: the risk does not name {word}: {risk}");
                }
            }
        }
    }
    ensure!(manifest(FILES[0])?["metadata"]["name"] == "etcd-sync");
    // The platform looks for this name.
    ensure!(manifest(FILES[1])?["metadata"]["name"] == format!("etcd-sync-{}", env!("CARGO_PKG_VERSION")));
    Ok(())
}

#[test]
fn the_module_config_is_what_the_platform_makes_of_the_chart() -> Result<()> {
    let [plugin, config] = [PLUGIN, CONFIG].map(|name| std::fs::read_to_string(file(CHART).join(name)));
    let (plugin, config, version) = (plugin?, config?, env!("CARGO_PKG_VERSION"));
    let (head, spec) = uncommented(&plugin).split_once("\nspec:\n").context("it has a spec")?;
    let head = head.replace("kind: ModulePlugin", "kind: ModuleConfig");
    let head = head.replace("\n  name: etcd-sync\n", &format!("\n  name: etcd-sync-{version}\n"));
    let indented: String =
        uncommented(&config).lines().filter(|line| !line.is_empty()).map(|line| format!("  {line}\n")).collect();
    let made = format!("{HEADER}{head}\n    cpaas.io/module-version: {version}\nspec:\n{spec}{indented}");

    // Put together as text, it must be what it is as data.
    let parsed = |text: &str| documents(text)?.into_iter().next().context("it is empty");
    let mut whole = parsed(&plugin)?;
    whole["kind"] = json!("ModuleConfig");
    whole["metadata"]["name"] = json!(format!("etcd-sync-{version}"));
    whole["metadata"]["labels"]["cpaas.io/module-version"] = json!(version);
    for (key, value) in parsed(&config)?.as_object().context("a mapping")? {
        ensure!(whole["spec"].get(key).is_none(), "both sources have {key}");
        whole["spec"][key] = value.clone();
    }
    ensure!(parsed(&made)? == whole, "not the two sources:\n{made}");

    let path = path(FILES[1]);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, made)?;
    } else {
        ensure!(std::fs::read_to_string(&path)? == made, "{path:?} is behind ({UPDATE}=1 renews it)");
    }
    Ok(())
}

/// Without the comment at the top of a file.
fn uncommented(text: &str) -> &str {
    let mut rest = text;
    while let Some((line, below)) = rest.split_once('\n').filter(|(line, _)| line.is_empty() || line.starts_with('#')) {
        (_, rest) = (line, below);
    }
    rest
}

#[test]
fn the_form_has_the_six_parameters_in_three_languages() -> Result<()> {
    let spec = &manifest(FILES[1])?["spec"];
    let chart = &documents(&std::fs::read_to_string(file(CHART).join("values.yaml"))?)?[0];
    let config = spec["config"].as_object().context("no config")?;
    ensure!(config.len() == PARAMETERS.len());
    for form in ["deployDescriptors", "editDescriptors"] {
        let fields = spec[form].as_array().context("no form")?;
        ensure!(fields.len() == PARAMETERS.len());
        for (field, (shown, key)) in fields.iter().zip(PARAMETERS) {
            ensure!(field["path"] == key && field["displayName"] == shown, "{field}");
            let told: Vec<&str> =
                field["x-descriptors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let value = |what: &str| {
                let prefix = format!("urn:alm:descriptor:{what}:");
                told.iter().find_map(|text| text.strip_prefix(&prefix)).map(str::to_owned)
            };
            ensure!(value("label:en").as_deref() == Some(shown), "{field}");
            for language in ["en", "zh", "ru"] {
                let label =
                    value(&format!("label:{language}")).with_context(|| format!("{key}: no {language} label"))?;
                let text =
                    value(&format!("description:{language}")).with_context(|| format!("{key}: no {language}"))?;
                // The platform takes descriptors apart at colons.
                ensure!(!label.contains(':') && !text.contains(':') && text.len() > 20, "{key}: {label} {text}");
                let ascii = label.is_ascii() && text.is_ascii();
                ensure!(ascii == (language == "en"), "{key}: is that {language}? {label} {text}");
            }
            // The form, the plugin and the chart agree.
            ensure!(config[key] == chart[key], "{key}: the chart's default is another one");
            if let Some(default) = value("com.tectonic.default") {
                let known = config[key].to_string();
                ensure!(default == known, "{key}: the form's default is another one");
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_filled_in_reaches_the_chart() -> Result<()> {
    // The example, with another value for each of what it leaves at the default.
    let mut filled = manifest(FILES[2])?["spec"].clone();
    filled["config"]["monitor_check_interval"] = json!(5);
    filled["config"]["detail"] = json!(true);
    filled["config"]["active_cluster_token_secret_ref"] = json!("primary-global-token");
    let map = configured(&rendered(&filled)?)?;
    for told in [
        "https://192.0.2.11:2379",
        "https://198.51.100.13:2379",
        "active-cluster-vip: 192.0.2.10",
        "active-cluster-token-file",
        "check-interval: 5m",
        "detail: true",
        "encryption-config",
    ] {
        ensure!(map.contains(told), "{told} is missing:\n{map}");
    }
    // As kubectl users do: only what is needed.
    let map = configured(&rendered(&json!({"config": {"active_cluster_vip": "192.0.2.10"}}))?)?;
    ensure!(map.contains("https://192.0.2.10:2379") && map.contains("check-interval: 1m"), "{map}");
    Ok(())
}

#[test]
fn what_the_form_lacks_reaches_the_chart_too() -> Result<()> {
    let example = documents(&whole_example()?)?.into_iter().next().context("it is empty")?;
    let objects = rendered(&example["spec"])?;
    object(&objects, "CronJob", "etcd-sync-drill")?;
    let map = configured(&objects)?;
    ensure!(map.contains("leader-ttl: 15s"), "{map}");
    // The form's are still there.
    ensure!(map.contains("https://192.0.2.11:2379") && map.contains("encryption-config"), "{map}");
    Ok(())
}

/// The example with the lines that people may want.
fn whole_example() -> Result<String> {
    let text = std::fs::read_to_string(path(FILES[2]))?;
    let (head, rest) = text.split_once("\n  #valuesOverride:").context("the example shows valuesOverride")?;
    Ok(format!("{head}\n  valuesOverride:{}", rest.replace("\n  #", "\n  ")))
}

/// What is installed for a ModuleInfo with this spec. The platform's templates are Go templates with other brackets, so helm
/// plays the platform, and lays spec.valuesOverride over what the template gives.
fn rendered(filled: &Value) -> Result<Vec<Value>> {
    let helm = Helm::new()?;
    let spec = &manifest(FILES[1])?["spec"];
    let main = spec["mainChart"].as_str().context("no main chart")?;
    let template = spec["valuesTemplates"][main].as_str().context("no template for the chart")?;
    let template = template.replace("<<", "{{").replace(">>", "}}");
    let template =
        template.replace(" .MiConfig", " .Values.MiConfig").replace(" .RegistryAddress", " .Values.RegistryAddress");
    let platform = helm.home().join("platform");
    std::fs::create_dir_all(platform.join("templates"))?;
    std::fs::write(platform.join("Chart.yaml"), "{apiVersion: v2, name: platform, version: 0.0.1}")?;
    std::fs::write(platform.join("templates/values.yaml"), template)?;
    let known = json!({"MiConfig": filled["config"], "RegistryAddress": "registry.example.com:11443"});
    let known = helm.values("platform.yaml", &known.to_string())?;
    let output = helm.run(&["template", &platform.to_string_lossy(), "--values", &known.to_string_lossy()])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let values = helm.values("values.yaml", &String::from_utf8(output.stdout)?)?;
    let over = filled.get("valuesOverride").and_then(|over| over.get(main)).cloned().unwrap_or(json!({}));
    let over = helm.values("override.yaml", &over.to_string())?;
    let args = ["--values", &values.to_string_lossy(), "--values", &over.to_string_lossy()];
    let objects = helm.render(NAMESPACE, &args)?;
    let pod = &object(&objects, "Deployment", "etcd-sync")?["spec"]["template"]["spec"];
    let image = format!("registry.example.com:11443/etcd-sync:{}", env!("CARGO_PKG_VERSION"));
    ensure!(pod["containers"][0]["image"] == image, "{pod}");
    Ok(objects)
}

/// What both programs read.
fn configured(objects: &[Value]) -> Result<String> {
    let map = object(objects, "ConfigMap", "etcd-sync")?;
    Ok(map["data"]["config.yaml"].as_str().context("no config.yaml")?.to_owned())
}

fn manifest(name: &str) -> Result<Value> {
    let text = std::fs::read_to_string(path(name))?;
    documents(&text)?.into_iter().next().with_context(|| format!("{name} is empty"))
}

fn path(name: &str) -> PathBuf {
    file("charts/acp-plugin").join(name)
}
