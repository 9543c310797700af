//! The rules that keep the structure true, checked on the sources themselves.
//!
//! CONTRIBUTING.md explains them. A violation names file, line and rule.

mod documents;
mod manifest;
mod rules;
mod source;

use std::path::{Path, PathBuf};

use crate::{
    manifest::{EDITION_2024, Metadata},
    rules::Violation,
    source::Source,
};

#[test]
fn files_import_only_from_floors_below_their_own() {
    assert_rule(rules::floors);
}

#[test]
fn unsafe_stands_only_in_sys() {
    assert_rule(rules::unsafe_only_in_sys);
}

#[test]
fn the_library_never_ends_the_process() {
    assert_rule(rules::no_exit);
}

#[test]
fn tests_do_not_sleep() {
    assert_rule(rules::no_sleeps);
}

/// The library states the oldest compiler that its dependencies allow, neither an older nor a newer one.
#[test]
fn rust_version_is_what_the_dependencies_need() {
    let metadata = Metadata::read(&root());
    let needed = metadata.needed_by("handover");
    let (newest, version) = needed
        .iter()
        .filter_map(|(name, version)| Some((name.as_str(), (*version)?)))
        .max_by_key(|(_, version)| *version)
        .filter(|(_, version)| *version > EDITION_2024)
        .unwrap_or(("edition 2024", EDITION_2024));
    assert_eq!(
        metadata.rust_version("handover"),
        version,
        "rust-version in Cargo.toml is not what {newest} needs"
    );
}

#[test]
fn every_feature_is_explained_in_the_crate_documentation() {
    let features: Vec<String> = Metadata::read(&root())
        .features("handover")
        .into_iter()
        .map(|feature| format!("`{feature}`"))
        .collect();
    let text = documents::read(&root(), "src/lib.rs");
    assert_none(documents::unmentioned("src/lib.rs", &text, &features));
}

#[test]
fn every_example_and_document_is_in_the_readme() {
    let mut names = Vec::new();
    for path in files("examples", ".rs") {
        let example = path
            .trim_start_matches("examples/")
            .trim_end_matches(".rs")
            .trim_end_matches("/main");
        if !example.contains('/') {
            names.push(format!("--example {example}"));
        }
    }
    names.extend(files("docs", ".md"));
    names.extend(
        [
            "CHANGELOG.md",
            "CONTRIBUTING.md",
            "LICENSE-APACHE",
            "LICENSE-MIT",
        ]
        .map(str::to_owned),
    );
    let readme = documents::read(&root(), "README.md");
    assert_none(documents::unmentioned("README.md", &readme, &names));
}

/// An operator can look up each line of the log, and filter by each part of the library.
#[test]
fn every_message_of_the_log_and_every_target_is_documented() {
    let log = documents::read(&root(), "docs/logs.md").replace('`', "");
    let macros = documents::read(&root(), "src/sys/log.rs");
    let mut broken = Vec::new();
    for path in rust_files()
        .into_iter()
        .filter(|path| path.starts_with("src/"))
    {
        let text = documents::read(&root(), &path);
        let messages = documents::logged(&text);
        broken.extend(documents::unmentioned("docs/logs.md", &log, &messages));
        let floor = path.split('/').nth(1).unwrap_or_default();
        if text.contains("log::") && !floor.ends_with(".rs") && floor != "bin" {
            let target = [format!("handover::{floor}")];
            broken.extend(documents::unmentioned("docs/logs.md", &log, &target));
            broken.extend(documents::unmentioned("src/sys/log.rs", &macros, &target));
        }
    }
    assert_none(broken);
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut dead = Vec::new();
    for path in files("", ".md") {
        dead.extend(documents::dead_links(&root(), &path));
    }
    assert_none(dead);
}

/// What a fresh machine lacks is installed where it is tested.
#[test]
fn programs_that_tests_start_are_installed_by_ci() {
    // In every Debian installation, or with the compiler.
    const EVERYWHERE: &[&str] = &[
        "bash", "cargo", "cat", "chmod", "cp", "env", "false", "ln", "mkdir", "mv", "rm", "rustc",
        "setpriv", "sh", "sleep", "stty", "true",
    ];
    let script = documents::read(&root(), ".ci/run");
    let mut missing = Vec::new();
    for path in files("tests", ".rs")
        .into_iter()
        .filter(|path| !path.starts_with("tests/structure/"))
    {
        let text = documents::read(&root(), &path);
        for program in documents::started_programs(&text) {
            if !EVERYWHERE.contains(&program) && !script.contains(&format!("{program}=")) {
                missing.push(format!(
                    "{path} starts `{program}`, which .ci/run does not install"
                ));
            }
        }
    }
    assert_none(missing);
}

/// A rule over nothing holds; so the files that the rules are about must be there.
#[test]
fn the_sources_are_found() {
    let sources = rust_files();
    for part in ["src/", "macros/src/", "tests/"] {
        assert!(
            sources.iter().any(|path| path.starts_with(part)),
            "no file found in {part}"
        );
    }
}

fn assert_rule(rule: fn(&Source) -> Vec<Violation>) {
    let root = root();
    let mut sources: Vec<Source> = rust_files()
        .iter()
        .map(|path| Source::read(&root, path))
        .collect();
    let test_modules: Vec<String> = sources
        .iter()
        .flat_map(|source| source.test_modules.clone())
        .collect();
    let mut broken = Vec::new();
    for source in &mut sources {
        source.mark_as_tests(&test_modules);
        broken.extend(rule(source).iter().map(ToString::to_string));
    }
    assert_none(broken);
}

fn assert_none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

fn rust_files() -> Vec<String> {
    let mut paths = files("", ".rs");
    // Inputs of the macro's tests are wrong on purpose.
    paths.retain(|path| !path.contains("/ui/"));
    paths
}

/// The files of the workspace below `folder` whose names end in `ending`, from the root, sorted.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.join(folder)];
    while let Some(folder) = open.pop() {
        // A folder that does not exist has no files.
        for entry in folder.read_dir().into_iter().flatten() {
            let entry = entry.expect("the entry can be read");
            let name = entry
                .file_name()
                .into_string()
                .expect("our names are UTF-8");
            let path = entry.path();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    open.push(path);
                }
            } else if name.ends_with(ending) {
                let path = path
                    .strip_prefix(&root)
                    .expect("it was found below the root");
                found.push(path.to_str().expect("our names are UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace exists")
}
