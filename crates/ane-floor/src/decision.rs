//! Which law decides on a graph when several apply.

use crate::features::Features;
use crate::laws::{
    AnchorAndWork, BlockwiseInt4, ByteCeiling, Card, ElementType, Floor, Law, OperationCeiling, Opinion,
};

/// The laws that may decide, with a given fit of the fitted law.
#[derive(Clone, Copy)]
pub(crate) struct Laws<'a> {
    pub(crate) fitted: &'a AnchorAndWork,
    /// Whether a law may be used. When sources are left out, laws that were made from them may not.
    pub(crate) allowed: &'a dyn Fn(&Card) -> bool,
}

impl Laws<'static> {
    pub(crate) fn built_in() -> Self {
        Self { fitted: AnchorAndWork::built_in(), allowed: &|_| true }
    }
}

/// The law that decided, and its opinion.
pub(crate) struct Decision {
    pub(crate) law: &'static str,
    pub(crate) opinion: Opinion,
}

/// Returns the first opinion in order of precedence: laws that exclude a graph, the form of quantization, the
/// floor of Experiment 27 for the shards that it covers, and the fitted law for everything else.
pub(crate) fn decide(features: &Features, laws: &Laws<'_>) -> Option<Decision> {
    let order: [&dyn Law; 6] =
        [&ElementType, &OperationCeiling, &ByteCeiling, &BlockwiseInt4, &Floor::OF_SHARDS, laws.fitted];
    order
        .into_iter()
        .filter(|law| (laws.allowed)(law.card()))
        .find_map(|law| Some(Decision { law: law.card().name, opinion: law.graph(features)? }))
}

/// Returns the law, if any, that excludes a graph before laws of lower precedence apply.
pub(crate) fn excluded(features: &Features) -> Option<&'static str> {
    let laws: [&'static dyn Law; 3] = [&ElementType, &OperationCeiling, &ByteCeiling];
    laws.into_iter().find(|law| law.graph(features).is_some()).map(|law| law.card().name)
}
