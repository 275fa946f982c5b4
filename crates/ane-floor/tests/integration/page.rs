//! The page of a report: its contents, the escaping of untrusted text, and how a browser shows it.
//!
//! The browser is `chromium` in PATH, or the program in the variable CHROMIUM, which must exist if it is set.
//! Without a browser, only the text of the page is tested.

use std::path::Path;
use std::process::Command;

use ane_floor::{Basis, Device, PlacementReport, html};
use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Opset, Program, TensorType};
use mlpackage::{DType, Metadata, Package, PackageWriter};

/// Predicts a package of the given name with a convolution above the floor, and a gather that stays off.
fn report(name: &str) -> PlacementReport {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let x = f.input("x", DType::Fp16, [1, 1_024, 1, 1]).unwrap();
    let at = f.input("at", DType::Int32, [1]).unwrap();
    let ty = TensorType::new(DType::Fp16, [16_384, 1_024, 1, 1]);
    let weight = f.weight("w", ty, &vec![0; 16_384 * 1_024 * 2]).unwrap();
    let y = f.op("conv", "wide").arg("x", &x).arg("weight", &weight).one().unwrap();
    let picked = f.op("gather", "picked").arg("x", &y).arg("indices", &at).one().unwrap();
    f.output(&picked);
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
    PlacementReport::predict(&Package::open(&path).unwrap(), None).unwrap()
}

/// Returns the prediction as if it had been measured, with the convolution on the CPU.
fn otherwise(report: &PlacementReport) -> PlacementReport {
    let mut other = report.clone();
    other.basis = Basis::Measured;
    other.operations[0].device = Device::Cpu;
    other
}

#[test]
fn the_page_says_what_the_report_says_and_needs_nothing_else() {
    let report = report("p.mlpackage");
    let page = html::page(std::slice::from_ref(&report), &[otherwise(&report)]);
    for part in [
        "p.mlpackage",
        "conv_ane",
        "1/1",
        "1/2",
        "never-placed",
        "Nearest against",
        "1 of 2 operations differ",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Every operation is drawn with its reason.
    assert_eq!(page.matches("class=\"node ").count(), report.operations.len());
    for operation in &report.operations {
        assert!(page.contains(&format!("{} by {}: {}", operation.device, operation.rule, operation.reason)));
    }
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}: the page works offline");
    }
}

/// Names in a report are untrusted.
#[test]
fn nothing_that_a_report_says_becomes_markup() {
    let mut report = report("p.mlpackage");
    let hostile = "</title></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'";
    report.package = hostile.to_owned();
    report.operations[0].name = hostile.to_owned();
    report.operations[1].reason = hostile.to_owned();
    report.functions[0].reason = hostile.to_owned();
    let page = html::page(&[report], &[]);
    assert_eq!(page.matches("<script>").count(), 1);
    assert!(!page.contains("<img") && !page.contains("alert(1)</script>"));
}

/// Returns the browser, if there is one.
fn chromium() -> Option<String> {
    if let Ok(named) = std::env::var("CHROMIUM") {
        return Some(named);
    }
    let found = std::env::var_os("PATH")?;
    let paths = std::env::split_paths(&found).map(|dir| dir.join("chromium"));
    paths.into_iter().find(|path| path.is_file()).map(|path| path.display().to_string())
}

/// A script that inspects the page in the browser. Everything must be within 360 pixels, except elements that
/// scroll.
const QUESTIONS: &str = r#"<script>
const answers = {};
const style = (selector) => getComputedStyle(document.querySelector(selector));
answers.verdict = document.querySelector('.verdict').textContent;
answers.nodes = document.querySelectorAll('.node').length;
answers.aneColor = style('.node.ane rect').fill;
answers.cpuColor = style('.node.cpu rect').fill;
answers.background = style('body').backgroundColor;
document.querySelector('.node.cpu').dispatchEvent(new MouseEvent('click', { bubbles: true }));
answers.picked = document.getElementById('picked').textContent;
const input = document.querySelector('input[data-filter]');
input.value = 'GATHER';
input.dispatchEvent(new Event('input'));
answers.rows = [...input.parentElement.querySelectorAll('tbody tr')].filter((row) => !row.hidden).length;
answers.differs = document.querySelectorAll('tr.differs').length;
document.documentElement.style.width = '360px';
answers.outside = [...document.querySelectorAll('body *')].filter((element) =>
  !element.closest('.scroll, .wide, script') && element.getBoundingClientRect().right > 360).map((e) => e.outerHTML.slice(0, 60));
document.body.innerHTML = '';
document.body.append(Object.assign(document.createElement('pre'), { id: 'answers', textContent: JSON.stringify(answers) }));
</script>"#;

fn ask(browser: &str, page: &Path, dark: bool) -> serde_json::Value {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]);
    command.args([
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        "--timeout=20000",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    if dark {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    let ran = command.arg(format!("file://{}", page.display())).output();
    let ran = ran.unwrap_or_else(|e| panic!("{browser}: {e}"));
    let dom = String::from_utf8_lossy(&ran.stdout).into_owned();
    let answers = dom.split_once("<pre id=\"answers\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (answers, _) =
        answers.unwrap_or_else(|| panic!("no answers: {dom}\n{}", String::from_utf8_lossy(&ran.stderr)));
    let answers = answers.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&answers).unwrap_or_else(|e| panic!("{e}: {answers}"))
}

#[test]
fn a_browser_shows_it_in_light_and_dark_and_on_a_phone() {
    let Some(browser) = chromium() else {
        eprintln!("no chromium in PATH: the page was not shown to a browser");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("page.html");
    let report = report("p.mlpackage");
    let page = html::page(std::slice::from_ref(&report), &[otherwise(&report)]);
    std::fs::write(&path, page.replace("</body>", &format!("{QUESTIONS}</body>"))).unwrap();
    let (light, dark) = (ask(&browser, &path, false), ask(&browser, &path, true));
    for answers in [&light, &dark] {
        assert_eq!(answers["verdict"], "mixed");
        assert_eq!(answers["nodes"], 2);
        assert_ne!(answers["aneColor"], answers["cpuColor"]);
        let picked = answers["picked"].as_str().unwrap();
        assert!(
            picked.contains("gather picked")
                && picked.contains("CPU by never-placed: it picks elements by index"),
            "{picked}"
        );
        assert_eq!(answers["rows"], 1, "the table is narrowed to the gather");
        assert_eq!(answers["differs"], 1);
        assert_eq!(answers["outside"], serde_json::json!([]));
    }
    // Colours of the style sheet: #f6f7f9 and #101317, #0b7f73 and #2bb8a6.
    assert_eq!(
        (&light["background"], &light["aneColor"]),
        (&"rgb(246, 247, 249)".into(), &"rgb(11, 127, 115)".into())
    );
    assert_eq!(
        (&dark["background"], &dark["aneColor"]),
        (&"rgb(16, 19, 23)".into(), &"rgb(43, 184, 166)".into())
    );
}
