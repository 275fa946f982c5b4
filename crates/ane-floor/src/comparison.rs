//! Comparison of a prediction and a measurement of one package, operation by operation.

use std::collections::HashMap;
use std::fmt;

use mlpackage::counted;

use crate::device::Device;
use crate::placed_operation::PlacedOperation;
use crate::report::PlacementReport;

/// Maximum width of a column in characters; longer names overflow it.
const WIDEST: usize = 60;

/// Two reports on one package, side by side.
#[derive(Clone, Debug)]
pub struct Comparison<'r> {
    /// The first report.
    pub predicted: &'r PlacementReport,
    /// The second report.
    pub measured: &'r PlacementReport,
    /// Operations by function and name, in the order of the first report; those only in the second come last.
    pub operations: Vec<Pair<'r>>,
}

/// An operation that is in one report or in both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair<'r> {
    /// Its entry in the first report.
    pub predicted: Option<&'r PlacedOperation>,
    /// Its entry in the second report.
    pub measured: Option<&'r PlacedOperation>,
}

impl<'r> Pair<'r> {
    /// Returns the operation, from the first report that has it.
    pub fn operation(&self) -> &'r PlacedOperation {
        self.predicted.or(self.measured).expect("a pair has one of them at least")
    }

    /// Returns whether both reports have it, on different devices.
    pub fn differs(&self) -> bool {
        matches!((self.predicted, self.measured), (Some(p), Some(m)) if p.device != m.device)
    }
}

impl<'r> Comparison<'r> {
    /// Pairs the operations of two reports.
    pub fn of(predicted: &'r PlacementReport, measured: &'r PlacementReport) -> Self {
        let key = |o: &'r PlacedOperation| (o.function.as_str(), o.name.as_str());
        let mut left: HashMap<_, _> = measured.operations.iter().map(|o| (key(o), o)).collect();
        let pair = |o: &'r PlacedOperation| Pair { predicted: Some(o), measured: left.remove(&key(o)) };
        let mut operations: Vec<Pair<'r>> = predicted.operations.iter().map(pair).collect();
        let alone = measured.operations.iter().filter(|o| left.contains_key(&key(o)));
        operations.extend(alone.map(|o| Pair { predicted: None, measured: Some(o) }));
        Self { predicted, measured, operations }
    }

    /// Returns the number of operations that both have, on different devices.
    pub fn differing(&self) -> usize {
        self.operations.iter().filter(|pair| pair.differs()).count()
    }

    /// Returns the number of operations that both have.
    pub fn shared(&self) -> usize {
        self.operations.iter().filter(|pair| pair.predicted.is_some() && pair.measured.is_some()).count()
    }
}

/// Formats one line per operation; differences are marked.
impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { predicted, measured, operations } = self;
        writeln!(
            f,
            "{}: {} {}, {} {}",
            predicted.package, predicted.verdict, predicted.basis, measured.verdict, measured.basis
        )?;
        let (p, m) = (&predicted.residency, &measured.residency);
        writeln!(
            f,
            "conv_ane={} | {}  compute_ane={} | {}  cost_ane={:.0} % | {:.0} %",
            p.conv_ane,
            m.conv_ane,
            p.compute_ane,
            m.compute_ane,
            100.0 * predicted.cost_ane,
            100.0 * measured.cost_ane
        )?;
        let one = predicted.functions.len() == 1;
        let name =
            |o: &PlacedOperation| if one { o.name.clone() } else { format!("{}/{}", o.function, o.name) };
        let width = |of: &dyn Fn(&PlacedOperation) -> usize| {
            operations.iter().map(|pair| of(pair.operation())).max().unwrap_or(0).min(WIDEST)
        };
        let (names, ops) = (width(&|o| name(o).chars().count()), width(&|o| o.op.chars().count()));
        writeln!(
            f,
            "  {:names$}  {:ops$}  {:<9}  {:<9}  {:>7}  plan",
            "operation", "type", predicted.basis, measured.basis, "cost"
        )?;
        let device = |o: Option<&PlacedOperation>| o.map_or("-".to_owned(), |o| Device::to_string(&o.device));
        for pair in operations {
            let o = pair.operation();
            let mark = if pair.differs() { "!" } else { " " };
            let cost = pair.measured.map_or("-".to_owned(), |m| format!("{:.2} %", 100.0 * m.cost));
            let reason = pair.measured.map_or("not in the plan", |m| &m.reason);
            writeln!(
                f,
                "{mark} {:names$}  {:ops$}  {:<9}  {:<9}  {cost:>7}  {reason}",
                name(o),
                o.op,
                device(pair.predicted),
                device(pair.measured)
            )?;
        }
        let alone = operations.len() - self.shared();
        write!(f, "{} of {} differ", self.differing(), counted(self.shared(), "operation"))?;
        match alone {
            0 => writeln!(f),
            _ => writeln!(f, "; {alone} are in only one of the two"),
        }
    }
}
