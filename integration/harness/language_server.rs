//! yaml-language-server, the engine of the YAML extension of VS Code, as an editor talks to it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::debian::{cache, lock};
use super::tools::{command, have, output, skip, transcript};

/// Runs on Node.js 18, the one of Debian 12; version 2 wants 22.
const VERSION: &str = "1.25.0";

/// A running server with one open document. It ends with this.
pub(crate) struct Server {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Our schema for every file, or none where files name their own.
    schema: Option<PathBuf>,
    last_id: u64,
    documents: usize,
}

/// A place in a document: line and column from 0.
pub(crate) type Position = (u64, u64);

/// Something that the server underlines.
#[derive(Debug)]
pub(crate) struct Diagnostic {
    pub(crate) from: Position,
    pub(crate) to: Position,
    pub(crate) message: String,
}

/// Something that the server offers at a place.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) label: String,
    /// What is inserted, with `$1` or `${1:…}` where the cursor goes.
    pub(crate) text: String,
    pub(crate) about: String,
}

/// The folder of the package, installed once with npm; `None` (said on stderr) where it cannot be had.
fn installed() -> Option<PathBuf> {
    if !have(&["node", "npm"]) {
        return None;
    }
    let name = format!("yaml-language-server-{VERSION}");
    let done = cache().join(&name);
    let _lock = lock(&name);
    if !done.exists() {
        let partial = cache().join(format!("{name}.partial"));
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).unwrap();
        let said = output(
            command("npm")
                .args(["install", "--no-save", "--no-audit", "--no-fund"])
                .args(["--ignore-scripts", "--prefix"])
                .arg(&partial)
                .arg(format!("yaml-language-server@{VERSION}")),
        );
        if !said.status.success() {
            skip(&format!("npm failed\n{}", transcript(&said)));
            return None;
        }
        fs::rename(&partial, &done).unwrap();
    }
    Some(done.join("node_modules/yaml-language-server"))
}

impl Server {
    /// A server that holds every file against this schema, or against what its modeline names.
    pub(crate) fn start(schema: Option<&Path>) -> Option<Server> {
        let mut process = command("node")
            .arg(installed()?.join("bin/yaml-language-server"))
            .arg("--stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Server {
            requests: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
            schema: schema.map(Path::to_owned),
            last_id: 0,
            documents: 0,
        };
        let capabilities = json!({
            "textDocument": {
                "completion": {"completionItem": {"snippetSupport": true, "documentationFormat": ["markdown"]}},
                "hover": {"contentFormat": ["markdown"]},
            },
            "workspace": {"configuration": true},
        });
        server.ask(
            "initialize",
            json!({"processId": std::process::id(), "rootUri": null, "capabilities": capabilities}),
        );
        server.send(json!({"method": "initialized", "params": {}}));
        let settings = json!({"settings": {"yaml": server.settings()}});
        server.send(json!({"method": "workspace/didChangeConfiguration", "params": settings}));
        Some(server)
    }

    fn settings(&self) -> Value {
        let mut schemas = json!({});
        if let Some(schema) = &self.schema {
            schemas[format!("file://{}", schema.display())] = json!(["*.yaml"]);
        }
        json!({"schemas": schemas, "schemaStore": {"enable": false}, "hover": true, "completion": true, "validate": true})
    }

    fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = json!("2.0");
        let text = message.to_string();
        write!(
            self.requests,
            "Content-Length: {}\r\n\r\n{text}",
            text.len()
        )
        .unwrap();
        self.requests.flush().unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut length = None;
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).unwrap();
            assert!(read > 0, "the server has gone");
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", text)) => length = Some(text.parse().unwrap()),
                Some(_) => {}
                None => break,
            }
        }
        let mut text = vec![0; length.unwrap()];
        self.answers.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// The next message that answers nothing of the server's own, which wants to know its settings.
    fn next(&mut self) -> Value {
        loop {
            let message = self.receive();
            if message.get("method").is_none() || message.get("id").is_none() {
                return message;
            }
            let result = match message["params"]["items"].as_array() {
                Some(items) => items
                    .iter()
                    .map(|item| match item["section"].as_str() {
                        Some("yaml") => self.settings(),
                        _ => Value::Null,
                    })
                    .collect(),
                None => Value::Null,
            };
            self.send(json!({"id": message["id"], "result": result}));
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = json!(self.last_id);
        self.send(json!({"id": id, "method": method, "params": params}));
        loop {
            let mut message = self.next();
            if message.get("id") == Some(&id) {
                assert!(message.get("error").is_none(), "{message}");
                return message["result"].take();
            }
        }
    }

    /// Opens a document and waits until it is judged; before that the schema may not have been read.
    fn open(&mut self, text: &str) -> (String, Vec<Diagnostic>) {
        self.documents += 1;
        let uri = format!("file:///nowhere/{}.yaml", self.documents);
        let document = json!({"uri": uri, "languageId": "yaml", "version": 1, "text": text});
        self.send(json!({"method": "textDocument/didOpen", "params": {"textDocument": document}}));
        loop {
            let message = self.next();
            if message["method"] == "textDocument/publishDiagnostics"
                && message["params"]["uri"] == uri
            {
                let found = message["params"]["diagnostics"].as_array().unwrap();
                return (uri, found.iter().map(diagnostic).collect());
            }
        }
    }

    /// What is underlined in a document.
    pub(crate) fn diagnostics(&mut self, text: &str) -> Vec<Diagnostic> {
        self.open(text).1
    }

    /// What is offered where the `|` stands.
    pub(crate) fn offers(&mut self, text: &str) -> Vec<Offer> {
        let result = self.at_cursor("textDocument/completion", text);
        let items = result["items"].as_array().unwrap().iter();
        items
            .map(|item| Offer {
                label: item["label"].as_str().unwrap().to_owned(),
                text: item["insertText"].as_str().unwrap().to_owned(),
                about: markup(&item["documentation"]),
            })
            .collect()
    }

    /// What is shown where the `|` stands.
    pub(crate) fn hover(&mut self, text: &str) -> String {
        markup(&self.at_cursor("textDocument/hover", text)["contents"])
    }

    fn at_cursor(&mut self, method: &str, text: &str) -> Value {
        let (before, after) = text.split_once('|').unwrap();
        let line = before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        let (uri, _) = self.open(&format!("{before}{after}"));
        self.ask(
            method,
            json!({"textDocument": {"uri": uri}, "position": {"line": line, "character": column}}),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn diagnostic(value: &Value) -> Diagnostic {
    let at = |end: &str| {
        let number = |key: &str| value["range"][end][key].as_u64().unwrap();
        (number("line"), number("character"))
    };
    Diagnostic {
        from: at("start"),
        to: at("end"),
        message: value["message"].as_str().unwrap().to_owned(),
    }
}

/// Text or Markdown; without the escapes that keep Markdown from reading plain text.
fn markup(value: &Value) -> String {
    let text = value.get("value").unwrap_or(value);
    text.as_str().unwrap_or_default().replace('\\', "")
}
