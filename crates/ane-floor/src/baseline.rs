//! Comparison of two sets of reports: regressions.

use std::collections::{BTreeMap, BTreeSet};

use crate::device::{Device, Verdict};
use crate::report::PlacementReport;
use crate::residency::Count;

/// Operations that are listed by name; further ones are counted.
const NAMED: usize = 8;
/// Tolerated decrease of the share of the cost, which is an estimate.
const COST: f64 = 0.005;

/// Returns what is worse in `now` than in `baseline`, one line each.
///
/// Packages are matched by name, or to each other if there is one on each side; operations are matched by
/// function and name. New packages and operations are not regressions.
pub fn regressions(baseline: &[PlacementReport], now: &[PlacementReport]) -> Vec<String> {
    let mut worse = Vec::new();
    for before in baseline {
        let same_name = now.iter().find(|report| report.package == before.package);
        let only = match (baseline, now) {
            ([_], [one]) => Some(one),
            _ => None,
        };
        match same_name.or(only) {
            Some(after) => compare(before, after, &mut worse),
            None => {
                worse.push(format!("{}: it is in the baseline but not in the new reports", before.package))
            }
        }
    }
    worse
}

fn compare(before: &PlacementReport, after: &PlacementReport, worse: &mut Vec<String>) {
    let package = &after.package;
    if rank(after.verdict) < rank(before.verdict) {
        worse.push(format!("{package}: the verdict was {}, and is {}", before.verdict, after.verdict));
    }
    let counts = [
        ("conv_ane", before.residency.conv_ane, after.residency.conv_ane),
        ("compute_ane", before.residency.compute_ane, after.residency.compute_ane),
    ];
    for (name, was, is) in counts {
        // a / b < c / d, without division: all are counts of operations.
        let product = |a: usize, b: usize| a as u128 * b as u128;
        let less = product(is.ane, was.total) < product(was.ane, is.total);
        if less || (was.total > 0 && is == Count::default()) {
            worse.push(format!("{package}: {name} was {was}, and is {is}"));
        }
    }
    if after.cost_ane < before.cost_ane - COST {
        let percent = |share: f64| 100.0 * share;
        worse.push(format!(
            "{package}: cost_ane was {:.1} %, and is {:.1} %",
            percent(before.cost_ane),
            percent(after.cost_ane)
        ));
    }
    let placed: BTreeSet<(&str, &str)> =
        on_ane(before).map(|o| (o.function.as_str(), o.name.as_str())).collect();
    let mut left: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for o in after.operations.iter().filter(|o| o.device != Device::Ane) {
        if placed.contains(&(o.function.as_str(), o.name.as_str())) {
            left.entry((&o.rule, &o.reason)).or_default().push(&o.name);
        }
    }
    for ((rule, reason), names) in left {
        let mut listed = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        if names.len() > NAMED {
            listed.push_str(&format!(" and {} more", names.len() - NAMED));
        }
        worse.push(format!("{package}: no longer on the ANE by {rule}: {listed}: {reason}"));
    }
}

fn on_ane(report: &PlacementReport) -> impl Iterator<Item = &crate::placed_operation::PlacedOperation> {
    report.operations.iter().filter(|o| o.device == Device::Ane)
}

fn rank(outcome: Verdict) -> u8 {
    match outcome {
        Verdict::Ane => 3,
        Verdict::Mixed => 2,
        Verdict::Cpu | Verdict::Gpu | Verdict::Unknown => 1,
        Verdict::Error => 0,
    }
}
