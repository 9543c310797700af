//! What Cargo knows of the workspace, and the promises that the manifests make.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

/// The workspace and all that it depends on, resolved with all features for this platform.
#[derive(Debug)]
pub(crate) struct Metadata(Value);

/// `major.minor.patch`, missing parts being 0.
pub(crate) type Version = (u64, u64, u64);

/// The first compiler that knows edition 2024.
pub(crate) const EDITION_2024: Version = (1, 85, 0);

impl Metadata {
    pub(crate) fn read(root: &Path) -> Self {
        let output = Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--format-version=1",
                "--all-features",
                "--locked",
            ])
            .arg(format!(
                "--filter-platform={}-unknown-linux-gnu",
                std::env::consts::ARCH
            ))
            .current_dir(root)
            .output()
            .expect("cargo runs, it runs this test");
        assert!(
            output.status.success(),
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON"))
    }

    /// The `rust-version` of a package of the workspace.
    pub(crate) fn rust_version(&self, package: &str) -> Version {
        let package = self.package(package);
        parse_version(
            package["rust_version"]
                .as_str()
                .expect("our packages have a rust-version"),
        )
    }

    /// Every package that a user of `package` compiles, itself excluded, with the compiler that it asks for.
    pub(crate) fn needed_by(&self, package: &str) -> BTreeMap<String, Option<Version>> {
        let packages: BTreeMap<&str, &Value> = self
            .array("packages")
            .map(|package| (text(&package["id"]), package))
            .collect();
        let dependencies: BTreeMap<&str, Vec<&str>> = array(&self.0["resolve"]["nodes"])
            .map(|node| {
                (
                    text(&node["id"]),
                    array(&node["deps"])
                        .filter(is_needed)
                        .map(|dep| text(&dep["pkg"]))
                        .collect(),
                )
            })
            .collect();

        let start = text(&self.package(package)["id"]);
        let mut seen = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(id) = open.pop() {
            open.extend(dependencies[id].iter().filter(|id| seen.insert(id)));
        }
        seen.into_iter()
            .filter(|id| *id != start)
            .map(|id| {
                let package = packages[id];
                let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
                (name, package["rust_version"].as_str().map(parse_version))
            })
            .collect()
    }

    /// The features of a package of the workspace, without `default` and `full`, which only name others.
    pub(crate) fn features(&self, package: &str) -> Vec<String> {
        let features = self.package(package)["features"]
            .as_object()
            .expect("features are a table");
        features
            .keys()
            .filter(|name| *name != "default" && *name != "full")
            .cloned()
            .collect()
    }

    fn package(&self, name: &str) -> &Value {
        self.array("packages")
            .find(|package| package["name"] == name && package["source"].is_null())
            .unwrap_or_else(|| panic!("the workspace has no package `{name}`"))
    }

    fn array(&self, key: &str) -> impl Iterator<Item = &Value> {
        array(&self.0[key])
    }
}

/// Neither only for tests nor only for another platform: the platform is filtered by Cargo.
fn is_needed(dependency: &&Value) -> bool {
    array(&dependency["dep_kinds"]).any(|kind| kind["kind"] != "dev")
}

fn parse_version(version: &str) -> Version {
    let mut parts = version
        .split('.')
        .map(|part| part.parse().expect("a rust-version has numbers"));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("an array of cargo metadata").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string of cargo metadata")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(parse_version("1.85"), (1, 85, 0));
        assert_eq!(parse_version("1.85.0"), EDITION_2024);
        assert!(parse_version("1.100") > parse_version("1.85.1"));
    }

    #[test]
    fn what_only_tests_need_is_not_needed() {
        let metadata: Value = serde_json::json!({
            "packages": [
                { "id": "ours", "name": "ours", "version": "1.0.0", "source": null },
                { "id": "used", "name": "used", "version": "1.1.0", "source": "registry", "rust_version": "1.86" },
                { "id": "deep", "name": "deep", "version": "1.2.0", "source": "registry", "rust_version": null },
                { "id": "test", "name": "test", "version": "1.3.0", "source": "registry", "rust_version": "1.90" },
            ],
            "resolve": { "nodes": [
                { "id": "ours", "deps": [
                    { "pkg": "used", "dep_kinds": [{ "kind": "dev" }, { "kind": null }] },
                    { "pkg": "test", "dep_kinds": [{ "kind": "dev" }] },
                ] },
                { "id": "used", "deps": [{ "pkg": "deep", "dep_kinds": [{ "kind": "build" }] }] },
                { "id": "deep", "deps": [] },
                { "id": "test", "deps": [] },
            ] },
        });
        assert_eq!(
            Metadata(metadata).needed_by("ours"),
            BTreeMap::from([
                ("used 1.1.0".to_owned(), Some((1, 86, 0))),
                ("deep 1.2.0".to_owned(), None)
            ])
        );
    }
}
