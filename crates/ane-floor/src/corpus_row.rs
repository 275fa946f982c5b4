//! Conversion of reports to rows of a corpus.

use crate::corpus::{Graph, How, Placed, Placement, RecordedMachine};
use crate::placed_operation::PlacedOperation;
use crate::report::PlacementReport;

impl Placement {
    /// Creates a row from a prediction, which is not evidence.
    pub fn of_prediction(id: String, summary: String, report: &PlacementReport) -> Self {
        let machine = RecordedMachine { chip: None, os: None };
        Self::of_report(id, summary, report, machine, How::Predicted, "predicted by the laws of ane-floor")
    }

    /// Creates a row from what `MLComputePlan` reported on a machine.
    pub fn of_measurement(
        id: String,
        summary: String,
        report: &PlacementReport,
        machine: RecordedMachine,
        source: &str,
    ) -> Self {
        Self::of_report(id, summary, report, machine, How::Plan, source)
    }

    fn of_report(
        id: String,
        summary: String,
        report: &PlacementReport,
        machine: RecordedMachine,
        how: How,
        source: &str,
    ) -> Self {
        let convs = report.residency.conv_ane.total as u64;
        let products = |o: &&PlacedOperation| matches!(o.op.as_str(), "matmul" | "linear");
        let matmuls = report.operations.iter().filter(products).count() as u64;
        let features = report.functions.first().map(|function| &function.features);
        let graph = match features {
            Some(features) => features.to_graph(summary, convs, matmuls),
            None => Graph::unknown(summary),
        };
        Self {
            id,
            graph,
            machine,
            placed: Placed {
                device: report.verdict,
                conv_ane: Some(report.residency.conv_ane).filter(|c| c.total > 0),
                compute_ane: Some(report.residency.compute_ane).filter(|c| c.total > 0),
            },
            how,
            source: source.to_owned(),
            remark: None,
        }
    }
}
