//! Which IP addresses of an upstream are used.

use std::net::IpAddr;

use nuncio_ir::DnsFamily;

/// The address families of an upstream. They filter endpoints, addresses of Services and DNS answers alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Families {
    /// Nothing is set: IPv4 addresses if there are any, else IPv6 ones. DNS is queried for IPv4.
    #[default]
    Preferred,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Both,
    /// None: both are disabled.
    None,
}

impl Families {
    /// The families with these settings; IPv4 is enabled and IPv6 disabled where only the other one is set.
    pub(in crate::store) fn new(enable_ipv4: Option<bool>, enable_ipv6: Option<bool>) -> Self {
        if enable_ipv4.is_none() && enable_ipv6.is_none() {
            return Self::Preferred;
        }
        match (enable_ipv4.unwrap_or(true), enable_ipv6.unwrap_or(false)) {
            (true, true) => Self::Both,
            (true, false) => Self::V4,
            (false, true) => Self::V6,
            (false, false) => Self::None,
        }
    }

    /// What DNS is queried for; `None`: nothing.
    pub(in crate::store) const fn dns(self) -> Option<DnsFamily> {
        match self {
            Self::Preferred | Self::V4 => Some(DnsFamily::V4),
            Self::V6 => Some(DnsFamily::V6),
            Self::Both => Some(DnsFamily::Auto),
            Self::None => None,
        }
    }

    /// The addresses that are used, given the family of each.
    pub(in crate::store) fn select<T>(
        self,
        addresses: Vec<T>,
        is_v4: impl Fn(&T) -> bool,
    ) -> Vec<T> {
        let has_v4 = addresses.iter().any(&is_v4);
        let uses = |address: &T| match self {
            Self::Preferred => is_v4(address) == has_v4,
            Self::V4 => is_v4(address),
            Self::V6 => !is_v4(address),
            Self::Both => true,
            Self::None => false,
        };
        addresses.into_iter().filter(uses).collect()
    }

    /// The address that is used of a Service; IPv4 first.
    pub(in crate::store) fn first(self, addresses: &[IpAddr]) -> Option<IpAddr> {
        self.select(addresses.to_vec(), IpAddr::is_ipv4)
            .into_iter()
            .min_by_key(IpAddr::is_ipv6)
    }

    /// As messages name them.
    pub(in crate::store) const fn name(self) -> &'static str {
        match self {
            Self::Preferred | Self::Both => "IPv4 or IPv6",
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
            Self::None => "enabled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_filtered_by_what_is_set() {
        let all: [IpAddr; 3] =
            ["fd00::1", "10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let only_v6 = [all[0]];
        let select = |ipv4, ipv6, from: &[IpAddr]| {
            let families = Families::new(ipv4, ipv6);
            (
                families.select(from.to_vec(), IpAddr::is_ipv4),
                families.first(from),
            )
        };
        let (on, off) = (Some(true), Some(false));
        assert_eq!(select(None, None, &all), (all[1..].to_vec(), Some(all[1])));
        assert_eq!(
            select(None, None, &only_v6),
            (only_v6.to_vec(), Some(all[0]))
        );
        assert_eq!(select(on, None, &only_v6), (Vec::new(), None));
        assert_eq!(select(None, on, &all), (all.to_vec(), Some(all[1])));
        assert_eq!(select(off, on, &all), (only_v6.to_vec(), Some(all[0])));
        assert_eq!(select(off, None, &all), (Vec::new(), None));
    }
}
