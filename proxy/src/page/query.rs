//! What a reader asks the page for: a filter, an order, and the page of each table.

/// The query of the page's address. What does not parse is as if it were not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Text that a row must contain, lower case; empty: every row.
    pub(super) filter: String,
    pub(super) sort: Sort,
    /// Which part of each table is shown, from 0.
    parts: [usize; Table::ALL.len()],
}

/// What routes are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    Errors,
    InFlight,
    Name,
    P99,
    #[default]
    Requests,
}

/// The tables that may be too long for one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Certificates,
    Endpoints,
    Problems,
    Routes,
}

impl Sort {
    pub(super) const ALL: [Self; 5] = [Self::Errors, Self::InFlight, Self::Name, Self::P99, Self::Requests];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::InFlight => "in-flight",
            Self::Name => "name",
            Self::P99 => "p99",
            Self::Requests => "requests",
        }
    }
}

impl Table {
    const ALL: [Self; 4] = [Self::Certificates, Self::Endpoints, Self::Problems, Self::Routes];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::Endpoints => "endpoints",
            Self::Problems => "problems",
            Self::Routes => "routes",
        }
    }
}

impl Query {
    /// Reads `q=...&sort=...&routes=2`, where parts are counted from 1.
    pub(super) fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            if name == "q" {
                let filter = decode(value);
                query.filter = filter
                    .trim()
                    .chars()
                    .take(MAX_FILTER)
                    .collect::<String>()
                    .to_lowercase();
            } else if name == "sort" {
                let known = Sort::ALL.into_iter().find(|sort| sort.as_str() == value);
                query.sort = known.unwrap_or_default();
            } else if let Some(table) = Table::ALL.into_iter().find(|table| table.as_str() == name) {
                let part = value.parse::<usize>().ok().and_then(|part| part.checked_sub(1));
                query.set_part(table, part.unwrap_or(0));
            }
        }
        query
    }

    /// Whether a row with this text is wanted.
    pub(super) fn wants(&self, text: &str) -> bool {
        self.filter.is_empty() || text.to_lowercase().contains(&self.filter)
    }

    /// The part of a table, from 0.
    pub(super) fn part(&self, table: Table) -> usize {
        self.parts.get(table as usize).copied().unwrap_or(0)
    }

    /// The same with another order of the routes, from their beginning.
    pub(super) fn sorted(&self, sort: Sort) -> Self {
        let mut query = self.clone();
        query.sort = sort;
        query.set_part(Table::Routes, 0);
        query
    }

    /// The same with another part of a table.
    pub(super) fn turned(&self, table: Table, part: usize) -> Self {
        let mut query = self.clone();
        query.set_part(table, part);
        query
    }

    /// The address of this view, relative to the page.
    pub(super) fn address(&self) -> String {
        let mut pairs = Vec::new();
        if !self.filter.is_empty() {
            pairs.push(format!("q={}", encode(&self.filter)));
        }
        if self.sort != Sort::default() {
            pairs.push(format!("sort={}", self.sort.as_str()));
        }
        for table in Table::ALL {
            match self.part(table) {
                0 => {}
                part => pairs.push(format!("{}={}", table.as_str(), part.saturating_add(1))),
            }
        }
        format!("?{}", pairs.join("&"))
    }

    fn set_part(&mut self, table: Table, part: usize) {
        if let Some(slot) = self.parts.get_mut(table as usize) {
            *slot = part;
        }
    }
}

/// `application/x-www-form-urlencoded` (URL Standard 5.1), what is malformed taken as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        let escaped = (*first == b'%')
            .then(|| behind.split_at_checked(2))
            .flatten()
            .and_then(|(digits, behind)| {
                let digits = str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 16).ok()?, behind))
            });
        match escaped {
            Some((byte, behind)) => {
                bytes.push(byte);
                rest = behind;
            }
            None => bytes.push(if *first == b'+' { b' ' } else { *first }),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend(
                [byte >> 4, byte & 15].map(|digit| char::from(HEX.get(usize::from(digit)).copied().unwrap_or(b'0'))),
            );
        }
    }
    encoded
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";
/// The most that a filter may have of characters.
const MAX_FILTER: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_is_read_and_written() {
        let query = Query::parse("q=Shop%20A%2B%26&sort=p99&routes=3&endpoints=0&x=y&certificates=two");
        assert_eq!((query.filter.as_str(), query.sort), ("shop a+&", Sort::P99));
        assert_eq!(query.part(Table::Routes), 2);
        assert_eq!((query.part(Table::Endpoints), query.part(Table::Certificates)), (0, 0));
        assert_eq!(query.address(), "?q=shop%20a%2B%26&sort=p99&routes=3");
        assert_eq!(query.sorted(Sort::Requests).address(), "?q=shop%20a%2B%26");
        assert_eq!(Query::parse(""), Query::default());
        assert_eq!(Query::default().address(), "?");
        assert!(query.wants("x SHOP A+& y") && !query.wants("shop"));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_its_address_says_the_same(text in "[ -~é]{0,40}") {
            let query = Query::parse(&format!("q={}&routes=7", encode(&text)));
            let address = query.address();
            prop_assert_eq!(Query::parse(address.trim_start_matches('?')), query);
        }

        #[test]
        fn nonsense_is_read_too(text in any::<String>()) {
            let _query = Query::parse(&text);
        }
    }
}
