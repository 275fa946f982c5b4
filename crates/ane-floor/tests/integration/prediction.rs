//! Verdicts on packages that are built for these tests.

use std::path::Path;

use ane_floor::laws::FLOOR_BYTES;
use ane_floor::{
    Basis, Count, Device, PlacementFindingKind, PlacementReport, Suggestion, Verdict, regressions,
};
use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Opset, Program, TensorType, Value};
use mlpackage::{DType, Metadata, Package, PackageWriter};

fn package(path: &Path, build: impl FnOnce(&mut FunctionBuilder<'_>) -> mlpackage::Result<()>) -> Package {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
    Package::open(path).unwrap()
}

fn predicted(build: impl FnOnce(&mut FunctionBuilder<'_>) -> mlpackage::Result<()>) -> PlacementReport {
    let dir = tempfile::tempdir().unwrap();
    PlacementReport::predict(&package(&dir.path().join("p.mlpackage"), build), None).unwrap()
}

/// Builds a 1x1 convolution of `outputs` channels over 1,024, and a relu.
fn conv(f: &mut FunctionBuilder<'_>, dtype: DType, outputs: usize) -> mlpackage::Result<()> {
    let x = f.input("x", dtype, [1, 1_024, 1, 1])?;
    let ty = TensorType::new(dtype, [outputs, 1_024, 1, 1]);
    let bytes = if dtype == DType::Fp32 { 4 } else { 2 };
    let weight = f.weight("w", ty, &vec![0; outputs * 1_024 * bytes])?;
    let y = f.op("conv", "y").arg("x", &x).arg("weight", &weight).one()?;
    let y = f.op("relu", "z").arg("x", &y).one()?;
    f.output(&y);
    Ok(())
}

/// 14,000,000 / 1,024 = 13,671.9 channels; the text of so small a program is about 2 kB, the descriptions 4 kB.
#[test]
fn the_floor_divides_at_14_mb_of_int8() {
    let below = predicted(|f| conv(f, DType::Fp16, 13_660));
    assert!(below.compiled.int8_equivalent() < FLOOR_BYTES, "{:?}", below.compiled);
    assert_eq!((below.verdict, below.pass), (Verdict::Cpu, false));
    assert_eq!(below.residency.conv_ane, Count { ane: 0, total: 1 });
    assert_eq!(below.residency.compute_ane, Count { ane: 0, total: 2 });
    assert!(below.operations.iter().all(|o| o.device == Device::Cpu));

    let above = predicted(|f| conv(f, DType::Fp16, 13_680));
    assert!(above.compiled.int8_equivalent() >= FLOOR_BYTES, "{:?}", above.compiled);
    assert_eq!((above.verdict, above.pass), (Verdict::Ane, true));
    assert_eq!(above.residency.conv_ane, Count { ane: 1, total: 1 });
    assert_eq!(above.residency.compute_ane, Count { ane: 2, total: 2 });
    for report in [&below, &above] {
        assert_eq!(report.basis, Basis::Predicted);
        let text = report.to_string();
        assert!(text.contains("(predicted)") && !text.contains("measured"), "{text}");
        // Near the floor, and stored in fp16: the report states that it is less certain.
        assert!(text.contains("within 20 %") && text.contains("stored wider than INT8"), "{text}");
    }
}

/// The reported size is the sum of its parts.
#[test]
fn compiled_size_adds_up() {
    let report = predicted(|f| conv(f, DType::Fp16, 512));
    // 512 * 1,024 fp16 weights in a blob: 64 bytes of file header, 64 of its metadata.
    assert_eq!(report.compiled.weights, 512 * 1_024 * 2 + 128);
    assert_eq!(report.compiled.weight_elements, 512 * 1_024);
    assert_eq!(report.compiled_bytes, report.compiled.weights + report.compiled.program + 4_000);
}

#[test]
fn fp32_is_never_placed_whatever_its_size() {
    let report = predicted(|f| conv(f, DType::Fp32, 16_384));
    assert!(report.compiled.int8_equivalent() > FLOOR_BYTES);
    assert_eq!(report.verdict, Verdict::Cpu);
    assert_eq!(report.functions[0].rule, "element-type");
    // The suggested edit is to compute in fp16, and its prediction is checked.
    assert_eq!(report.changes.len(), 1);
    assert_eq!(report.changes[0].edits, [Suggestion::ComputeInFp16]);
    assert_eq!((report.changes[0].predicted, report.changes[0].rule.as_str()), (Verdict::Ane, "floor"));
}

#[test]
fn a_program_without_convolutions_is_outside_the_floor() {
    let report = predicted(|f| {
        let x = f.input("x", DType::Fp16, [1, 8])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    assert_eq!((report.verdict, report.pass), (Verdict::Cpu, false));
    assert_eq!(report.residency.conv_ane, Count { ane: 0, total: 0 });
    assert_eq!(report.functions[0].rule, "anchor-and-work");
    assert!(report.functions[0].opinions.iter().all(|o| o.law != "floor"));
    assert!(
        report.functions[0].reason.contains("its terms (all zero) sum to no more"),
        "{}",
        report.functions[0].reason
    );
}

/// Builds two convolutions above the floor, with an argmax and a gather between them: a CPU island.
fn with_island(f: &mut FunctionBuilder<'_>) -> mlpackage::Result<()> {
    let x = f.input("x", DType::Fp16, [1, 1_024, 1, 1])?;
    let ty = |o: usize, i: usize| TensorType::new(DType::Fp16, [o, i, 1, 1]);
    let up = f.weight("up", ty(8_192, 1_024), &vec![0; 8_192 * 1_024 * 2])?;
    let down = f.weight("down", ty(1_024, 8_192), &vec![0; 8_192 * 1_024 * 2])?;
    let h = f.op("conv", "h").arg("x", &x).arg("weight", &up).one()?;
    let place = f.op("reduce_argmax", "place").arg("x", &h).value("axis", Value::int(1)).one()?;
    let picked =
        f.op("gather", "picked").arg("x", &h).arg("indices", &place).value("axis", Value::int(2)).one()?;
    let picked =
        f.op("reshape", "flat").arg("x", &picked).value("shape", Value::ints([4], [1, 8_192, 1, 1])).one()?;
    let y = f.op("conv", "y").arg("x", &picked).arg("weight", &down).one()?;
    let y = f.op("relu", "z").arg("x", &y).one()?;
    f.output(&y);
    Ok(())
}

#[test]
fn a_cpu_island_between_two_regions_is_found() {
    let report = predicted(with_island);
    let device = |name: &str| report.operations.iter().find(|o| o.name == name).unwrap();
    assert_eq!(report.verdict, Verdict::Mixed);
    assert_eq!(report.residency.conv_ane, Count { ane: 2, total: 2 });
    assert_eq!((device("place").device, device("place").rule.as_str()), (Device::Cpu, "element-type"));
    assert_eq!((device("picked").device, device("picked").rule.as_str()), (Device::Cpu, "never-placed"));
    assert_eq!((device("h").device, device("z").device), (Device::Ane, Device::Ane));
    let island = report.findings.iter().find(|f| f.kind == PlacementFindingKind::Island).expect("an island");
    let names: Vec<&str> = island.operations.iter().map(|&i| report.operations[i].name.as_str()).collect();
    // Indices of rank 4 result in a tensor of rank 7, which the engine does not accept.
    assert_eq!(names, ["place", "picked", "flat"]);
    assert_eq!(device("flat").rule, "shapes");
    assert!(island.text.contains("gather, reduce_argmax, reshape"), "{}", island.text);
    // Islands with the same text are printed once.
    let mut twice = report.clone();
    twice.findings.push(island.clone());
    let text = twice.to_string();
    assert_eq!(text.matches("  island: ").count(), 1, "{text}");
    assert!(text.contains("over and back (2 such islands)"), "{text}");
    // Regions in order of execution: the first convolution, the island, the rest.
    assert_eq!((device("h").region, device("place").region, device("z").region), (0, 1, 2));
    // The island is in the middle, so the host cannot take it over.
    assert!(report.changes.is_empty(), "{:?}", report.changes);
    assert!(report.cost_ane > 0.99 && report.cost_ane < 1.0, "{}", report.cost_ane);
}

/// An argmax at the end can be left to the host; then everything else is placed.
#[test]
fn operations_at_the_end_are_left_to_the_host() {
    let report = predicted(|f| {
        let x = f.input("x", DType::Fp16, [1, 1_024, 1, 1])?;
        let weight =
            f.weight("w", TensorType::new(DType::Fp16, [16_384, 1_024, 1, 1]), &vec![0; 16_384 * 1_024 * 2])?;
        let y = f.op("conv", "y").arg("x", &x).arg("weight", &weight).one()?;
        let token = f.op("reduce_argmax", "token").arg("x", &y).value("axis", Value::int(1)).one()?;
        f.output(&token);
        Ok(())
    });
    assert_eq!(report.verdict, Verdict::Mixed);
    assert_eq!(report.changes[0].edits, [Suggestion::LeaveToHost]);
    assert_eq!(report.changes[0].predicted, Verdict::Ane);
    assert!(!report.findings.iter().any(|f| f.kind == PlacementFindingKind::Island));
}

/// MIL's default epsilon of 1e-12 for rsqrt is 0 in fp16; after a sum with its own epsilon it does no harm.
#[test]
fn an_epsilon_that_vanishes_is_a_hazard() {
    let hazards = |eps: f32| {
        let report = predicted(|f| {
            let x = f.input("x", DType::Fp16, [1, 64, 1, 1])?;
            let sum = f.op("add", "sum").arg("x", &x).value("y", Value::fp16(eps)).one()?;
            let y = f.op("rsqrt", "y").arg("x", &sum).one()?;
            f.output(&y);
            Ok(())
        });
        report.findings.into_iter().filter(|f| f.text.contains("epsilon")).count()
    };
    assert_eq!((hazards(1e-5), hazards(1e-9)), (0, 1));
}

#[test]
fn what_is_worse_than_the_baseline_is_named() {
    let (good, island) = (predicted(|f| conv(f, DType::Fp16, 13_680)), predicted(with_island));
    let alike = |a: &PlacementReport, b: &PlacementReport| {
        regressions(std::slice::from_ref(a), std::slice::from_ref(b))
    };
    assert_eq!(alike(&good, &good), [""; 0]);
    assert_eq!(alike(&island, &island), [""; 0]);
    let small = predicted(|f| conv(f, DType::Fp16, 512));
    let worse = alike(&good, &small).join("\n");
    for part in
        ["the verdict was ANE, and is CPU", "conv_ane was 1/1, and is 0/1", "compute_ane was 2/2, and is 0/2"]
    {
        assert!(worse.contains(part), "{part}\n{worse}");
    }
    assert!(worse.contains("no longer on the ANE by floor: y, z"), "{worse}");
    assert_eq!(alike(&small, &good), [""; 0], "better is not worse");
    assert!(alike(&good, &island).join("\n").contains("the verdict was ANE, and is mixed"));
}

/// A report survives the round trip through JSON, and an inconsistent one is refused. `conformance/reports.py` compares
/// reports with their schema.
#[test]
fn reports_survive_json() {
    for report in [predicted(with_island), predicted(|f| conv(f, DType::Fp32, 64))] {
        let json = serde_json::to_value(&report).unwrap();
        let read: PlacementReport = serde_json::from_value(json.clone()).unwrap();
        read.check().unwrap();
        assert_eq!(read, report);
        let mut wrong = json.clone();
        wrong["operations"][0]["device"] = "tpu".into();
        assert!(serde_json::from_value::<PlacementReport>(wrong).is_err());
        let mut wrong: PlacementReport = serde_json::from_value(json).unwrap();
        wrong.operations[0].sources = vec![7];
        assert!(wrong.check().unwrap_err().to_string().contains("not before it"));
    }
}

/// Two halves: 3,300 operations do not compile, 1,650 do, and are above the floor.
#[test]
fn a_program_above_the_ceiling_is_to_be_split() {
    let report = predicted(|f| {
        let x = f.input("x", DType::Fp16, [1, 1_024, 1, 1])?;
        let weight = |f: &mut FunctionBuilder<'_>, name: &str| {
            f.weight(name, TensorType::new(DType::Fp16, [1_024, 1_024, 1, 1]), &vec![0; 1_024 * 1_024 * 2])
        };
        let mut y = x;
        for i in 0..33 {
            let w = weight(f, &format!("w{i}"))?;
            y = f.op("conv", &format!("c{i}")).arg("x", &y).arg("weight", &w).one()?;
            for j in 0..99 {
                y = f.op("relu", &format!("r{i}_{j}")).arg("x", &y).one()?;
            }
        }
        f.output(&y);
        Ok(())
    });
    assert_eq!((report.verdict, report.functions[0].rule.as_str()), (Verdict::Error, "operation-ceiling"));
    assert_eq!(report.changes[0].edits, [Suggestion::SplitInto(2)]);
    assert_eq!((report.changes[0].predicted, report.changes[0].rule.as_str()), (Verdict::Ane, "floor"));
    // Each part has half of 33 weights of 1 MB, and half of the text.
    assert!(report.changes[0].reason.starts_with("each part: 17."), "{}", report.changes[0].reason);
}

/// The floor was right more often where the fitted law agrees with it, and confidence reflects that.
#[test]
fn confidence_follows_the_record() {
    let sure = predicted(|f| conv(f, DType::Fp16, 16_384)).confidence;
    // 4 MB: above the threshold of the fitted law, below the floor, like the attention shards that were
    // placed.
    let unsure = predicted(|f| conv(f, DType::Fp16, 4_096));
    assert_eq!(unsure.verdict, Verdict::Cpu);
    assert!(sure > 0.55 && unsure.confidence < 0.45, "{sure} {}", unsure.confidence);
    assert!(
        unsure
            .findings
            .iter()
            .any(|f| f.kind == PlacementFindingKind::Disagreement
                && f.text.contains("anchor-and-work says ANE"))
    );
}

/// Each inconsistency of a report is rejected by name.
#[test]
fn reports_that_contradict_themselves_are_refused() {
    let sound = serde_json::to_value(predicted(with_island)).unwrap();
    let refused = |path: &str, value: serde_json::Value| {
        let mut wrong = sound.clone();
        *wrong.pointer_mut(path).unwrap() = value;
        let report: PlacementReport = serde_json::from_value(wrong).unwrap();
        report.check().unwrap_err().to_string()
    };
    assert!(refused("/report_version", 2.into()).contains("version 2"));
    assert!(refused("/confidence", 5.into()).contains("confidence is 5e0"));
    assert!(refused("/operations/0/cost", (-1).into()).contains("cost of operation h is -1e0"));
    assert!(refused("/operations/0/region", 9.into()).contains("region 9 of 6 operations"));
    assert!(refused("/operations/0/function", "other".into()).contains("function \"other\""));
    assert!(refused("/operations/0/device", "cpu".into()).contains("conv_ane=1/2"));
    assert!(refused("/verdict", "ane".into()).contains("verdict mixed"));
    assert!(refused("/pass", true.into()).contains("pass false"));
    assert!(refused("/package", "\u{1b}[2J".into()).contains("control character"));
    assert!(refused("/findings/0/operations/0", 99.into()).contains("operation 99 of 6"));
}
