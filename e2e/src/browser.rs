//! A page in headless Chromium, by the `DevTools` protocol over a pipe.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use propylon_testkit::wait::{self, PATIENCE};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A page that is looked at. The browser is ended when this is dropped.
pub struct Page {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    _profile: TempDir,
}

/// Whether the page may run scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripts {
    /// It may not.
    Off,
    /// It may.
    On,
}

impl Page {
    /// Opens an address.
    ///
    /// # Panics
    /// When Chromium is missing or does not answer.
    pub fn open(address: &str, scripts: Scripts) -> Self {
        let mut page = Self::start();
        let target = page.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attached = page.call(
            "Target.attachToTarget",
            &json!({"targetId": at(&target, "/targetId"), "flatten": true}),
        );
        page.session = at(&attached, "/sessionId").as_str().map(ToOwned::to_owned);
        let is_off = scripts == Scripts::Off;
        page.call("Emulation.setScriptExecutionDisabled", &json!({"value": is_off}));
        page.call("Page.navigate", &json!({"url": address}));
        page
    }

    /// The document as it is now.
    ///
    /// # Panics
    /// When Chromium does not answer.
    pub fn document(&mut self) -> String {
        let expression = json!({"expression": "document.documentElement.outerHTML", "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &expression);
        at(&answer, "/result/value").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the document contains this text, and gives it.
    ///
    /// # Panics
    /// When it does not come.
    pub fn until(&mut self, text: &str) -> String {
        let found = wait::some(PATIENCE, || {
            Some(self.document()).filter(|document| document.contains(text))
        });
        found.unwrap_or_else(|| panic!("no {text:?} in {}", self.document())).0
    }

    /// A picture of the page, PNG in base64.
    ///
    /// # Panics
    /// When Chromium does not answer.
    pub fn picture(&mut self) -> String {
        let answer = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        at(&answer, "/data").as_str().unwrap_or_default().to_owned()
    }

    fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder can be made");
        // Chromium reads the protocol from descriptor 3 and writes it to 4.
        let command = format!(
            "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --window-size=1200,900 \
             --remote-debugging-pipe --user-data-dir={} 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null",
            profile.path().display()
        );
        let mut child = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell can be started");
        let input = child.stdin.take().expect("it is a pipe");
        let mut output = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let (sender, messages) = sync_channel(1_000);
        thread::spawn(move || {
            let mut text = Vec::new();
            while output.read_until(0, &mut text).is_ok_and(|length| length > 0) {
                text.pop();
                let message = serde_json::from_slice(&text).unwrap_or_default();
                text.clear();
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            input,
            messages,
            calls: 0,
            session: None,
            _profile: profile,
        }
    }

    /// Calls a method and gives its result; events in between are not looked at.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": parameters});
        if let (Some(session), Some(fields)) = (&self.session, call.as_object_mut()) {
            fields.insert("sessionId".to_owned(), json!(session));
        }
        let text = format!("{call}\0");
        // Where it fails, the missing answer tells more.
        drop(self.input.write_all(text.as_bytes()).and_then(|()| self.input.flush()));
        loop {
            let Ok(message) = self.messages.recv_timeout(PATIENCE) else {
                panic!("chromium does not answer {method}; is the package chromium installed? .ci/run installs it");
            };
            if *at(&message, "/id") == json!(self.calls) {
                assert!(at(&message, "/error").is_null(), "{method}: {message}");
                return at(&message, "/result").clone();
            }
        }
    }
}

/// What stands at a JSON pointer (RFC 6901), null where nothing does.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
