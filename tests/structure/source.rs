//! A Rust file as the rules see it: the paths that it mentions, with line and module.
//!
//! The file is read as tokens, not as text, so that comments and strings mention nothing, and not as a syntax
//! tree, so that what stands inside a macro call counts as well.

use std::{fmt, path::Path, str::FromStr};

use proc_macro2::{Delimiter, Ident, Spacing, TokenStream, TokenTree};

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the root of the workspace.
    pub(crate) path: String,
    /// Everything that looks like a path, from one identifier up, in the order of the file.
    pub(crate) mentions: Vec<Mention>,
    /// Modules in files of their own that are compiled only for tests, as paths without `.rs`.
    pub(crate) test_modules: Vec<String>,
    /// `#[path = "…"]`, which would make a module's place lie, by line.
    pub(crate) moved_modules: Vec<usize>,
}

/// One path in a file, such as `crate::net::Listener` or `unsafe`. A `use` with braces is several.
#[derive(Debug)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    /// The module that the path is written in, from the crate's root.
    module: Vec<String>,
    /// Whether it is compiled only for tests.
    pub(crate) in_tests: bool,
}

impl Source {
    /// Reads the file at `path` below `root`.
    pub(crate) fn read(root: &Path, path: &str) -> Self {
        let text = std::fs::read_to_string(root.join(path))
            .unwrap_or_else(|error| panic!("could not read {path}: {error}"));
        Self::parse(path, &text)
    }

    /// Reads `text` as if it stood in the file at `path`.
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let tokens = TokenStream::from_str(text)
            .unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
        let mut source = Self {
            path: path.to_owned(),
            mentions: Vec::new(),
            test_modules: Vec::new(),
            moved_modules: Vec::new(),
        };
        let in_tests =
            path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs");
        source.walk(tokens, &module_of(path), in_tests);
        source
    }

    /// Takes the file as one of tests if it belongs to one of these modules.
    pub(crate) fn mark_as_tests(&mut self, test_modules: &[String]) {
        let is_part_of = |module: &String| {
            let rest = self.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if test_modules.iter().any(is_part_of) {
            for mention in &mut self.mentions {
                mention.in_tests = true;
            }
        }
    }

    fn walk(&mut self, tokens: TokenStream, module: &[String], in_tests: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        // From an attribute `#[cfg(test)]` to the end of the item below it.
        let mut item_in_tests = in_tests;
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(hash) if hash.as_char() == '#' => {
                    at += 1;
                    if is_punct(tokens.get(at), '!') {
                        at += 1;
                    }
                    if let Some(TokenTree::Group(attribute)) = tokens.get(at) {
                        let line = attribute.span_open().start().line;
                        item_in_tests |= is_cfg_test(attribute.stream());
                        if is_path_attribute(attribute.stream()) {
                            self.moved_modules.push(line);
                        }
                        self.walk(attribute.stream(), module, item_in_tests);
                        at += 1;
                    }
                }
                TokenTree::Ident(keyword) if keyword == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (tokens.get(at + 1), tokens.get(at + 2))
                    {
                        let mut inner = module.to_vec();
                        inner.push(name.to_string());
                        self.walk(body.stream(), &inner, item_in_tests);
                        item_in_tests = in_tests;
                        at += 3;
                    } else {
                        if let (true, Some(TokenTree::Ident(name))) =
                            (item_in_tests, tokens.get(at + 1))
                        {
                            let folder = module_file(&self.path);
                            self.test_modules.push(format!("{folder}/{name}"));
                        }
                        at += 1;
                    }
                }
                TokenTree::Ident(_) => {
                    at = self.path(&tokens, at, Vec::new(), module, item_in_tests);
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream(), module, item_in_tests);
                    if group.delimiter() == Delimiter::Brace {
                        item_in_tests = in_tests;
                    }
                    at += 1;
                }
                TokenTree::Punct(punct) => {
                    if punct.as_char() == ';' {
                        item_in_tests = in_tests;
                    }
                    at += 1;
                }
                TokenTree::Literal(_) => at += 1,
            }
        }
    }

    /// Takes the path that starts at `at`, and with it the branches of a `use` tree; returns where it ends.
    fn path(
        &mut self,
        tokens: &[TokenTree],
        mut at: usize,
        mut segments: Vec<String>,
        module: &[String],
        in_tests: bool,
    ) -> usize {
        let mut line = 0;
        while let Some(TokenTree::Ident(segment)) = tokens.get(at) {
            line = segment.span().start().line;
            segments.push(name(segment));
            at += 1;
            if !is_path_separator(tokens, at) {
                break;
            }
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(_)) => at += 2,
                Some(TokenTree::Group(branches)) if branches.delimiter() == Delimiter::Brace => {
                    let branches: Vec<TokenTree> = branches.stream().into_iter().collect();
                    for branch in branches.split(|token| is_punct(Some(token), ',')) {
                        self.path(branch, 0, segments.clone(), module, in_tests);
                    }
                    return at + 3;
                }
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                    segments.push("*".to_owned());
                    at += 3;
                    break;
                }
                _ => break,
            }
        }
        if line == 0 && is_punct(tokens.get(at), '*') {
            line = tokens[at].span().start().line;
            segments.push("*".to_owned());
            at += 1;
        }
        if line > 0 {
            self.mentions.push(Mention {
                line,
                segments,
                module: module.to_vec(),
                in_tests,
            });
        }
        at
    }
}

impl Mention {
    /// The path from the crate's root, if it is one into this crate.
    pub(crate) fn in_crate(&self) -> Option<Vec<String>> {
        let first = self.segments.first()?.as_str();
        let (mut base, mut rest) = match first {
            "crate" => (Vec::new(), &self.segments[1..]),
            "self" => (self.module.clone(), &self.segments[1..]),
            "super" => (self.module.clone(), &self.segments[..]),
            _ => return None,
        };
        while let Some("super") = rest.first().map(String::as_str) {
            base.pop();
            rest = &rest[1..];
        }
        // Without more it is a visibility, such as `pub(crate)`.
        if rest.is_empty() {
            return None;
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// Whether `path`, such as `process::exit`, stands anywhere in it.
    pub(crate) fn contains(&self, path: &str) -> bool {
        let wanted: Vec<&str> = path.split("::").collect();
        self.segments
            .windows(wanted.len())
            .any(|window| window == wanted)
    }

    /// Whether it starts with `path`.
    pub(crate) fn starts_with(&self, path: &str) -> bool {
        let mut segments = self.segments.iter();
        path.split("::")
            .all(|wanted| segments.next().is_some_and(|segment| segment == wanted))
    }
}

impl fmt::Display for Mention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segments.join("::"))
    }
}

/// `src/net/listener.rs` is `net::listener`; `src/net/mod.rs` is `net`; `src/lib.rs` is the root.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let mut module: Vec<String> = inside
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if matches!(
        module.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        module.pop();
    }
    module
}

/// The folder in which the modules of a file have theirs.
fn module_file(path: &str) -> &str {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    ["/mod", "/lib", "/main"]
        .iter()
        .find_map(|root| path.strip_suffix(root))
        .unwrap_or(path)
}

fn name(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
        && is_punct(tokens.get(at + 1), ':')
}

/// `cfg(test)` and `cfg(all(test, …))`, but not `cfg(not(test))`.
fn is_cfg_test(attribute: TokenStream) -> bool {
    let mut tokens = attribute.into_iter();
    let is_cfg = matches!(tokens.next(), Some(TokenTree::Ident(cfg)) if cfg == "cfg");
    match tokens.next() {
        Some(TokenTree::Group(condition)) if is_cfg => requires_test(condition.stream()),
        _ => false,
    }
}

fn requires_test(condition: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = condition.into_iter().collect();
    tokens.iter().enumerate().any(|(at, token)| match token {
        TokenTree::Ident(name) if name == "test" => true,
        TokenTree::Ident(name) if name == "all" => {
            matches!(tokens.get(at + 1), Some(TokenTree::Group(inner)) if requires_test(inner.stream()))
        }
        _ => false,
    })
}

fn is_path_attribute(attribute: TokenStream) -> bool {
    let mut tokens = attribute.into_iter();
    matches!(tokens.next(), Some(TokenTree::Ident(path)) if path == "path")
        && matches!(tokens.next(), Some(TokenTree::Punct(equals)) if equals.as_char() == '=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_of_tests_in_a_file_of_its_own_is_known() {
        let parent = Source::parse(
            "src/protocol/mod.rs",
            "mod codec; #[cfg(test)] mod explore; mod offer;",
        );
        assert_eq!(parent.test_modules, ["src/protocol/explore"]);
        for (path, is_test) in [
            ("src/protocol/explore.rs", true),
            ("src/protocol/explore/search.rs", true),
            ("src/protocol/explorer.rs", false),
        ] {
            let mut source = Source::parse(path, "use std::time::Instant;");
            source.mark_as_tests(&parent.test_modules);
            assert_eq!(source.mentions[0].in_tests, is_test, "{path}");
        }
        let file = Source::parse("src/socket/store.rs", "#[cfg(test)]\nmod tests;");
        assert_eq!(file.test_modules, ["src/socket/store/tests"]);
    }
}
