//! CRDs that come, change and go on the primary: the standby's API server follows at once.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{APPS, GROUP, crd, custom, namespace};
use etcd_sync_integration::kube::{KubePair, PairOptions, path};
use serde_json::{Value, json};

const OBJECTS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_resources_are_served_as_they_come_change_and_go() -> Result<()> {
    let pair = KubePair::start(PairOptions::new()).await?;
    let primary = pair.primary.api();
    primary.create(&namespace(APPS)).await?;
    define(&pair, "Former").await?;
    fill(&pair, "Former").await?;
    let daemon = pair.sync(&[]).await?;
    let outcome = async {
        follows(&pair, "CRDs and objects of the first sync", || served(&pair, "formers", "v1", OBJECTS)).await?;

        define(&pair, "Later").await?;
        fill(&pair, "Later").await?;
        follows(&pair, "a new CRD with objects", || served(&pair, "laters", "v1", OBJECTS)).await?;
        // The list of kinds that kubectl asks first is another controller's, and follows.
        await_until("kubectl shows them", PATIENCE, || async {
            let shown = pair.standby.kubectl(&["get", "laters", "-n", APPS, "-o", "name"]).await;
            let count = shown.map(|shown| shown.lines().count()).map_err(|error| error.to_string());
            Ok((count != Ok(OBJECTS)).then(|| format!("{count:?}")))
        })
        .await?;

        change(&pair).await?;
        let coloured = format!("/apis/{GROUP}/v2/namespaces/{APPS}/laters/coloured");
        follows(&pair, "a new version and a new field", || async {
            let object = pair.standby.api().get(&coloured).await?.context("it is not served")?;
            ensure!(object["spec"]["colour"] == "green", "the field is absent");
            Ok(())
        })
        .await?;
        follows(&pair, "all objects in the new version", || served(&pair, "laters", "v2", OBJECTS + 1)).await?;

        let name = path(&crd("Later", "Namespaced"))?;
        primary.delete(&name).await?;
        follows(&pair, "the end of a CRD", || async {
            ensure!(primary.get(&name).await?.is_none(), "the primary still has it");
            ensure!(pair.standby.api().get(&name).await?.is_none(), "the standby still has it");
            let served = pair.standby.api().get(&format!("/apis/{GROUP}/v1/laters")).await?;
            ensure!(served.is_none(), "it is still served");
            Ok(())
        })
        .await?;
        let left = pair.standby_keys().await?;
        ensure!(!left.keys().any(|key| key.starts_with(b"/registry/dr.example.com/laters/")), "objects are left");
        served(&pair, "formers", "v1", OBJECTS).await?;
        pair.await_same(PATIENCE).await
    };
    pair.explain(Some(&daemon), outcome.await)
}

/// A CRD whose spec has one field; others are pruned.
async fn define(pair: &KubePair, kind: &str) -> Result<()> {
    let mut definition = crd(kind, "Namespaced");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "properties": {"size": {"type": "integer"}}});
    pair.primary.api().create(&definition).await?;
    let plural = format!("{}s", kind.to_lowercase());
    await_until("the primary serves the new kind", PATIENCE, || async {
        let found = pair.primary.api().get(&format!("/apis/{GROUP}/v1/{plural}")).await?;
        Ok(found.is_none().then(|| "not found".to_owned()))
    })
    .await
}

async fn fill(pair: &KubePair, kind: &str) -> Result<()> {
    let objects: Vec<Value> =
        (0..OBJECTS).map(|number| custom(kind, APPS, &format!("object-{number:02}"), &[])).collect();
    pair.primary.api().create_all(&objects).await.map(drop)
}

/// A second version, which becomes the stored one, and a field in it; and an object that has it.
async fn change(pair: &KubePair) -> Result<()> {
    let api = pair.primary.api();
    let name = path(&crd("Later", "Namespaced"))?;
    let mut versions = api.need(&name).await?["spec"]["versions"].take();
    let mut second = versions[0].clone();
    versions[0]["storage"] = json!(false);
    second["name"] = json!("v2");
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["colour"] = json!({"type": "string"});
    versions.as_array_mut().context("a CRD has versions")?.push(second);
    api.patch(&name, &json!({"spec": {"versions": versions}})).await?;
    let mut object = custom("Later", APPS, "coloured", &[]);
    object["apiVersion"] = json!(format!("{GROUP}/v2"));
    object["spec"]["colour"] = json!("green");
    await_until("the primary takes the new field", PATIENCE, || async {
        let made = api.create(&object).await?;
        if made["spec"]["colour"] == "green" {
            return Ok(None);
        }
        // Made by a handler of before the change: pruned.
        api.delete(&path(&object)?).await?;
        Ok(Some("it is pruned".to_owned()))
    })
    .await
}

async fn served(pair: &KubePair, plural: &str, version: &str, count: usize) -> Result<()> {
    let listed = format!("/apis/{GROUP}/{version}/namespaces/{APPS}/{plural}");
    let found = pair.standby.api().get(&listed).await?.context("it is not served")?;
    let items = found["items"].as_array().map_or(0, Vec::len);
    ensure!(items == count, "{items} of {count} objects");
    Ok(())
}

async fn follows<C, F>(pair: &KubePair, what: &str, mut condition: C) -> Result<()>
where
    C: FnMut() -> F,
    F: Future<Output = Result<()>>,
{
    let begun = Instant::now();
    await_until(what, PATIENCE, || {
        let answer = condition();
        async move { answer.await.map(|()| None) }
    })
    .await?;
    println!("{what}: served after {:?}", begun.elapsed());
    pair.caught_up().await
}
