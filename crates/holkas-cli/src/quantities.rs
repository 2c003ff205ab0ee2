//! Durations and sizes as people type them: `30d`, `12h`, `20G`.

use std::time::Duration;

/// Parses a duration: a whole number and `s`, `m`, `h`, `d` or `w`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
    let wrong = || "give a whole number with s, m, h, d or w, such as 30d or 12h".to_string();
    let units = UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let (number, seconds) = units.ok_or_else(wrong)?;
    Ok(Duration::from_secs(whole(number).and_then(|n| n.checked_mul(*seconds)).ok_or_else(wrong)?))
}

/// Parses a size in bytes: a whole number, and perhaps `K`, `M`, `G` or `T`, which count by 1024, with or without `iB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)];
    let wrong = || "give a whole number of bytes, or one with K, M, G or T, such as 20G".to_string();
    let short = text.strip_suffix("iB").unwrap_or(text);
    let units = UNITS.iter().find_map(|(unit, bytes)| Some((short.strip_suffix(unit)?, *bytes)));
    let (number, bytes) = units.unwrap_or((text, 1));
    whole(number).and_then(|n| n.checked_mul(bytes)).ok_or_else(wrong)
}

fn whole(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good = [("30d", 2_592_000), ("12h", 43_200), ("0s", 0), ("5m", 300), ("2w", 1_209_600)];
        for (text, seconds) in good {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "d", "30", "-1d", "+1d", "1.5h", "1 d", "30days", "99999999999999999999d", "18446744073709551615w"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let good = [("0", 0), ("17", 17), ("1K", 1024), ("20G", 20 << 30), ("3MiB", 3 << 20), ("1T", 1 << 40)];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "iB", "1iB", "1X", "-1", "1.5G", "1 G", "99999999T", "18446744073709551616"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
