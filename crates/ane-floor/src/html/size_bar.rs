//! The compiled size against the floor and the ceilings, on a logarithmic scale.

use maud::{Markup, html};

use crate::laws::{FLOOR_BYTES, PACKAGE_BYTES, PROGRAM_BYTES, megabytes};

const WIDTH: f64 = 800.0;
const LEFT: f64 = 20.0;
/// From 1 kB to 10 GB.
const DECADES: (f64, f64) = (3.0, 10.0);

fn x(bytes: u64) -> f64 {
    let decade = (bytes.max(1) as f64).log10().clamp(DECADES.0, DECADES.1);
    LEFT + (decade - DECADES.0) / (DECADES.1 - DECADES.0) * (WIDTH - 2.0 * LEFT)
}

/// Draws the bar: `int8` is compared with the floor, `stored` with the ceilings.
pub(super) fn draw(int8: u64, stored: u64) -> Markup {
    let limits = [
        (FLOOR_BYTES, "floor, 14 MB in INT8", 26.0),
        (PACKAGE_BYTES, "250 MB, contradicted", 26.0),
        (PROGRAM_BYTES, "ceiling, 2.15 GB", 44.0),
    ];
    html! {
        svg.size viewBox=(format!("0 0 {WIDTH} 130")) role="img"
            aria-label=(format!("{} in INT8, {} as stored; the floor is at {}", megabytes(int8), megabytes(stored), megabytes(FLOOR_BYTES))) {
            rect.track x=(LEFT) y="60" width=(WIDTH - 2.0 * LEFT) height="10" rx="5" {}
            @for (bytes, label, y) in limits {
                line x1=(format!("{:.1}", x(bytes))) x2=(format!("{:.1}", x(bytes))) y1=(y + 4.0) y2="76" {}
                text x=(format!("{:.1}", x(bytes))) y=(y) text-anchor="middle" { (label) }
            }
            @for (i, decade) in ["1 kB", "10 kB", "100 kB", "1 MB", "10 MB", "100 MB", "1 GB", "10 GB"].iter().enumerate() {
                @let at = LEFT + i as f64 / 7.0 * (WIDTH - 2.0 * LEFT);
                text x=(format!("{at:.1}")) y="92" text-anchor=(match i { 0 => "start", 7 => "end", _ => "middle" }) { (decade) }
            }
            circle.mark cx=(format!("{:.1}", x(int8))) cy="65" r="9" { title { (megabytes(int8)) " in INT8" } }
            text x=(format!("{:.1}", x(int8).clamp(110.0, WIDTH - 150.0))) y="118" text-anchor="middle" {
                tspan font-weight="700" { (megabytes(int8)) } " in INT8, " (megabytes(stored)) " as stored"
            }
        }
    }
}
