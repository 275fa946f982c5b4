//! Which law decides where a graph goes, when several speak.

use crate::features::Features;
use crate::laws::{
    AnchorAndWork, BlockwiseInt4, ByteCeiling, Card, ElementType, Floor, Law, OperationCeiling, Opinion,
};

/// What decides: the laws, with the fitted one in the fit that is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Laws<'a> {
    pub(crate) fitted: &'a AnchorAndWork,
    /// Which laws may speak: when sources are left out, not those that were made from them.
    pub(crate) may_speak: &'a dyn Fn(&Card) -> bool,
}

impl Laws<'static> {
    pub(crate) fn built_in() -> Self {
        Self { fitted: AnchorAndWork::built_in(), may_speak: &|_| true }
    }
}

/// A law that decided, and what it said.
pub(crate) struct Decision {
    pub(crate) law: &'static str,
    pub(crate) opinion: Opinion,
}

/// What excludes a graph comes first, then the families of quantisation; then the floor of Experiment 27 for the shards that it is
/// about, and the fitted law for everything else.
pub(crate) fn decide(features: &Features, laws: &Laws<'_>) -> Option<Decision> {
    let order: [&dyn Law; 6] =
        [&ElementType, &OperationCeiling, &ByteCeiling, &BlockwiseInt4, &Floor::OF_SHARDS, laws.fitted];
    order
        .into_iter()
        .filter(|law| (laws.may_speak)(law.card()))
        .find_map(|law| Some(Decision { law: law.card().name, opinion: law.graph(features)? }))
}

/// The law that rules a graph out before its size is asked about, if one does.
pub(crate) fn excluded(features: &Features) -> Option<&'static str> {
    let laws: [&'static dyn Law; 3] = [&ElementType, &OperationCeiling, &ByteCeiling];
    laws.into_iter().find(|law| law.graph(features).is_some()).map(|law| law.card().name)
}
