//! Holds what the documentation of src/lib.rs states: who may import whom, and where the outside world is touched. Reads the sources; needs only std.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file of more lines has more than one subject.
const LINES_MAX: usize = 900;

/// A source file.
struct Source {
    /// From src, with `/`.
    path: String,
    text: String,
    /// Without comments, tests and the content of literals; lines keep their places.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = without_tests(&without_comments(text));
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// The top-level module that the file belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Whether the file has tests only, or helps them.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/") || self.path.ends_with("/testing.rs")
    }

    /// Lines of code with a word, 1-based.
    fn lines_with<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.lines().enumerate().filter(move |(_, line)| has_word(line, word)).map(|(index, _)| index + 1)
    }
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    line.match_indices(word).any(|(at, _)| {
        let bytes = line.as_bytes();
        let after = bytes.get(at + word.len());
        !part_of_name(at.checked_sub(1).and_then(|before| bytes.get(before))) && (word.ends_with(['!', ':']) || !part_of_name(after))
    })
}

/// The text with comments and the content of string and character literals blanked.
fn without_comments(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let blank = |out: &mut Vec<u8>, from: usize, to: usize| {
        out[from..to].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let named = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let (from, end) = if rest.starts_with(b"//") {
            (at, find(bytes, at, b"\n").unwrap_or(bytes.len()))
        } else if rest.starts_with(b"/*") {
            (at, find(bytes, at, b"*/").map_or(bytes.len(), |end| end + 2))
        } else if rest[0] == b'r' && matches!(rest.get(1), Some(b'"' | b'#')) && !(named && bytes[at - 1] != b'b') {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                at += 1;
                continue;
            }
            let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
            (at, find(bytes, at + hashes + 2, &close).map_or(bytes.len(), |end| end + close.len()))
        } else if rest[0] == b'"' {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            (at, (end + 1).min(bytes.len()))
        } else if rest[0] == b'\'' && rest.get(1) == Some(&b'\\') {
            (at, find(bytes, at + 3, b"'").map_or(bytes.len(), |end| end + 1))
        } else if rest[0] == b'\'' && text[at + 1..].chars().nth(1) == Some('\'') {
            (at, at + 2 + text[at + 1..].chars().next().map_or(0, char::len_utf8))
        } else {
            at += 1;
            continue;
        };
        blank(&mut out, from, end);
        at = end;
    }
    String::from_utf8(out).expect("whole characters are blanked")
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

/// Code (without comments) with the bodies of `#[cfg(test)] mod … { … }` blanked.
fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]").map(|at| from + at) {
        let item = at + "#[cfg(test)]".len();
        from = item;
        let body = code[item..].find(['{', ';']).map(|found| item + found);
        let Some(open) = body.filter(|open| out[*open] == b'{' && code[item..].trim_start().starts_with("mod ")) else { continue };
        let mut depth = 0;
        let close = code[open..].bytes().position(|byte| {
            depth += i32::from(byte == b'{') - i32::from(byte == b'}');
            depth == 0
        });
        from = close.map_or(code.len(), |close| open + close);
        out[open..from].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    String::from_utf8(out).expect("whole characters are blanked")
}

/// The top-level modules that code names by `crate::` (in main.rs: `dynamic_cep::`).
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "dynamic_cep::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            let Some(group) = rest.strip_prefix('{') else {
                found.insert(name(rest));
                continue;
            };
            let mut depth = 0;
            let mut start = true;
            for (at, character) in group.char_indices() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    _ if start && !character.is_whitespace() => {
                        found.insert(name(&group[at..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        }
    }
    found
}

fn name(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

/// The import table of src/lib.rs: each module with those it may import.
fn table(documentation: &str) -> Vec<(String, BTreeSet<String>)> {
    let rows = documentation.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let table: Vec<_> = rows
        .map(|row| {
            let mut cells = row.split('|');
            let module = cells.next().unwrap_or_default().trim().trim_matches('`').to_owned();
            let may = cells.next().unwrap_or_default().split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (module, may)
        })
        .collect();
    assert!(table.len() > 10, "src/lib.rs has an import table");
    table
}

fn wrong_imports(source: &Source, table: &[(String, BTreeSet<String>)]) -> Vec<String> {
    let module = source.module();
    if source.is_test() || matches!(module, "lib" | "main") {
        return Vec::new();
    }
    let Some((_, may)) = table.iter().find(|(name, _)| name == module) else {
        return vec![format!("{}: the import table of src/lib.rs does not have the module {module}", source.path)];
    };
    let mut imported = imports(&source.code);
    imported.remove(module);
    imported.iter().filter(|import| !may.contains(*import)).map(|import| format!("{}: imports {import}", source.path)).collect()
}

/// Words of the outside world, and where they may stand: paths from src, by their beginning.
const PLACES: [(&[&str], &[&str]); 13] = [
    (&["println!", "eprintln!", "print!", "eprint!", "dbg!", "process::exit"], &["main.rs"]),
    (&["wgpu", "pollster"], &["matcher/gpu/"]),
    (&["Instant::now", "SystemTime"], &["command/", "connector/kafka/", "main.rs", "engine/router/gpu.rs", "matcher/gpu/", "service/"]),
    (
        &["std::fs", "File::open", "File::create"],
        &[
            "command/",
            "connector/",
            "service/journal.rs",
            "service/jwt.rs",
            "service/kafka/schemas.rs",
            "service/scorer.rs",
            "service/store.rs",
            "tables/artifact.rs",
        ],
    ),
    (&["std::net", "std::process", "std::env", "env::var", "env::var_os"], &["command/", "connector/", "main.rs", "service/"]),
    (&["todo!", "unimplemented!"], &[]),
    (&["rdkafka"], &["connector/kafka/"]),
    (&["arrow_flight", "tonic"], &["service/flight.rs"]),
    (&["object_store", "reqwest"], &["connector/store/s3.rs"]),
    (&["axum", "sqlx", "prometheus_client", "getrandom", "jsonwebtoken"], &["service/", "command/audit.rs"]),
    (&["tokio_rustls"], &["service/", "connector/store/s3.rs"]),
    (&["tokio"], &["service/", "command/audit.rs", "command/serve.rs", "connector/store/s3.rs"]),
    (&["clap", "indicatif", "tracing_subscriber"], &["main.rs", "command/"]),
];

fn wrong_places(source: &Source) -> Vec<String> {
    if source.is_test() {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (words, places) in PLACES {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for word in words {
            wrong.extend(source.lines_with(word).map(|line| format!("{}:{line}: {word}", source.path)));
        }
    }
    wrong
}

/// `unsafe` without a word about why it is sound, notes of things left undone, and files too long.
fn wrong_style(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut wrong = Vec::new();
    for line in source.lines_with("unsafe") {
        let near = &lines[line.saturating_sub(4)..line];
        if !near.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
            wrong.push(format!("{}:{line}: unsafe without a SAFETY comment", source.path));
        }
    }
    for (index, line) in lines.iter().enumerate() {
        for note in ["TODO", "FIXME", "XXX"] {
            if has_word(line, note) {
                wrong.push(format!("{}:{}: {note}", source.path, index + 1));
            }
        }
    }
    if lines.len() > LINES_MAX {
        wrong.push(format!("{}: {} lines", source.path, lines.len()));
    }
    wrong
}

fn sources() -> Vec<Source> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let read = |path: &PathBuf| {
        let name: Vec<_> = path.strip_prefix(&root).expect("a path in src").iter().map(|part| part.to_string_lossy()).collect();
        Source::new(&name.join("/"), &std::fs::read_to_string(path).expect("a source"))
    };
    paths.iter().map(read).collect()
}

fn documented_table() -> Vec<(String, BTreeSet<String>)> {
    table(&sources().iter().find(|source| source.path == "lib.rs").expect("src/lib.rs").text)
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let table = documented_table();
    let wrong: Vec<String> = sources().iter().flat_map(|source| wrong_imports(source, &table)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_says_no_more_than_is_so() {
    let sources = sources();
    for (module, may) in documented_table() {
        let own: Vec<&Source> = sources.iter().filter(|source| source.module() == module).collect();
        assert!(!own.is_empty(), "there is no module {module}");
        let imported: BTreeSet<String> = own.iter().filter(|source| !source.is_test()).flat_map(|source| imports(&source.code)).collect();
        let unused: Vec<&String> = may.difference(&imported).collect();
        assert!(unused.is_empty(), "{module} does not import {unused:?}");
    }
}

#[test]
fn the_outside_world_is_touched_only_in_its_places() {
    let wrong: Vec<String> = sources().iter().flat_map(wrong_places).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sources_are_finished_and_say_why_they_are_sound() {
    let wrong: Vec<String> = sources().iter().flat_map(wrong_style).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn planted_violations_are_caught() {
    let table = documented_table();
    let wrong_imports = |path: &str, text: &str| wrong_imports(&Source::new(path, text), &table).len();
    assert_eq!(wrong_imports("tables/layout.rs", "use crate::rule::Limits;"), 1);
    assert_eq!(wrong_imports("engine/mod.rs", "use crate::{event::{self, Value}, compile, rule::ast};"), 2);
    assert_eq!(wrong_imports("encode.rs", "fn f() { crate::matcher::cpu::candidates() }"), 1);
    assert_eq!(wrong_imports("unknown/mod.rs", ""), 1);
    assert_eq!(wrong_imports("encode.rs", "// crate::matcher\nconst A: &str = \"crate::matcher\"; /* crate::rule */"), 0);
    assert_eq!(wrong_imports("encode.rs", "#[cfg(test)]\nmod tests {\n use crate::rule; fn f() {}\n}\nuse crate::matcher;"), 1);

    let wrong_places = |path: &str, text: &str| wrong_places(&Source::new(path, text)).len();
    assert_eq!(wrong_places("engine/mod.rs", "fn f() { println!(\"x\"); std::process::exit(1) }"), 3, "print, exit, process");
    assert_eq!(wrong_places("encode.rs", "use wgpu::Device;\nfn f() { let now = std::time::Instant::now(); }"), 2);
    assert_eq!(wrong_places("rule/mod.rs", "fn f() { todo!() }\nfn g() { std::fs::read(\"x\") }\nenum E { Instant }"), 2);
    assert_eq!(wrong_places("rule/tests.rs", "fn f() { println!(\"x\") }"), 0);

    let wrong_style = |text: &str| wrong_style(&Source::new("event/mod.rs", text)).len();
    assert_eq!(wrong_style("fn f() { unsafe { g() } }"), 1);
    assert_eq!(wrong_style("// SAFETY: g is sound.\n//\n\nfn f() { unsafe { g() } }"), 0);
    assert_eq!(wrong_style("// SAFETY: too far away.\n\n\n\nfn f() { unsafe { g() } }"), 1);
    assert_eq!(wrong_style(&format!("// {}: later", ["TO", "DO"].concat())), 1);
    assert_eq!(wrong_style(&"\n".repeat(LINES_MAX + 1)), 1);
    assert_eq!(wrong_style("const A: char = '\"'; const B: &str = r#\"unsafe \"#; fn f<'a>() {} // unsafe"), 0);
}
