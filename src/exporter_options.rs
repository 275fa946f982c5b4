//! Reads the options of an export back from the bundle.

use ane_export::ExportOptions;
use mlpackage::bundle::Exporter;

use crate::{Error, Result};

/// The options that a bundle was exported with.
///
/// # Errors
///
/// [`Error::ExporterOption`] if one is missing, [`Error::Export`] if a value is unknown: the bundle is another
/// exporter's, or of a version with other options.
pub(crate) fn of(exporter: &Exporter) -> Result<ExportOptions> {
    let option = |name: &'static str| -> Result<&str> {
        exporter.options.get(name).map(String::as_str).ok_or(Error::ExporterOption { name })
    };
    Ok(ExportOptions {
        quantization: exporter.quantization.parse()?,
        projections: option("projections")?.parse()?,
        cache_update: option("cache-update")?.parse()?,
        norm: option("norm")?.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ane_export::{CacheUpdate, NormForm, Projections, Quantization};

    use super::*;

    fn exporter(options: &[(&str, &str)]) -> Exporter {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Exporter {
            name: "ane-export".into(),
            version: "0.1.0".into(),
            quantization: "int8-per-channel".into(),
            options: BTreeMap::from_iter(options),
        }
    }

    #[test]
    fn options_are_read_back_and_what_is_missing_is_named() {
        let (fused, host) = (("projections", "fused-qkv"), ("cache-update", "host"));
        let options = of(&exporter(&[fused, host, ("norm", "safe")])).unwrap();
        let expected = ExportOptions {
            quantization: Quantization::Int8PerChannel,
            projections: Projections::FusedQkv,
            cache_update: CacheUpdate::Host,
            norm: NormForm::Safe,
        };
        assert_eq!(options, expected);
        let error = of(&exporter(&[fused, ("norm", "safe")])).unwrap_err();
        assert_eq!(error.to_string(), "bundle.json: exporter.options.cache-update is missing");
        let error = of(&exporter(&[fused, host, ("norm", "of tomorrow")])).unwrap_err();
        assert!(matches!(error, Error::Export(ane_export::Error::Option { option: "norm", .. })), "{error}");
    }
}
