//! How each law does on the corpus, and on sources that it was not made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use serde::Serialize;

use crate::corpus::{Corpus, Placement};
use crate::decision::{Laws, decide};
use crate::device::Outcome;
use crate::features::Features;
use crate::laws::{self, AnchorAndWork, Card, Floor, Law};

/// Laws, and how often each is right on a corpus.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Rows whose outcome is known.
    pub rows: usize,
    /// Sources that they come from.
    pub sources: usize,
    /// One for each law that speaks of graphs, the baseline first and the verdict of all laws last.
    pub laws: Vec<LawAccuracy>,
    /// Rows of which every law that says anything is wrong.
    pub missed_by_all: Vec<String>,
    /// Rows of which no law says anything.
    pub not_spoken_of: Vec<String>,
}

/// How often a law is right about whether *all* of a graph is on the Neural Engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LawAccuracy {
    /// Its name.
    pub law: String,
    /// On all rows that it speaks of.
    pub fitted: Tally,
    /// On rows of sources that it was not made from: of the fitted law, fitted anew without each source in turn.
    pub source_left_out: Tally,
    /// The same with whole publications left out: all experiments of a book at once.
    pub publication_left_out: Tally,
    /// Rows that it gets wrong.
    pub wrong: Vec<String>,
}

/// How many it is right about, of how many it speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Right.
    pub right: usize,
    /// Said something.
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

/// What is asked of a row: what is said of its graph by a law that has not seen the sources of which `unseen` is true; `None` if
/// nothing is, or the law cannot do without them.
type Ask<'a> = dyn Fn(&Features, &dyn Fn(&Placement) -> bool) -> Option<Outcome> + 'a;

impl Accuracy {
    /// Asks every law about every row.
    pub fn of(corpus: &Corpus) -> Self {
        let rows: Vec<&Placement> =
            corpus.evidence().filter(|r| r.placed.device != Outcome::Unknown).collect();
        let sources: BTreeSet<&str> = rows.iter().map(|r| r.source.as_str()).collect();
        let mut laws = Vec::new();
        let mut right_about: BTreeSet<String> = BTreeSet::new();
        let mut ask = |name: &str, ask: &Ask<'_>| {
            let (law, right) = tally(name, &rows, ask);
            if law.fitted.of > 0 {
                right_about.extend(right.into_iter().filter(|_| !laws.is_empty()));
                laws.push(law);
            }
        };
        ask("always the Neural Engine", &|_, _| Some(Outcome::Ane));
        let fixed: [&'static dyn Law; 2] = [&Floor::OF_EVERYTHING, &Floor::AS_STORED];
        let fixed = fixed.into_iter().chain(laws::all()).filter(|law| law.card().name != "anchor-and-work");
        // A law that was made from what is left out is not there.
        let stands = |card: &Card, unseen: &dyn Fn(&Placement) -> bool| {
            !corpus.rows().iter().any(|row| unseen(row) && card.made_from.contains(&row.source.as_str()))
        };
        for law in fixed {
            ask(law.card().name, &|features, unseen| {
                law.graph(features).filter(|_| stands(law.card(), unseen)).map(|opinion| opinion.outcome)
            });
        }
        // Fitted without what is left out; each such fit once.
        let fits: std::cell::RefCell<BTreeMap<Vec<bool>, AnchorAndWork>> = Default::default();
        let without = |unseen: &dyn Fn(&Placement) -> bool| -> AnchorAndWork {
            let key: Vec<bool> = corpus.rows().iter().map(unseen).collect();
            fits.borrow_mut().entry(key).or_insert_with(|| AnchorAndWork::fit(corpus, unseen)).clone()
        };
        ask("anchor-and-work", &|features, unseen| Some(without(unseen).graph(features)?.outcome));
        ask("all laws together", &|features, unseen| {
            let laws = Laws { fitted: &without(unseen), may_speak: &|card| stands(card, unseen) };
            Some(decide(features, &laws)?.opinion.outcome)
        });
        let wrong: BTreeSet<&String> = laws[1..].iter().flat_map(|law| &law.wrong).collect();
        let missed = rows.iter().map(|row| row.id.clone()).filter(|id| !right_about.contains(id));
        let (missed_by_all, not_spoken_of) = missed.partition(|id| wrong.contains(id));
        Self { rows: rows.len(), sources: sources.len(), laws, missed_by_all, not_spoken_of }
    }

    /// What the built-in corpus says of the built-in laws.
    pub fn built_in() -> &'static Self {
        static ACCURACY: LazyLock<Accuracy> = LazyLock::new(|| Accuracy::of(&Corpus::built_in()));
        &ACCURACY
    }

    /// How sure a law is by its record: the share of rows of other sources, and of statements, that it agrees with; one of either
    /// kind is added, so that nothing known is a half.
    pub fn confidence(&self, law: &dyn Law) -> f64 {
        let card = law.card();
        let found = self.laws.iter().find(|l| l.law == card.name);
        let Tally { right, of } = found.map_or(Tally::default(), |l| l.source_left_out);
        let supporting = card.statements.iter().filter(|s| s.supports).count();
        (right + supporting + 1) as f64 / (of + card.statements.len() + 2) as f64
    }
}

/// Whether what is said and what came agree on whether all of it is on the Neural Engine.
fn agree(said: Outcome, came: Outcome) -> bool {
    (said == Outcome::Ane) == (came == Outcome::Ane)
}

/// The record of a law, and the rows that it is right about.
fn tally(name: &str, rows: &[&Placement], ask: &Ask<'_>) -> (LawAccuracy, Vec<String>) {
    let mut right_about = Vec::new();
    let mut found = LawAccuracy {
        law: name.to_owned(),
        fitted: Tally::default(),
        source_left_out: Tally::default(),
        publication_left_out: Tally::default(),
        wrong: Vec::new(),
    };
    let publication = |row: &Placement| row.source.split(',').next().unwrap_or_default().to_owned();
    for row in rows {
        let features = Features::from(&row.graph);
        let right = |said: Option<Outcome>| said.map(|said| agree(said, row.placed.device));
        if let Some(right) = right(ask(&features, &|_| false)) {
            found.fitted.add(right);
            if right { &mut right_about } else { &mut found.wrong }.push(row.id.clone());
        }
        if let Some(right) = right(ask(&features, &|other| other.source == row.source)) {
            found.source_left_out.add(right);
        }
        if let Some(right) = right(ask(&features, &|other| publication(other) == publication(row))) {
            found.publication_left_out.add(right);
        }
    }
    (found, right_about)
}

/// The table, and the rows that each law gets wrong.
impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rows of {} sources whose outcome is known; right is: says whether all of it is on the Neural Engine\n",
            self.rows, self.sources
        )?;
        writeln!(
            f,
            "{:<28}  {:<12}  {:<16}  {:<16}",
            "law", "all rows", "source left out", "publication left out"
        )?;
        for LawAccuracy { law, fitted, source_left_out, publication_left_out, .. } in &self.laws {
            writeln!(f, "{law:<28}  {fitted:<12}  {source_left_out:<16}  {publication_left_out:<16}")?;
        }
        writeln!(f)?;
        for LawAccuracy { law, wrong, .. } in self.laws.iter().skip(1).filter(|l| !l.wrong.is_empty()) {
            writeln!(f, "{law}: wrong about {}", wrong.join(", "))?;
        }
        writeln!(f, "\nevery law that says anything is wrong about: {}", self.missed_by_all.join(", "))?;
        writeln!(f, "no law says anything of: {}", self.not_spoken_of.join(", "))
    }
}
