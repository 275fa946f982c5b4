//! The results of a run: where they are written, and whether they are finite.

use std::collections::BTreeMap;
use std::path::Path;

use ane_runtime::tensor_file::{self, Stacked};
use ane_runtime::{Data, Tensors};
use anyhow::{Context as _, Result, bail, ensure};
use mlpackage::ImageType;

use super::args::NamedFile;
use super::calls::{Call, Calls, Side};
use super::image_file;
use crate::cli::output;

/// The results of all calls of a function.
#[derive(Default)]
pub(super) struct Results {
    stacked: Stacked,
    non_finite: BTreeMap<String, NonFinite>,
}

/// Counts of NaN and infinite elements in a tensor of floats.
#[derive(Clone, Copy, Default)]
struct NonFinite {
    all: usize,
    nan: usize,
    infinite: usize,
}

impl NonFinite {
    fn add(&mut self, data: &Data) {
        if let Data::F32(values) = data {
            self.all += values.len();
            self.nan += values.iter().filter(|v| v.is_nan()).count();
            self.infinite += values.iter().filter(|v| v.is_infinite()).count();
        }
    }

    /// Describes NaN or infinite elements; `None` if there is nothing to report. Some infinities are normal,
    /// as in masks.
    fn fault(self) -> Option<String> {
        let Self { all, nan, infinite } = self;
        match (nan, infinite) {
            (0, infinite) if infinite < all || all == 0 => None,
            (nan, _) if nan == all => Some(if all == 1 { "is NaN" } else { "is NaN everywhere" }.into()),
            (0, _) => Some(if all == 1 { "is infinite" } else { "is infinite everywhere" }.into()),
            (nan, infinite) if nan + infinite == all => Some("is NaN or infinite everywhere".into()),
            (nan, _) => Some(format!("is NaN in {nan} of {all} elements")),
        }
    }
}

impl Results {
    /// Adds the results of a call. They are only counted unless `keep`.
    pub(super) fn push(&mut self, outputs: &Tensors, keep: bool) -> ane_runtime::Result<()> {
        for (name, tensor) in outputs.iter() {
            self.non_finite.entry(name.to_owned()).or_default().add(tensor.data());
        }
        if keep { self.stacked.push(outputs) } else { Ok(()) }
    }

    /// Returns the size of the results that are kept, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.stacked.bytes()
    }
}

/// The images to write.
pub(super) struct OutImages<'f>(Vec<OutImage<'f>>);

/// An output that is written as an image.
struct OutImage<'f> {
    /// Index of the function.
    function: usize,
    output: String,
    image: ImageType,
    path: &'f Path,
}

impl<'f> OutImages<'f> {
    /// Looks up the outputs that `--out-image` names, before anything is run.
    pub(super) fn of(calls: &Calls, files: &'f [NamedFile]) -> Result<Self> {
        let mut images: Vec<OutImage<'_>> = Vec::new();
        for NamedFile { name, path } in files {
            let option = || format!("--out-image {name}");
            let (function, feature) = calls.find(Side::Output, name).with_context(option)?;
            let Some(image) = feature.image() else {
                bail!("{}: the output is {}, not an image: --out writes it", option(), feature.ty)
            };
            if let Some(steps) = calls.calls[function].steps.filter(|steps| *steps > 1) {
                bail!(
                    "{}: the function has {steps} steps, and one file holds one image: --out writes all of them",
                    option()
                )
            }
            let is_png = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
            ensure!(
                is_png,
                "{}: {} does not have the extension .png: images are written as PNG",
                option(),
                path.display()
            );
            images.push(OutImage { function, output: feature.name.clone(), image, path });
        }
        Ok(Self(images))
    }

    fn has(&self, function: usize, output: &str) -> bool {
        self.0.iter().any(|image| image.function == function && image.output == output)
    }

    /// Writes each of them, from the function's last outputs.
    pub(super) fn write(&self, last: &[Tensors]) -> Result<()> {
        for OutImage { function, output, image, path } in &self.0 {
            let option = || format!("--out-image {output}");
            let tensor = last.get(*function).and_then(|tensors| tensors.get(output));
            let tensor = tensor.with_context(|| format!("{}: the function has no such output", option()))?;
            let written = image_file::write(path, image, tensor).with_context(option)?;
            for note in written.notes {
                output::tell(&format!("note: {}: {note}", path.display()));
            }
        }
        Ok(())
    }
}

/// Writes all results of all functions as safetensors.
pub(super) fn write(calls: &Calls, results: &[Results], images: &OutImages<'_>, out: &Path) -> Result<()> {
    let mut tensors = Vec::new();
    for (index, (call, results)) in calls.calls.iter().zip(results).enumerate() {
        for (name, dtype, shape, bytes) in results.stacked.tensors(call.steps.is_some()) {
            tensors.push((calls.full_name(call, name), dtype, shape, bytes));
        }
        for feature in call.interface.outputs.iter().filter(|f| f.image().is_some()) {
            let name = calls.full_name(call, &feature.name);
            let way = match images.has(index, &feature.name) {
                true => String::new(),
                false => format!("; --out-image {name}=FILE.png writes the image"),
            };
            output::tell(&format!(
                "note: output {name} is {}: {} has its values as they are, unclamped{way}",
                feature.ty,
                out.display()
            ));
        }
    }
    let tensors =
        tensors.iter().map(|(name, dtype, shape, bytes)| (name.as_str(), *dtype, shape.clone(), *bytes));
    Ok(tensor_file::write(out, tensors)?)
}

/// Whether a run searched for hazards, which decides the advice for NaN or infinite results.
#[derive(Clone, Copy)]
pub(super) enum HazardSearch {
    /// It found some and prints them.
    Found,
    /// It found none.
    FoundNone,
    /// It did not search.
    NotRequested,
    /// The engine cannot search.
    Impossible,
}

/// Reports on standard error which results are NaN or infinite, and how to find the cause.
pub(super) fn tell_faults(calls: &Calls, results: &[Results], inputs: &[Vec<String>], search: HazardSearch) {
    let mut any = false;
    for (call, results) in calls.calls.iter().zip(results) {
        for (name, non_finite) in &results.non_finite {
            if let Some(fault) = non_finite.fault() {
                any = true;
                output::tell(&format!("warning: output {} {fault}", calls.full_name(call, name)));
            }
        }
    }
    if !any {
        return;
    }
    let given: Vec<String> =
        calls.calls.iter().zip(inputs).flat_map(|(call, inputs)| names(calls, call, inputs)).collect();
    if !given.is_empty() {
        output::tell(&format!("note: {} had NaN or infinite elements already", given.join(", ")));
    }
    match search {
        HazardSearch::Found => {}
        HazardSearch::FoundNone => output::tell(
            "note: no operation made them from finite operands: they come from the inputs, a state or the weights",
        ),
        HazardSearch::NotRequested => output::tell(
            "note: to find the first operation that made them, add --hazards, with --numerics f16 for what fp16 cannot hold",
        ),
        HazardSearch::Impossible => output::tell(
            "note: to find the first operation that made them, run it with --engine mil-cpu --hazards --numerics f16",
        ),
    }
}

fn names(calls: &Calls, call: &Call, inputs: &[String]) -> Vec<String> {
    inputs.iter().map(|name| format!("input {}", calls.full_name(call, name))).collect()
}

/// Returns whether a tensor has a NaN or infinite element.
pub(super) fn has_faults(data: &Data) -> bool {
    matches!(data, Data::F32(values) if values.iter().any(|v| !v.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_described_by_their_extent() {
        let fault = |values: &[f32]| {
            let mut non_finite = NonFinite::default();
            non_finite.add(&Data::F32(values.to_vec()));
            non_finite.fault()
        };
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert_eq!(fault(&[]), None);
        assert_eq!(fault(&[1.0, 0.0]), None);
        assert_eq!(fault(&[1.0, -inf]), None);
        assert_eq!(fault(&[nan, nan]).as_deref(), Some("is NaN everywhere"));
        assert_eq!(fault(&[nan]).as_deref(), Some("is NaN"));
        assert_eq!(fault(&[inf, -inf]).as_deref(), Some("is infinite everywhere"));
        assert_eq!(fault(&[inf, nan]).as_deref(), Some("is NaN or infinite everywhere"));
        assert_eq!(fault(&[1.0, nan, inf]).as_deref(), Some("is NaN in 1 of 3 elements"));
    }
}
