//! Ranges of addresses: `192.0.2.0/24`, `192.0.2.10-192.0.2.20`, `2001:db8::5`.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// The family as Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

/// Addresses of one family from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    family: Family,
    first: u128,
    last: u128,
}

/// Why a text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressRangeError {
    /// The two ends are not of one family.
    #[error("'{0}' has an IPv4 and an IPv6 address; write a range of each")]
    Families(String),
    /// It is none of the accepted forms.
    #[error("'{0}' is no CIDR, range or address; write 192.0.2.0/24, 192.0.2.10-192.0.2.20 or 192.0.2.10")]
    Form(String),
    /// The last address comes before the first.
    #[error("'{0}' ends before it begins; write the lower address first")]
    Order(String),
    /// It holds addresses that no Service can have.
    #[error("'{0}' holds loopback, link-local, multicast or unspecified addresses, which no Service can have")]
    Special(String),
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let form = || AddressRangeError::Form(text.to_owned());
        let (first, last): (IpAddr, IpAddr) = if let Some((first, last)) = text.split_once('-') {
            let parse = |end: &str| end.trim().parse().map_err(|_| form());
            (parse(first)?, parse(last)?)
        } else if text.contains('/') {
            let network: IpNet = text.parse().map_err(|_| form())?;
            (network.network(), network.broadcast())
        } else {
            let address: IpAddr = text.parse().map_err(|_| form())?;
            (address, address)
        };
        let range = Self {
            family: Family::of(first),
            first: number(first),
            last: number(last),
        };
        if range.family != Family::of(last) {
            return Err(AddressRangeError::Families(text.to_owned()));
        }
        if range.last < range.first {
            return Err(AddressRangeError::Order(text.to_owned()));
        }
        if SPECIAL.iter().any(|special| {
            special
                .parse()
                .is_ok_and(|special| range.overlaps(&special_range(special)))
        }) {
            return Err(AddressRangeError::Special(text.to_owned()));
        }
        Ok(range)
    }
}

impl AddressRange {
    /// The family of all its addresses.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.address(self.first)
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.address(self.last)
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.family == Family::of(address) && (self.first..=self.last).contains(&number(address))
    }

    /// Whether both have an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// How many addresses it has; at most `u128::MAX`.
    pub const fn count(&self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// The address at an offset from the first; none past the end.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        let number = self.first.checked_add(offset)?;
        (number <= self.last).then(|| self.address(number))
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.family {
            // The number came of an IPv4 address, or lies between two of them.
            Family::Ipv4 => IpAddr::from(u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()),
            Family::Ipv6 => IpAddr::from(number.to_be_bytes()),
        }
    }
}

/// As it could be written in a pool: one address, or `FIRST-LAST`.
impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(formatter, "{}", self.first());
        }
        write!(formatter, "{}-{}", self.first(), self.last())
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn special_range(network: IpNet) -> AddressRange {
    AddressRange {
        family: Family::of(network.network()),
        first: number(network.network()),
        last: number(network.broadcast()),
    }
}

/// Addresses that cannot be a Service's: RFC 6890 (this host, loopback, link-local), multicast, and mapped IPv4.
const SPECIAL: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/127",
    "::ffff:0:0/96",
    "fe80::/10",
    "ff00::/8",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, first, last, count) in [
            ("192.0.2.0/30", "192.0.2.0", "192.0.2.3", 4),
            (" 192.0.2.9 - 192.0.2.10 ", "192.0.2.9", "192.0.2.10", 2),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7", 1),
            ("192.0.2.7/24", "192.0.2.0", "192.0.2.255", 256),
            ("2001:db8::/126", "2001:db8::", "2001:db8::3", 4),
            ("2001:db8::a-2001:db8::f", "2001:db8::a", "2001:db8::f", 6),
        ] {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!(range.first(), first.parse::<IpAddr>().unwrap(), "{text}");
            assert_eq!(range.last(), last.parse::<IpAddr>().unwrap(), "{text}");
            assert_eq!(range.count(), count, "{text}");
            assert_eq!(range.nth(count - 1), Some(range.last()), "{text}");
            assert_eq!(range.nth(count), None, "{text}");
            assert!(range.contains(range.first()) && range.contains(range.last()), "{text}");
            assert_eq!(range.to_string().parse(), Ok(range), "{text}");
        }
        let all: AddressRange = "2000::/3".parse().unwrap();
        assert_eq!(all.count(), 1 << 125);
    }

    #[test]
    fn everything_else_is_refused_with_the_reason() {
        let error = |text: &str| text.parse::<AddressRange>().unwrap_err();
        for text in [
            "",
            "web",
            "192.0.2.0/33",
            "192.0.2.1-",
            "192.0.2.1-192.0.2.2-192.0.2.3",
            "192.0.2",
        ] {
            assert!(matches!(error(text), AddressRangeError::Form(_)), "{text}");
        }
        assert!(matches!(error("192.0.2.9-192.0.2.8"), AddressRangeError::Order(_)));
        assert!(matches!(error("192.0.2.9-2001:db8::1"), AddressRangeError::Families(_)));
        for text in [
            "127.0.0.1",
            "0.0.0.0/0",
            "::/0",
            "fe80::1",
            "169.254.1.0/24",
            "::1",
            "224.0.0.5",
            "::ffff:192.0.2.1",
        ] {
            assert!(matches!(error(text), AddressRangeError::Special(_)), "{text}");
        }
    }

    #[test]
    fn ranges_of_two_families_never_meet() {
        let range = |text: &str| text.parse::<AddressRange>().unwrap();
        assert!(range("192.0.2.0/24").overlaps(&range("192.0.2.255")));
        assert!(!range("192.0.2.0/24").overlaps(&range("192.0.3.0/24")));
        assert!(!range("10.0.0.0/8").overlaps(&range("2001:db8::/32")));
        assert!(!range("10.0.0.0/8").contains("2001:db8::1".parse().unwrap()));
    }
}
