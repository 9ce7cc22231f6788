//! A fake API server of one kind, as kube's client sees it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How a server answers a streaming list that it does not have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    /// An error in an event of the stream.
    Event(u16, &'static str),
    /// An error instead of the stream.
    Status(u16, &'static str),
    /// An ordinary watch, which begins with nothing.
    Silence,
}

/// Handles of the same server.
#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Watches older than this are gone.
    compacted: u64,
    /// Changes by version.
    log: Vec<(u64, Value)>,
    watches: Vec<mpsc::Sender<Bytes>>,
    is_away: bool,
    refusal: Option<(u16, &'static str)>,
    streaming: Option<Reply>,
    empty_lists: u32,
    requests: Vec<String>,
}

impl Fake {
    pub(super) fn of(names: &[&str]) -> Self {
        let fake = Self::default();
        for name in names {
            fake.set_raw(name, &json!({}));
        }
        fake
    }

    pub(super) fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let answer = fake.answer(&request.uri().to_string());
            async move { answer }
        });
        Client::new(service, "default")
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    pub(super) fn set(&self, name: &str, data: &str) {
        self.set_raw(name, &json!({"data": {"key": data}}));
    }

    pub(super) fn set_raw(&self, name: &str, fields: &Value) {
        let mut state = self.lock();
        let is_new = !state.objects.contains_key(name);
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        object
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        state.version += 1;
        object["metadata"] = json!({"namespace": "n", "name": name, "resourceVersion": state.version.to_string()});
        state.objects.insert(name.to_owned(), object.clone());
        state.tell(if is_new { "ADDED" } else { "MODIFIED" }, &object);
    }

    pub(super) fn delete(&self, name: &str) {
        let mut state = self.lock();
        let mut object = state.objects.remove(name).unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.tell("DELETED", &object);
    }

    /// Whether it can be reached; open watches end.
    pub(super) fn set_away(&self, is_away: bool) {
        let mut state = self.lock();
        state.is_away = is_away;
        state.watches.clear();
    }

    pub(super) fn disconnect(&self) {
        self.lock().watches.clear();
    }

    /// Forgets all changes so far.
    pub(super) fn compact(&self) {
        let mut state = self.lock();
        state.version += 1;
        state.compacted = state.version;
        state.log.clear();
    }

    pub(super) fn refuse(&self, refusal: Option<(u16, &'static str)>) {
        self.lock().refusal = refusal;
    }

    pub(super) fn without_streaming_lists(&self, reply: Reply) {
        self.lock().streaming = Some(reply);
    }

    /// The next lists come back empty.
    pub(super) fn empty_lists(&self, count: u32) {
        self.lock().empty_lists = count;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn answer(&self, uri: &str) -> io::Result<Response<Body>> {
        let mut state = self.lock();
        state.requests.push(uri.to_owned());
        if state.is_away {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if let Some((code, message)) = state.refusal {
            return Ok(status(code, message));
        }
        if uri.contains("sendInitialEvents=true") {
            return Ok(state.streaming_list());
        }
        if uri.contains("watch=true") {
            let since = uri.split("resourceVersion=").nth(1).unwrap_or_default();
            let since = since.split('&').next().unwrap_or_default();
            return Ok(state.watch(since.parse().unwrap_or_default()));
        }
        let items = state.list();
        let list = json!({
            "apiVersion": "v1", "kind": "ConfigMapList",
            "metadata": {"resourceVersion": state.version.to_string()}, "items": items,
        });
        Ok(Response::new(full(&list)))
    }
}

impl State {
    fn tell(&mut self, kind: &str, object: &Value) {
        let event = json!({"type": kind, "object": object});
        self.log.push((self.version, event.clone()));
        self.watches.retain(|watch| watch.try_send(line(&event)).is_ok());
    }

    fn list(&mut self) -> Vec<Value> {
        if self.empty_lists > 0 {
            self.empty_lists -= 1;
            return Vec::new();
        }
        self.objects.values().cloned().collect()
    }

    fn streaming_list(&mut self) -> Response<Body> {
        match self.streaming {
            Some(Reply::Status(code, message)) => return status(code, message),
            Some(Reply::Event(code, message)) => {
                return Response::new(full(&json!({"type": "ERROR", "object": failure(code, message)})));
            }
            Some(Reply::Silence) => return self.open(Vec::new()),
            None => {}
        }
        let mut events: Vec<Value> = self
            .list()
            .into_iter()
            .map(|object| json!({"type": "ADDED", "object": object}))
            .collect();
        events.push(json!({"type": "BOOKMARK", "object": {
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "resourceVersion": self.version.to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"},
            },
        }}));
        self.open(events)
    }

    fn watch(&mut self, since: u64) -> Response<Body> {
        if since < self.compacted {
            return Response::new(full(
                &json!({"type": "ERROR", "object": failure(410, "too old resource version")}),
            ));
        }
        let missed = self.log.iter().filter(|(version, _)| *version > since);
        let missed = missed.map(|(_, event)| event.clone()).collect();
        self.open(missed)
    }

    /// A stream that begins with these events and stays open.
    fn open(&mut self, events: Vec<Value>) -> Response<Body> {
        let (sender, receiver) = mpsc::channel(1000);
        for event in events {
            sender.try_send(line(&event)).unwrap();
        }
        self.watches.push(sender);
        let frames = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|line| (Ok(Frame::data(line)), receiver))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn line(event: &Value) -> Bytes {
    let mut text = event.to_string();
    text.push('\n');
    text.into()
}

fn failure(code: u16, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message, "reason": "Test"})
}

fn status(code: u16, message: &str) -> Response<Body> {
    let mut response = Response::new(full(&failure(code, message)));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

fn full(value: &Value) -> Body {
    Full::new(line(value)).map_err(|never| match never {}).boxed_unsync()
}
