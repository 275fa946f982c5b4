//! Segments of JPEG files.

/// What the segments of a JPEG file say about it.
pub(super) struct JpegSegments {
    /// Number of components, from the frame header.
    pub(super) components: Option<u8>,
    /// Whether a marker ends the image, after its pixels.
    pub(super) are_complete: bool,
}

impl JpegSegments {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut found = Self { components: None, are_complete: false };
        let (mut at, mut has_pixels) = (2, false);
        while let Some(next) = bytes.get(at..) {
            // Pixels have no 0xff but before a zero or a restart marker, which have no length.
            let Some(skipped) =
                next.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0 | 1 | 0xd0..=0xd8 | 0xff))
            else {
                return found;
            };
            at += skipped + 2;
            match bytes[at - 1] {
                0xd9 => {
                    found.are_complete = has_pixels;
                    return found;
                }
                0xda => has_pixels = true,
                // Frame headers are SOF0 to SOF15, except DHT, JPG and DAC: length, precision, height, width,
                // components.
                marker @ 0xc0..=0xcf
                    if ![0xc4, 0xc8, 0xcc].contains(&marker) && found.components.is_none() =>
                {
                    found.components = bytes.get(at + 7).copied();
                }
                _ => {}
            }
            // A segment may hold a thumbnail, which is a JPEG file of its own.
            let Some(&[high, low]) = bytes.get(at..at + 2) else { return found };
            at += usize::from(u16::from_be_bytes([high, low]));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::super::header::Header;
    use super::super::header::tests::encoded;
    use super::*;

    /// A thumbnail in an EXIF segment has its own end; it is not that of the image.
    #[test]
    fn a_jpeg_image_that_is_cut_anywhere_is_incomplete() {
        let whole = encoded(ImageFormat::Jpeg);
        let mut with_thumbnail = whole[..2].to_vec();
        with_thumbnail.extend(b"\xff\xe1");
        with_thumbnail.extend((whole.len() as u16 + 2).to_be_bytes());
        with_thumbnail.extend(&whole);
        with_thumbnail.extend(&whole[2..]);
        for file in [&whole, &with_thumbnail] {
            assert!(JpegSegments::of(file).are_complete);
            assert_eq!(JpegSegments::of(file).components, Some(3));
            Header::read(file).unwrap().decode(&mut Vec::new()).unwrap();
            for end in 0..file.len() {
                assert!(!JpegSegments::of(&file[..end]).are_complete, "cut at {end}");
            }
            let mut padded = file.clone();
            padded.extend([0; 100]);
            assert!(JpegSegments::of(&padded).are_complete, "bytes after the end");
        }
    }
}
