//! Whether scripts load, compared with Envoy: a script in it loads other scripts, and tells the result.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use nuncio_core::reconcile::lua::check;
use nuncio_e2e::{gateway::stops, wait::until, workspace::root};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::serve::{HTTP, gone, samples, serve};

/// Loads the body of each request. The first argument of `loadstring` is all of it, the second a name for messages.
const MODULE: &str = r#"
apiVersion: getambassador.io/v3alpha1
kind: Module
metadata: {name: ambassador}
spec:
  config:
    lua_scripts: |
      function envoy_on_request(handle)
        local body = handle:body()
        local script = ""
        if body then script = body:getBytes(0, body:length()) end
        local loaded, message = loadstring(script, "=script")
        handle:respond({[":status"] = loaded and "200" or "400"}, "verdict: " .. (message or "loads"))
      end
"#;

/// What the virtual machine cannot number. It is not checked.
const LIMITS: [&str; 4] = [
    "too many",
    "has more than",
    "too complex",
    "control structure too long",
];

/// Scripts that are damaged at random.
const DAMAGED: usize = 3000;

const TOKENS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while", "...", "..",
    ".", "==", "=", "~=", "<=", "<", ">=", ">", "::", ":", "+", "-", "*", "/", "%", "^", "#", "(",
    ")", "{", "}", "[", "]", ";", ",", "~", "!", "&", "a", "b", "f", "1", "0x1p", "2i", "3LL",
    "'a'", "\"", "[[", "]]", "[=[", "--", "--[[", "\n", "\\", "\\z", "::a::", "goto a", "local a",
    "break;", "f()", "é",
];

#[derive(Deserialize)]
struct Scripts {
    loads: Vec<String>,
    fails: Vec<(String, String)>,
}

/// Why Envoy does not load a script. The response is read up to its length: closing the connection takes Envoy a second.
async fn verdict(script: &str) -> Result<Result<(), String>> {
    let length = script.len();
    let head = format!("POST /a/ HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    let mut stream = TcpStream::connect(HTTP).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(script.as_bytes()).await?;
    let mut response = Vec::new();
    loop {
        let count = timeout(Duration::from_secs(5), stream.read_buf(&mut response)).await??;
        let text = String::from_utf8_lossy(&response);
        if let Some(message) = complete(&text) {
            let message = message.strip_prefix("verdict: ");
            let message = message.with_context(|| format!("no verdict: {text}"))?;
            let is_loaded = message == "loads";
            return Ok(if is_loaded {
                Ok(())
            } else {
                Err(message.to_owned())
            });
        }
        ensure!(count > 0, "{script:?}: the connection is closed: {text}");
    }
}

/// The body of a response, once it is there.
fn complete(response: &str) -> Option<&str> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let (_, length) = head.split_once("content-length: ")?;
    let (length, _) = length.split_once('\r').unwrap_or((length, ""));
    let length: usize = length.parse().ok()?;
    (body.len() >= length).then_some(body)
}

async fn compare(script: &str) -> Result<()> {
    let (ours, theirs) = (check(script), verdict(script).await?);
    let is_limit = |message: &String| LIMITS.iter().any(|limit| message.contains(limit));
    let is_same = match (&ours, &theirs) {
        (Ok(()), Err(message)) => is_limit(message),
        _ => ours.is_ok() == theirs.is_ok(),
    };
    ensure!(is_same, "{script:?}: {ours:?}, Envoy: {theirs:?}");
    Ok(())
}

/// The script with a token or two removed, added or repeated.
fn damaged(script: &str, random: &mut Rng) -> String {
    let mut parts: Vec<&str> = script
        .split_inclusive(|c: char| !c.is_alphanumeric())
        .collect();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..=parts.len());
        match random.usize(..4) {
            0 if at < parts.len() => drop(parts.remove(at)),
            1 if at < parts.len() => parts.insert(at, parts[at]),
            2 => parts.truncate(at.max(parts.len() / 2)),
            _ => {
                let token = TOKENS[random.usize(..TOKENS.len())];
                parts.splice(at..at, [" ", token, " "]);
            }
        }
    }
    parts.concat()
}

pub(crate) async fn scripts_are_checked_as_in_envoy() -> Result<()> {
    let directory = tempfile::tempdir()?;
    samples(directory.path())?;
    fs::write(directory.path().join("module.yaml"), MODULE)?;
    let mut serve = serve(directory.path())?;
    until("a verdict", || async {
        verdict("").await?.map_err(anyhow::Error::msg)
    })
    .await?;
    let corpus = fs::read_to_string(root().join("operator/core/tests/testdata/lua.yaml"))?;
    let corpus: Scripts = serde_saphyr::from_str(&corpus)?;
    let fails = corpus.fails.into_iter().map(|(script, _)| script);
    let scripts: Vec<String> = corpus.loads.into_iter().chain(fails).collect();
    for script in scripts
        .iter()
        .filter(|script| !script.starts_with('\u{1b}'))
    {
        compare(script).await?;
    }
    for count in [98, 99, 100, 196, 197, 198, 199, 200, 201] {
        for (start, before, middle, after) in [
            ("", "do ", "", " end"),
            ("", "if x then ", "", " end"),
            ("", "f(function() ", "", " end)"),
            ("", "repeat ", "", " until x"),
            ("", "local a ", "", ""),
            ("", "a, ", "a = 1", ""),
            ("x = ", "f(", "1", ")"),
            ("x = ", "{", "1", "}"),
            ("x = ", "(", "1", ")"),
            ("x = ", "not ", "1", ""),
            ("x = ", "- ", "1", ""),
            ("x = ", "1 .. ", "1", ""),
            ("x = ", "1 ^ ", "1", ""),
            ("x = ", "1 + ", "1", ""),
        ] {
            let nested = before.repeat(count) + middle + &after.repeat(count);
            compare(&format!("{start}{nested}")).await?;
        }
    }
    let mut random = Rng::with_seed(7);
    for _ in 0..DAMAGED {
        let script = &scripts[random.usize(..scripts.len())];
        compare(&damaged(script, &mut random)).await?;
    }
    stops(&mut serve, Signal::TERM)?;
    gone().await
}
