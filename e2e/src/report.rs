//! Reading the report of an echo backend.

use propylon_testkit::raw::RawResponse;
use serde_json::Value;

/// What an echo backend received.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

impl Report {
    /// The report in a response.
    ///
    /// # Panics
    /// When the response is not 200 with a report.
    pub fn of(response: &RawResponse) -> Self {
        assert_eq!(response.status, 200, "{}{}", response.head, response.text());
        Self::parse(&response.body)
    }

    /// The report in a body.
    ///
    /// # Panics
    /// When it is none.
    pub fn parse(body: &[u8]) -> Self {
        Self(serde_json::from_slice(body).expect("the body is a report"))
    }

    /// A text field: `name`, `protocol`, `method`, `target`, `host`, `peer`.
    pub fn text(&self, field: &str) -> String {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The name of the backend.
    pub fn name(&self) -> String {
        self.text("name")
    }

    /// A number: `body_bytes`, `connection`.
    pub fn number(&self, field: &str) -> u64 {
        self.0.get(field).and_then(Value::as_u64).unwrap_or_default()
    }

    /// The values of all request fields of that name, in order.
    pub fn headers(&self, name: &str) -> Vec<String> {
        self.pairs("headers", name)
    }

    /// The first value of a request field.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).into_iter().next()
    }

    /// The values of all request trailers of that name.
    pub fn trailers(&self, name: &str) -> Vec<String> {
        self.pairs("trailers", name)
    }

    fn pairs(&self, field: &str, name: &str) -> Vec<String> {
        let pairs = self.0.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |pair: &Value, index: usize| pair.get(index).and_then(Value::as_str).unwrap_or_default().to_owned();
        let wanted = pairs.iter().filter(|pair| text(pair, 0).eq_ignore_ascii_case(name));
        wanted.map(|pair| text(pair, 1)).collect()
    }
}
