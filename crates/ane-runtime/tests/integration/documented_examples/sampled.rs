//! Operations that sample images: grids, and values outside the image.

use super::*;

/// A row of two pixels, 0 and 1: the value of a sampled point is its position.
const RAMP: Input<'static> = ("x", &[1, 1, 1, 2], F(&[0.0, 1.0]));

/// The grid points of `upsample_bilinear` for 5 and 6 pixels.
#[test]
fn grids_of_upsampling() {
    let up = |factor: f32, more: &[(&str, Value)], opsets: &[Opset], expected: &[f32]| {
        let mut constants =
            vec![("scale_factor_width", Value::fp32(factor)), ("scale_factor_height", Value::fp32(1.0))];
        constants.extend_from_slice(more);
        gives(opsets, "upsample_bilinear", &[RAMP], &constants, &[(&[1, 1, 1, expected.len()], expected)]);
    };
    let align = |align: bool| ("align_corners", yes(align));
    up(2.5, &[align(false)], ALL, &[0.0, 0.1, 0.5, 0.9, 1.0]);
    up(2.5, &[align(true)], ALL, &[0.0, 0.25, 0.5, 0.75, 1.0]);
    let third = 1.0 / 3.0;
    up(3.0, &[align(false)], ALL, &[0.0, 0.0, third, 2.0 * third, 1.0, 1.0]);
    up(3.0, &[], ALL, &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    // "Defaults to !align_corners if not provided"; with both false, the grid begins at the first pixel.
    let half = |half: bool| ("half_pixel_centers", yes(half));
    up(2.5, &[align(false), half(true)], SINCE_IOS16, &[0.0, 0.1, 0.5, 0.9, 1.0]);
    up(2.5, &[align(false), half(false)], SINCE_IOS16, &[0.0, 0.4, 0.8, 1.0, 1.0]);
    let x = [("x", &[1, 1, 1, 3][..], F(&[1.5, -2.5, 3.5]))];
    let nearest = [("scale_factor_width", Value::int(2)), ("scale_factor_height", Value::int(1))];
    let doubled = [1.5, 1.5, -2.5, -2.5, 3.5, 3.5];
    gives(ALL, "upsample_nearest_neighbor", &x, &nearest, &[(&[1, 1, 1, 6], &doubled)]);
    // Each pixel must repeat exactly 41 times, although 41 * (1 / 41) is below 1 in fp32.
    let nearest = [("scale_factor_width", Value::int(41)), ("scale_factor_height", Value::int(1))];
    let wide: Vec<f32> = [0.0f32, 1.0].iter().flat_map(|v| [*v; 41]).collect();
    gives(ALL, "upsample_nearest_neighbor", &[RAMP], &nearest, &[(&[1, 1, 1, 82], &wide)]);
}

/// The grid points of `resize_bilinear` and `resize`, which are the same.
#[test]
fn grids_of_resizing() {
    let third = 1.0 / 3.0;
    let grids: [(&str, &[f32]); 10] = [
        ("UNALIGN_CORNERS", &[0.0, 0.1, 0.5, 0.9, 1.0]),
        ("STRICT_ALIGN_CORNERS", &[0.0, 0.25, 0.5, 0.75, 1.0]),
        ("ALIGN_CORNERS", &[0.0, 0.25, 0.5, 0.75, 1.0]),
        ("DEFAULT", &[0.0, 0.4, 0.8, 1.0, 1.0]),
        ("OFFSET_CORNERS", &[0.1, 0.3, 0.5, 0.7, 0.9]),
        ("UNALIGN_CORNERS", &[0.0, 0.0, third, 2.0 * third, 1.0, 1.0]),
        ("STRICT_ALIGN_CORNERS", &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ("DEFAULT", &[0.0, third, 2.0 * third, 1.0, 1.0, 1.0]),
        // "Same as STRICT_ALIGN_CORNERS unless Xout=1, in which case grid_point[0] = (Xin-1) / 2".
        ("ALIGN_CORNERS", &[0.5]),
        ("STRICT_ALIGN_CORNERS", &[0.0]),
    ];
    for (mode, expected) in grids {
        let width = expected.len();
        let sizes = [
            ("target_size_height", Value::int(1)),
            ("target_size_width", Value::int(width as i32)),
            ("sampling_mode", text(mode)),
        ];
        gives(ALL, "resize_bilinear", &[RAMP], &sizes, &[(&[1, 1, 1, width], expected)]);
        let sizes = [
            ("shape", ints(&[0, width as i32])),
            ("resized_dims", bytes(Uint32, &[], &2u32.to_le_bytes())),
            ("sampling_mode", text(mode)),
        ];
        gives(SINCE_IOS17, "resize", &[RAMP], &sizes, &[(&[1, 1, 1, width], expected)]);
    }
    // "Target spatial size" is 1 by default.
    gives(ALL, "resize_bilinear", &[RAMP], &[], &[(&[1, 1, 1, 1], &[0.0])]);
    let nearest = [("target_size_height", Value::int(2)), ("target_size_width", Value::int(4))];
    let expected = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
    gives(ALL, "resize_nearest_neighbor", &[RAMP], &nearest, &[(&[1, 1, 2, 4], &expected)]);
    // Takes the element that contains the center of the output pixel, also for `resize`: two become three as
    // 0, 1, 1.
    let three = [("target_size_height", Value::int(1)), ("target_size_width", Value::int(3))];
    gives(ALL, "resize_nearest_neighbor", &[RAMP], &three, &[(&[1, 1, 1, 3], &[0.0, 1.0, 1.0])]);
    let three = [
        ("shape", ints(&[1, 3])),
        ("resized_dims", bytes(Uint32, &[], &2u32.to_le_bytes())),
        ("interpolation_mode", text("NEAREST_NEIGHBOR")),
    ];
    gives(SINCE_IOS17, "resize", &[RAMP], &three, &[(&[1, 1, 1, 3], &[0.0, 1.0, 1.0])]);
    let up = [("scale_factor_width", Value::fp32(1.5)), ("scale_factor_height", Value::fp32(1.0))];
    gives(ALL, "upsample_nearest_neighbor", &[RAMP], &up, &[(&[1, 1, 1, 3], &[0.0, 0.0, 1.0])]);
    let crop = [("crop_height", ints(&[0, 1])), ("crop_width", ints(&[1, 0]))];
    let image = [("x", &[1, 2, 2][..], F(&[1.0, 2.0, 3.0, 4.0]))];
    gives(ALL, "crop", &image, &crop, &[(&[1, 1, 1], &[2.0])]);
}

/// The pixels `|1, 2, 3|` and the values around them in each padding mode.
#[test]
fn what_stands_outside_of_an_image() {
    let pixels = ("x", &[1, 1, 1, 3][..], F(&[1.0, 2.0, 3.0]));
    let at: Vec<f32> = (-3..6).flat_map(|x| [x as f32, 0.0]).collect();
    let coordinates = ("coordinates", &[1, 1, 9, 2][..], F(&at));
    let modes = [
        ("constant", [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0]),
        ("border", [1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0]),
        ("reflection", [2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0]),
        ("symmetric", [3.0, 2.0, 1.0, 1.0, 2.0, 3.0, 3.0, 2.0, 1.0]),
    ];
    let how = |mode: &str, sampling: &str, coordinates: &str, align: bool| {
        [
            ("padding_mode", text(mode)),
            ("sampling_mode", text(sampling)),
            ("coordinates_mode", text(coordinates)),
            ("padding_value", Value::fp32(0.0)),
            ("align_corners", yes(align)),
        ]
    };
    for (mode, expected) in modes {
        for sampling in ["nearest", "bilinear"] {
            // The alignment of corners only affects normalized coordinates.
            for align in [true, false] {
                let how = how(mode, sampling, "unnormalized", align);
                gives(ALL, "resample", &[pixels, coordinates], &how, &[(&[1, 1, 1, 9], &expected)]);
            }
        }
    }
    // "Coordinates are provided in the order (x, y)": the corners of [[1, 2], [3, 4]].
    let image = ("x", &[1, 1, 2, 2][..], F(&[1.0, 2.0, 3.0, 4.0]));
    let corners = |low: f32, high: f32| [low, low, high, low, low, high, high, high];
    for (mode, low) in [("normalized_minus_one_to_one", -1.0), ("normalized_zero_to_one", 0.0)] {
        let coordinates = corners(low, 1.0);
        let coordinates = ("coordinates", &[1, 1, 4, 2][..], F(&coordinates));
        let aligned = how("border", "bilinear", mode, true);
        gives(ALL, "resample", &[image, coordinates], &aligned, &[(&[1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0])]);
    }
    // "If align_corners == False, the extrema coordinates correspond to the edge": the center of the pixel is
    // at 1/4.
    let quarters = corners(0.25, 0.75);
    let quarters = ("coordinates", &[1, 1, 4, 2][..], F(&quarters));
    let edges = how("constant", "bilinear", "normalized_zero_to_one", false);
    gives(ALL, "resample", &[image, quarters], &edges, &[(&[1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0])]);
}
