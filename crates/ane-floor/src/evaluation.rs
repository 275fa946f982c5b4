//! The accuracy of each law on the corpus, and on sources that it was not made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use mlpackage::counted;
use serde::Serialize;

use crate::corpus::{Placement, PlacementCorpus};
use crate::decision::{Laws, decide};
use crate::device::Verdict;
use crate::features::Features;
use crate::laws::{self, AnchorAndWork, Card, Floor, Law, Opinion};

/// The accuracy of all laws on a corpus.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Number of rows with a known outcome.
    pub rows: usize,
    /// Number of their sources.
    pub sources: usize,
    /// One entry per law that applies to graphs, the baseline first and all laws together last.
    pub laws: Vec<LawAccuracy>,
    /// The floor on rows that it decides, leave-one-source-out, where the fitted law agrees with it.
    pub floor_agreed: Tally,
    /// The same where the fitted law disagrees.
    pub floor_alone: Tally,
    /// Rows for which every law that applies is wrong.
    pub missed_by_all: Vec<String>,
    /// Rows to which no law applies.
    pub not_covered: Vec<String>,
}

/// How often a law is right about whether *all* of a graph is on the Neural Engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LawAccuracy {
    /// Its name.
    pub law: String,
    /// On all rows that it applies to.
    pub fitted: Tally,
    /// On rows of sources that it was not made from; the fitted law is refitted without each source in turn.
    pub source_left_out: Tally,
    /// The same, leaving out whole publications: for a book, all its experiments at once.
    pub publication_left_out: Tally,
    /// Rows for which it is wrong.
    pub wrong: Vec<String>,
}

/// Counts of right opinions and of all opinions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Number of right opinions.
    pub right: usize,
    /// Number of opinions.
    pub of: usize,
}

impl Tally {
    fn add(&mut self, right: bool) {
        self.right += usize::from(right);
        self.of += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            0 => f.pad("-"),
            of => f.pad(&format!("{}/{of} {:.0} %", self.right, 100.0 * self.right as f64 / of as f64)),
        }
    }
}

/// The evidence that a law must not have been made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LeftOut<'a> {
    Nothing,
    Source(&'a str),
    Publication(&'a str),
}

impl LeftOut<'_> {
    fn hides(self, source: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Source(hidden) => source == hidden,
            Self::Publication(hidden) => publication(source) == hidden,
        }
    }

    /// Returns whether a law remains. A law that was made from left-out evidence does not.
    fn allows(self, card: &Card) -> bool {
        !card.made_from.iter().any(|source| self.hides(source))
    }
}

/// Returns the publication of a source, which is named `publication, part of it`.
fn publication(source: &str) -> &str {
    source.split(',').next().unwrap_or_default()
}

/// The opinion on a graph of a law made without the left-out evidence; `None` if there is none, or the law
/// depends on that evidence.
type Predictor<'a> = dyn for<'s> Fn(&Features, LeftOut<'s>) -> Option<Verdict> + 'a;

/// Number of rows that are listed by name; further ones are counted.
const LISTED: usize = 24;

impl Accuracy {
    /// Evaluates every law on every row.
    pub fn of(corpus: &PlacementCorpus) -> Self {
        let rows: Vec<&Placement> =
            corpus.evidence().filter(|r| r.placed.device != Verdict::Unknown).collect();
        let sources: BTreeSet<&str> = rows.iter().map(|r| r.source.as_str()).collect();
        let mut laws = Vec::new();
        let mut right_about: BTreeSet<String> = BTreeSet::new();
        let mut evaluate = |name: &str, predict: &Predictor<'_>| {
            let (law, right) = tally(name, &rows, predict);
            if law.fitted.of > 0 {
                right_about.extend(right.into_iter().filter(|_| !laws.is_empty()));
                laws.push(law);
            }
        };
        evaluate("always the Neural Engine", &|_, _| Some(Verdict::Ane));
        let fixed: [&'static dyn Law; 2] = [&Floor::OF_EVERYTHING, &Floor::AS_STORED];
        let fixed = fixed.into_iter().chain(laws::all()).filter(|law| law.card().name != AnchorAndWork::NAME);
        for law in fixed {
            evaluate(law.card().name, &|features, left_out| {
                law.graph(features).filter(|_| left_out.allows(law.card())).map(|opinion| opinion.outcome)
            });
        }
        let fits = fits(corpus, &rows);
        evaluate(AnchorAndWork::NAME, &|features, left_out| Some(fits[&left_out].graph(features)?.outcome));
        evaluate("all laws together", &|features, left_out| {
            let laws = Laws { fitted: &fits[&left_out], allowed: &|card| left_out.allows(card) };
            Some(decide(features, &laws)?.opinion.outcome)
        });
        let (floor_agreed, floor_alone) = floor_records(&rows, &fits);
        let wrong: BTreeSet<&String> = laws[1..].iter().flat_map(|law| &law.wrong).collect();
        let missed = rows.iter().map(|row| row.id.clone()).filter(|id| !right_about.contains(id));
        let (missed_by_all, not_covered) = missed.partition(|id| wrong.contains(id));
        Self {
            rows: rows.len(),
            sources: sources.len(),
            laws,
            floor_agreed,
            floor_alone,
            missed_by_all,
            not_covered,
        }
    }

    /// Returns the accuracy of the built-in laws on the built-in corpus.
    pub fn built_in() -> &'static Self {
        static ACCURACY: LazyLock<Accuracy> = LazyLock::new(|| Accuracy::of(PlacementCorpus::built_in()));
        &ACCURACY
    }

    /// Returns a law's record, 0 to 1: the share of rows and statements that it agrees with.
    ///
    /// Rows of sources that the law was made from count half. One row for and one against are added, so that
    /// without evidence the record is a half.
    pub fn record(&self, law: &dyn Law) -> f64 {
        let card = law.card();
        let found = self.laws.iter().find(|l| l.law == card.name);
        let (other, all) = found.map_or(Default::default(), |l| (l.source_left_out, l.fitted));
        let own = |of: usize, other: usize| of.saturating_sub(other) as f64 / 2.0;
        let supporting = card.statements.iter().filter(|s| s.supports).count();
        let right = (other.right + supporting) as f64 + own(all.right, other.right);
        let of = (other.of + card.statements.len()) as f64 + own(all.of, other.of);
        ((right + 1.0) / (of + 2.0)).min(1.0)
    }

    /// Returns the confidence of a law in its opinion, 0 to 1: the smaller of its record and the opinion's
    /// margin.
    ///
    /// The floor has two records, for graphs where the fitted law agrees with it and for those where it does
    /// not; the one for this graph's case is used.
    pub fn confidence(&self, law: &dyn Law, opinion: &Opinion, features: &Features) -> f64 {
        let of = |tally: Tally| (tally.right + 1) as f64 / (tally.of + 2) as f64;
        let fitted = AnchorAndWork::built_in().graph(features);
        let record = match fitted.filter(|_| law.card().name == Floor::OF_SHARDS.card().name) {
            Some(fitted) if fitted.outcome == opinion.outcome => of(self.floor_agreed),
            Some(_) => of(self.floor_alone),
            None => self.record(law),
        };
        record.min(opinion.margin)
    }
}

/// The law of anchor and work, fitted without each source and each publication in turn, and to everything.
type Fits<'a> = BTreeMap<LeftOut<'a>, AnchorAndWork>;

/// Computes each fit once.
fn fits<'a>(corpus: &PlacementCorpus, rows: &[&'a Placement]) -> Fits<'a> {
    let mut fits = Fits::new();
    let all =
        rows.iter().flat_map(|r| [LeftOut::Source(&r.source), LeftOut::Publication(publication(&r.source))]);
    for left_out in all.chain([LeftOut::Nothing]) {
        fits.entry(left_out).or_insert_with(|| AnchorAndWork::fit(corpus, |row| left_out.hides(&row.source)));
    }
    fits
}

/// Returns the floor's records on the rows that it decides, leave-one-source-out: where the fitted law agrees
/// with it, and where it disagrees.
fn floor_records<'a>(rows: &[&'a Placement], fits: &Fits<'a>) -> (Tally, Tally) {
    let (mut agreed, mut alone) = (Tally::default(), Tally::default());
    for row in rows {
        let (features, left_out) = (Features::from(&row.graph), LeftOut::Source(&row.source));
        let laws = Laws { fitted: &fits[&left_out], allowed: &|card| left_out.allows(card) };
        let decided = decide(&features, &laws).filter(|d| d.law == Floor::OF_SHARDS.card().name);
        let (Some(decided), Some(fitted)) = (decided, fits[&left_out].graph(&features)) else { continue };
        let same = fitted.outcome == decided.opinion.outcome;
        let tally = if same { &mut agreed } else { &mut alone };
        tally.add(agree(decided.opinion.outcome, row.placed.device));
    }
    (agreed, alone)
}

/// Returns whether prediction and observation agree on full ANE placement.
fn agree(predicted: Verdict, observed: Verdict) -> bool {
    (predicted == Verdict::Ane) == (observed == Verdict::Ane)
}

/// Returns the accuracy of a law, and the rows that it is right about.
fn tally(name: &str, rows: &[&Placement], predict: &Predictor<'_>) -> (LawAccuracy, Vec<String>) {
    let mut right_about = Vec::new();
    let mut found = LawAccuracy {
        law: name.to_owned(),
        fitted: Tally::default(),
        source_left_out: Tally::default(),
        publication_left_out: Tally::default(),
        wrong: Vec::new(),
    };
    for row in rows {
        let features = Features::from(&row.graph);
        let right =
            |predicted: Option<Verdict>| predicted.map(|predicted| agree(predicted, row.placed.device));
        if let Some(right) = right(predict(&features, LeftOut::Nothing)) {
            found.fitted.add(right);
            if right { &mut right_about } else { &mut found.wrong }.push(row.id.clone());
        }
        if let Some(right) = right(predict(&features, LeftOut::Source(&row.source))) {
            found.source_left_out.add(right);
        }
        if let Some(right) = right(predict(&features, LeftOut::Publication(publication(&row.source)))) {
            found.publication_left_out.add(right);
        }
    }
    (found, right_about)
}

/// Formats a table, and the rows for which each law is wrong.
impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {} with a known outcome; a law is right if it predicts whether all of the graph is on the Neural Engine\n",
            counted(self.rows, "row"),
            counted(self.sources, "source")
        )?;
        writeln!(
            f,
            "{:<28}  {:<12}  {:<20}  {:<16}",
            "law", "all rows", "leave-one-source-out", "leave-one-publication-out"
        )?;
        for LawAccuracy { law, fitted, source_left_out, publication_left_out, .. } in &self.laws {
            writeln!(f, "{law:<28}  {fitted:<12}  {source_left_out:<20}  {publication_left_out:<16}")?;
        }
        writeln!(
            f,
            "\nwhere the floor decides, leave-one-source-out: {} right if anchor-and-work agrees, {} if not\n",
            self.floor_agreed, self.floor_alone
        )?;
        let listed = |ids: &[String]| match ids.len() {
            0 => "nothing".to_owned(),
            n if n > LISTED => format!("{} and {} more", ids[..LISTED].join(", "), n - LISTED),
            _ => ids.join(", "),
        };
        for LawAccuracy { law, wrong, .. } in self.laws.iter().skip(1).filter(|l| !l.wrong.is_empty()) {
            writeln!(f, "{law}: wrong about {}", listed(wrong))?;
        }
        writeln!(f, "\nevery law that applies is wrong about: {}", listed(&self.missed_by_all))?;
        writeln!(f, "no law applies to: {}", listed(&self.not_covered))
    }
}
