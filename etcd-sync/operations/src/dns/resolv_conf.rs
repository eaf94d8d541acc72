//! The part of `/etc/resolv.conf` that matters here (resolv.conf(5)).

/// The resolvers that a C library asks, in its order: at most three, whatever else the file says.
pub fn nameservers(text: &str) -> Vec<String> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next().map(str::to_owned))?
    });
    servers.take(NAMESERVERS_MAX).collect()
}

/// `MAXNS` of the C libraries.
const NAMESERVERS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::nameservers;

    #[test]
    fn three_at_most_and_nothing_else() {
        let text = "# nameserver 1.1.1.1\nsearch a b\n nameserver\t10.0.0.1 # first\nnameserver fd00::1\nnameserver\n\
                    options ndots:5\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";
        assert_eq!(nameservers(text), ["10.0.0.1", "fd00::1", "10.0.0.3"]);
        assert!(nameservers("").is_empty());
    }
}
