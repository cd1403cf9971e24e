//! Versions of systemd. What a version brings is asked with [`Change`](super::changes::Change).

use std::fmt;

/// A release of systemd; point releases count, because rules were ported back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemdVersion {
    /// 255 in 255.4.
    pub(super) major: u32,
    /// 4 in 255.4; 0 when there is none.
    pub(super) minor: u32,
}

impl SystemdVersion {
    /// `major.minor`.
    pub const fn new(major: u32, minor: u32) -> SystemdVersion {
        SystemdVersion { major, minor }
    }

    /// Reads `255`, `255.4`, and distribution versions such as `252.39-1~deb12u2` or `262~devel`.
    pub fn parse(text: &str) -> Option<SystemdVersion> {
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let mut parts = text.get(..end)?.split('.');
        let major = parts.next()?.parse().ok().filter(|major| *major > 0)?;
        let minor = match parts.next() {
            Some(minor) if !minor.is_empty() => minor.parse().ok()?,
            _ => 0,
        };
        Some(SystemdVersion { major, minor })
    }

    /// Whether both are releases of one series, such as 255.4 and 255.9.
    pub fn is_of_series(self, other: SystemdVersion) -> bool {
        self.major == other.major
    }
}

impl fmt::Display for SystemdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minor {
            0 => write!(f, "{}", self.major),
            minor => write!(f, "{}.{minor}", self.major),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_understood() {
        for (text, major, minor) in [
            ("255", 255, 0),
            ("255.4-1ubuntu8", 255, 4),
            ("252.39-1~deb12u2", 252, 39),
            ("262~devel", 262, 0),
        ] {
            assert_eq!(
                SystemdVersion::parse(text),
                Some(SystemdVersion::new(major, minor))
            );
        }
        assert_eq!(SystemdVersion::parse("v255"), None);
        assert_eq!(SystemdVersion::parse("0"), None);
    }
}
