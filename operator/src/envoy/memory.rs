//! How much memory an Envoy may use, when nobody says it.

use std::fs;

/// Limits of memory of this process: those of its container (cgroup v2 and v1), and the memory of the machine.
const LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// 90 % of the memory of this container, or of the machine.
pub(crate) fn heap_limit() -> Option<u64> {
    let container = LIMITS
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total);
    container.chain(machine).min().map(|bytes| bytes / 10 * 9)
}

/// The bytes in a line `MemTotal: N kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_a_limit() {
        assert_eq!(total("Some: 1 kB\nMemTotal:   2048 kB\n"), Some(2 << 20));
        assert_eq!(total(""), None);
        assert!(heap_limit().is_some_and(|bytes| bytes > 1 << 20));
    }
}
