//! What `wrk` and `h2load` print.

use anyhow::{Context, Result};

use super::Outcome;

/// Reads the summary of `wrk`.
///
/// # Errors
///
/// When the text has no count of requests.
pub(crate) fn parse_wrk(text: &str) -> Result<Outcome> {
    let total = number_before(text, " requests in ").context("no count of requests in the output of wrk")?;
    let socket: u64 = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Socket errors:"))
        .into_iter()
        .flat_map(|line| {
            line.split(|c: char| !c.is_ascii_digit())
                .filter_map(|word| word.parse::<u64>().ok())
        })
        .sum();
    let status = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses:"))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0);
    Ok(Outcome {
        requests: total - status.min(total),
        errors: socket + status,
        ..Outcome::default()
    })
}

/// Reads the summary of `h2load`.
///
/// # Errors
///
/// When the text has no count of requests.
pub(crate) fn parse_h2load(text: &str) -> Result<Outcome> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("requests:"))
        .context("no count of requests in the output of h2load")?;
    let count = |word: &str| number_before(line, word).unwrap_or(0);
    let requests = number_before(text, " 2xx").context("no statuses in the output of h2load")?;
    let errors = count(" failed") + count(" errored") + count(" timeout");
    Ok(Outcome {
        requests,
        errors,
        ..Outcome::default()
    })
}

fn number_before(text: &str, mark: &str) -> Option<u64> {
    let (before, _) = text.split_once(mark)?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_run_of_wrk() {
        let text = "Running 2s test @ http://localhost:1/1k\n  1 threads and 64 connections\n  \
                    Thread Stats   Avg      Stdev     Max   +/- Stdev\n  48122 requests in 2.00s, 61.31MB read\n\
                    Requests/sec:  24018.11\n";
        assert_eq!(
            parse_wrk(text).unwrap(),
            Outcome {
                requests: 48122,
                ..Outcome::default()
            }
        );
    }

    #[test]
    fn errors_of_wrk_are_summed() {
        let text = "  100 requests in 1.00s, 1MB read\n  Socket errors: connect 1, read 2, write 3, timeout 4\n  \
                    Non-2xx or 3xx responses: 10\n";
        assert_eq!(
            parse_wrk(text).unwrap(),
            Outcome {
                requests: 90,
                errors: 20,
                ..Outcome::default()
            }
        );
        assert!(parse_wrk("unable to connect").is_err());
    }

    #[test]
    fn a_run_of_h2load() {
        let text = "finished in 2.00s, 20000.00 req/s, 25MB/s\nrequests: 40100 total, 40612 started, 40100 done, \
                    40090 succeeded, 10 failed, 3 errored, 0 timeout\nstatus codes: 40095 2xx, 0 3xx, 5 4xx, 0 5xx\n";
        assert_eq!(
            parse_h2load(text).unwrap(),
            Outcome {
                requests: 40095,
                errors: 13,
                ..Outcome::default()
            }
        );
        assert!(parse_h2load("").is_err());
    }
}
