//! What the documents promise of the tree, and the tree of the documents.

use std::path::Path;

/// Relative links of a Markdown text, without their fragment.
pub(crate) fn relative_links(markdown: &str) -> Vec<&str> {
    markdown
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .map(|link| link.split('#').next().unwrap_or(link))
        .filter(|link| !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:"))
        .collect()
}

/// The links of the document at `path` that lead nowhere.
pub(crate) fn dead_links(root: &Path, path: &str) -> Vec<String> {
    let text = read(root, path);
    let folder = root
        .join(path)
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    relative_links(&text)
        .into_iter()
        .filter(|link| !folder.join(link).exists())
        .map(|link| format!("{path}: the link to `{link}` leads nowhere"))
        .collect()
}

/// The names of `names` that `document` does not mention.
pub(crate) fn unmentioned(document: &str, text: &str, names: &[String]) -> Vec<String> {
    names
        .iter()
        .filter(|name| !text.contains(name.as_str()))
        .map(|name| format!("{document} does not mention `{name}`"))
        .collect()
}

/// The programs that a Rust text starts by name: the literals in `Command::new("…")`.
pub(crate) fn started_programs(text: &str) -> Vec<&str> {
    text.split("Command::new(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|program| !program.contains('/'))
        .collect()
}

/// What a Rust text logs for an operator: the fixed parts of the messages at INFO and above.
pub(crate) fn logged(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for level in ["info", "warn", "error"] {
        let call = format!("log::{level}!(");
        let events = text.split(&call).skip(1);
        // The message is the last literal of the call.
        for event in events.filter_map(|rest| rest.split(");\n").next()) {
            let event = event.split("),\n").next().unwrap_or(event);
            let Some(message) = event.rsplit('"').nth(1) else {
                continue;
            };
            // A line that goes on begins where the text does.
            let message: Vec<_> = message
                .split("\\\n")
                .enumerate()
                .map(|(line, text)| if line == 0 { text } else { text.trim_start() })
                .collect();
            let message = message.concat();
            let fixed = message.split(['{', '}']).step_by(2);
            let fixed = fixed.map(|part| part.trim_matches([' ', ':']).replace('`', ""));
            parts.extend(fixed.filter(|part| !part.is_empty()));
        }
    }
    parts
}

pub(crate) fn read(root: &Path, path: &str) -> String {
    std::fs::read_to_string(root.join(path))
        .unwrap_or_else(|error| panic!("could not read {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_into_the_tree_are_relative() {
        let text =
            "[a](docs/a.md#part) [b](https://example.com/x) [c](#here) ![d](img/d.png \"title\")";
        assert_eq!(relative_links(text), ["docs/a.md", "img/d.png"]);
    }

    #[test]
    fn a_dead_link_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("A.md"), "[b](B.md) [a](A.md)").unwrap();
        assert_eq!(
            dead_links(folder.path(), "A.md"),
            ["A.md: the link to `B.md` leads nowhere"]
        );
    }

    #[test]
    fn messages_are_found_without_what_varies() {
        let text = r#"
            log::info!(socket; endpoint = "a", "ready");
            log::warn!("{error}");
            Err(error) => log::error!(%error, "{how} while `it` serves: {why}"),
            log::debug!("not this");
            log::warn!(
                "a long \
                 line"
            );
        "#;
        assert_eq!(logged(text), ["ready", "a long line", "while it serves"]);
    }

    #[test]
    fn programs_are_found_by_name() {
        let text = r#"Command::new("wrk"); Command::new(path); Command::new("/bin/sh")"#;
        assert_eq!(started_programs(text), ["wrk"]);
    }
}
